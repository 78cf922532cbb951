"""Machine code from loops over arrays, by numba; where that is missing the same loops run as plain Python.

numba keeps compiled code on disk and looks only at the time and size of a function's own file. Ours inline
each other and read tables of other modules, so a stale copy would decide by yesterday's table: the cache
therefore lies in a folder named after the content of all sources.
"""

import hashlib
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar, cast

__all__ = ["FIRST_USE", "HAS_NUMBA", "bare_kernel", "inlined_kernel", "is_first_use", "kernel"]

FIRST_USE = "compiling, once on this machine: the first records wait up to a minute"
"""What a program says where `is_first_use()`."""

Function = TypeVar("Function", bound=Callable[..., Any])
_SOURCES = ("schemas/*.py", "schemas/otlp/*.py", "rules/*.py")

try:
    import numba

    HAS_NUMBA = True
except ImportError:
    HAS_NUMBA = False


def _cache_folder() -> str:
    given = os.environ.get("NUMBA_CACHE_DIR")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    digest = hashlib.sha256()
    namespace = find_spec(
        "tidegate"
    )  # its folders: importing what lies in them would come back here
    for folder in (namespace and namespace.submodule_search_locations) or ():
        for pattern in _SOURCES:
            for source in sorted(Path(folder).glob(pattern)):
                digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return str((Path(given) if given else home / "tidegate" / "numba") / digest.hexdigest()[:16])


if HAS_NUMBA:
    numba.config.CACHE_DIR = _cache_folder()  # type: ignore[attr-defined]  # made at run time


def is_first_use() -> bool:
    """Whether nothing that was compiled from these sources lies on disk yet."""
    if not HAS_NUMBA:
        return False
    folder: str = numba.config.CACHE_DIR  # type: ignore[attr-defined]  # made at run time
    return not any(Path(folder).rglob("*.nbi"))


def kernel(function: Function) -> Function:
    """A loop of its own: no Python objects, the GIL released. No fastmath: sums must come out in the order
    that is written, on every CPU."""
    return _compiled(function)


def bare_kernel(function: Function) -> Function:
    """The same for many small functions that call each other: without numba's own run time, which counts
    every array at every call (two atomic operations each; the decoder was six times slower with it).
    Nothing may be allocated inside."""
    return _compiled(function, _nrt=False)


def inlined_kernel(function: Function) -> Function:
    """A bare kernel so small that a call of it costs more than its work."""
    return _compiled(function, _nrt=False, forceinline=True)


def _compiled(function: Function, **options: Any) -> Function:
    if not HAS_NUMBA:
        return function
    return cast("Function", numba.njit(nogil=True, cache=True, **options)(function))
