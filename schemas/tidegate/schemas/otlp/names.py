"""Attribute names as the kernel looks them up: one probe into a table without collisions."""

# numba compiles these to machine integers, which mypy takes for objects of other types than `int`.
# mypy: disable-error-code="arg-type, assignment, return-value, operator, index, no-any-return"

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tidegate.schemas.compiling import inlined_kernel
from tidegate.schemas.conventions import INSTANCE, SPAN_FIELDS
from tidegate.schemas.otlp.wire import Bytes

__all__ = ["RESOURCE_NAMES", "SPAN_NAMES", "NameTable", "name_table", "resource_name", "span_name"]

SPAN_NAMES: tuple[str, ...] = tuple(name for names in SPAN_FIELDS.values() for name in names)
"""Numbered in this order; the names of one field stand together, newest first."""
RESOURCE_NAMES: tuple[str, ...] = ("service.name", "service.namespace", *INSTANCE)
_SLOTS = 1024


class NameTable(NamedTuple):
    """Constants of the kernel: arrays that are arguments would cost a reference count at every call."""

    slots: npt.NDArray[np.int16]
    """Place -> number or -1."""
    names: Bytes
    """All names, one after the other."""
    starts: npt.NDArray[np.int32]
    """Where each begins, and the end."""
    multiplier: int


def name_table(names: tuple[str, ...]) -> NameTable:
    """Looks for multipliers under which no two names share a slot."""
    data = [name.encode() for name in names]
    for multiplier in range(1, 10_000, 2):
        places = [_place(d, multiplier) for d in data]
        if len(set(places)) == len(places):
            slots = np.full(_SLOTS, -1, np.int16)
            slots[places] = np.arange(len(names))
            starts = np.cumsum([0, *map(len, data)]).astype(np.int32)
            joined = np.frombuffer(b"".join(data), np.uint8)
            return NameTable(slots, joined, starts, multiplier)
    raise AssertionError("no collision-free table of attribute names; give it more slots")


def _place(name: bytes, multiplier: int) -> int:
    n = len(name)
    mixed = n * 131 + name[0] * 31 + name[n // 2] * multiplier + name[n - 1] * 7 * multiplier
    mixed += name[(3 * n) // 4] * 17
    return mixed & (_SLOTS - 1)


@inlined_kernel
def place_of(buf: Bytes, start: int, length: int, multiplier: int) -> int:
    """The place of the name at buf[start:start+length]; length at least 1, the bytes inside the buffer."""
    mixed = (
        length * 131
        + np.int64(buf[start]) * 31
        + np.int64(buf[start + length // 2]) * multiplier
        + np.int64(buf[start + length - 1]) * 7 * multiplier
        + np.int64(buf[start + (3 * length) // 4]) * 17
    )
    return mixed & (_SLOTS - 1)


SPAN_TABLE = name_table(SPAN_NAMES)
RESOURCE_TABLE = name_table(RESOURCE_NAMES)
_SPAN_SLOTS, _SPAN_BYTES, _SPAN_STARTS, _SPAN_MULTIPLIER = SPAN_TABLE
_RES_SLOTS, _RES_BYTES, _RES_STARTS, _RES_MULTIPLIER = RESOURCE_TABLE


@inlined_kernel
def span_name(buf: Bytes, start: int, length: int) -> int:
    """Number of a span attribute's name in SPAN_NAMES, or -1. The bytes are inside the buffer."""
    if length == 0:
        return -1
    number = np.int64(_SPAN_SLOTS[place_of(buf, start, length, _SPAN_MULTIPLIER)])
    if number < 0:
        return -1
    first = np.int64(_SPAN_STARTS[number])
    if np.int64(_SPAN_STARTS[number + 1]) - first != length:
        return -1
    for i in range(length):
        if buf[start + i] != _SPAN_BYTES[first + i]:
            return -1
    return number


@inlined_kernel
def resource_name(buf: Bytes, start: int, length: int) -> int:
    """The same for RESOURCE_NAMES."""
    if length == 0:
        return -1
    number = np.int64(_RES_SLOTS[place_of(buf, start, length, _RES_MULTIPLIER)])
    if number < 0:
        return -1
    first = np.int64(_RES_STARTS[number])
    if np.int64(_RES_STARTS[number + 1]) - first != length:
        return -1
    for i in range(length):
        if buf[start + i] != _RES_BYTES[first + i]:
            return -1
    return number
