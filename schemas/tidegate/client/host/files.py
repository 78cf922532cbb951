"""Small files of the kernel, read without ever raising: what is missing is None, what can't be read is
None and said.
"""

from pathlib import Path

__all__ = ["COUNT_MAX", "count_in", "text_of"]

BYTES_MAX = 1 << 20
"""`/proc/stat` of a machine with many interrupts takes tens of kilobytes; nothing here takes more."""
COUNT_MAX = 1 << 53
"""What reads the metrics takes no larger one; no count of events gets there."""
_DIGITS_MAX = 16


def text_of(path: Path, notes: list[str]) -> str | None:
    """What the file says. Where it is there and can't be read, `notes` gets the reason."""
    try:
        with path.open("rb") as file:
            return file.read(BYTES_MAX).decode(errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as problem:  # ValueError: a path of garbage, with a NUL in it
        reason = problem.strerror if isinstance(problem, OSError) else problem
        notes.append(f"{str(path)!r}: can't be read ({reason}); nothing is sent of it")
        return None


def count_in(text: str) -> int | None:
    """The whole number that this is, 0..2^53; None for anything else."""
    digits = text.strip()
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > _DIGITS_MAX:
        return None
    count = int(digits)
    return count if count <= COUNT_MAX else None
