"""The two ways a command ends badly: wrong usage (exit status 2) and failure (exit status 1)."""

__all__ = ["Failure", "UsageError"]


class UsageError(Exception):
    """The caller's arguments or configuration are wrong. Says where, what was found, what to do."""


class Failure(Exception):  # noqa: N818 - named after the exit status it stands for
    """The arguments are right and the work could not be done. Says where, what happened, what to do."""
