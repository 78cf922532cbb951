"""`tidegate alert`: sends what is on the alerts topic to the people and tools that want to know."""

from tidegate.streams.alert.command import add_parser

__all__ = ["add_parser"]
