"""numba where it is installed; without it the same loops run as plain Python, slowly but equally."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

__all__ = ["HAS_NUMBA", "bare_kernel", "kernel"]

Function = TypeVar("Function", bound=Callable[..., Any])

try:
    import numba

    HAS_NUMBA = True
except ImportError:
    HAS_NUMBA = False


def kernel(function: Function) -> Function:
    """Compiles a loop over arrays: no Python objects, the GIL released, the machine code cached on disk.
    No fastmath: sums must come out in the order that is written, on every CPU."""
    if not HAS_NUMBA:
        return function
    return cast(Function, numba.njit(nogil=True, cache=True)(function))


def bare_kernel(function: Function) -> Function:
    """The same for many small functions that call each other: without numba's own run time, which would
    count every array at every call (two atomic operations each). Nothing may be allocated inside."""
    if not HAS_NUMBA:
        return function
    options: dict[str, Any] = {"nogil": True, "cache": True, "_nrt": False}
    return cast(Function, numba.njit(**options)(function))
