"""`tidegate demo`: the main job on a broker inside the process, with a shop, a fault and a thin client."""

from tidegate.streams.demo.command import add_parser

__all__ = ["add_parser"]
