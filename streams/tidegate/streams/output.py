"""Where a command writes: standard output, or a file that appears only when it is whole."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tidegate.streams.errors import UsageError

__all__ = ["open_output"]

_STDOUT = "-"


@contextmanager
def open_output(path: str) -> Iterator[BinaryIO]:
    """Standard output for `-`; else a file that appears under its name only when all is written.

    Raises UsageError where it can't be made. Devices and pipes are written straight.
    """
    if path == _STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(path)
    is_special = target.exists() and not target.is_file()
    partial = target if is_special else target.with_name(f"{target.name}.partial")
    try:
        out = partial.open("wb")
    except OSError as problem:
        raise UsageError(f"{path}: can't be written ({problem.strerror}); see --out") from problem
    try:
        with out:
            yield out
    except BaseException:
        if not is_special:
            partial.unlink(missing_ok=True)
        raise
    if not is_special:
        partial.replace(target)
