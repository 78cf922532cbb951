"""`tidegate test`: behaviour of policies as text that operators write themselves, tried in virtual time."""

from tidegate.streams.policy_test.command import add_parser

__all__ = ["add_parser"]
