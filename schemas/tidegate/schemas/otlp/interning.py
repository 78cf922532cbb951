"""Dictionary coding inside the kernel: equal byte strings get equal numbers, and Python makes a string
only of each distinct one."""

# numba compiles these to machine integers, which mypy takes for objects of other types than `int`.
# mypy: disable-error-code="arg-type, assignment, return-value, operator, index, no-any-return"

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tidegate.schemas.compiling import bare_kernel, inlined_kernel
from tidegate.schemas.otlp.wire import Bytes, fixed64

__all__ = ["RESOURCES", "STATES", "TARGETS", "Interned", "intern", "interned"]

_MIX = np.uint64(0x9E3779B97F4A7C15)
_PRIME = np.uint64(0x100000001B3)
_BASIS = np.uint64(0xCBF29CE484222325)


RESOURCES, TARGETS, STATES = 0, 1, 2
"""The dictionaries a batch has: stacked, since every array argument costs the kernel a reference count."""


class Interned(NamedTuple):
    """Three dictionaries, by open addressing."""

    tables: npt.NDArray[np.int32]
    """(3, twice the capacity): -1 or the number of an entry; the length is a power of two."""
    entries: npt.NDArray[np.int64]
    """(3, capacity, 7): mode, and offset and length of three slices."""
    counts: npt.NDArray[np.int64]
    """(3,)"""


def interned(capacity: int) -> Interned:
    """Empty dictionaries for up to `capacity` (a power of two) values each."""
    return Interned(
        np.full((3, 2 * capacity), -1, np.int32),
        np.zeros((3, capacity, 7), np.int64),
        np.zeros(3, np.int64),
    )


@inlined_kernel
def _hash(buf: Bytes, start: int, length: int, seed: np.uint64) -> np.uint64:
    """FNV-1a over words of eight bytes, the last one overlapping."""
    value = (seed ^ np.uint64(length)) * _PRIME
    pos, end = start, start + length
    while pos + 8 <= end:
        value = (value ^ fixed64(buf, pos)) * _PRIME
        value ^= value >> np.uint64(29)
        pos += 8
    if length >= 8:
        return (value ^ fixed64(buf, end - 8)) * _PRIME
    if pos == end:
        return value
    mask = (np.uint64(1) << np.uint64(8 * length)) - np.uint64(1)  # bytes behind a short text
    return (value ^ (fixed64(buf, pos) & mask)) * _PRIME


@inlined_kernel
def _equal(buf: Bytes, one: int, other: int, length: int) -> bool:
    if one == other:
        return True
    i = 0
    while i + 8 <= length:
        if fixed64(buf, one + i) != fixed64(buf, other + i):
            return False
        i += 8
    if i == length:
        return True
    # The last bytes at once, those behind masked away.
    mask = (np.uint64(1) << np.uint64(8 * (length - i))) - np.uint64(1)
    return ((fixed64(buf, one + i) ^ fixed64(buf, other + i)) & mask) == np.uint64(0)


@bare_kernel
def intern(
    buf: Bytes,
    tables: npt.NDArray[np.int32],
    entries: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    which: int,
    mode: int,
    a: int,
    a_length: int,
    b: int,
    b_length: int,
    c: int,
    c_length: int,
) -> int:
    """Number of the value made of three slices in dictionary `which`, -1 where that is full."""
    value = _hash(buf, a, a_length, _BASIS ^ np.uint64(mode))
    if b_length:
        value = _hash(buf, b, b_length, value)
    if c_length:
        value = _hash(buf, c, c_length, value)
    mask = tables.shape[1] - 1
    place = np.int64((value * _MIX) >> np.uint64(33)) & mask
    while True:
        number = np.int64(tables[which, place])
        if number < 0:
            break
        if (
            entries[which, number, 0] == mode
            and entries[which, number, 2] == a_length
            and entries[which, number, 4] == b_length
            and entries[which, number, 6] == c_length
            and _equal(buf, entries[which, number, 1], a, a_length)
            and _equal(buf, entries[which, number, 3], b, b_length)
            and _equal(buf, entries[which, number, 5], c, c_length)
        ):
            return number
        place = (place + 1) & mask
    number = counts[which]
    if number >= entries.shape[1]:
        return -1
    entries[which, number, 0] = mode
    entries[which, number, 1], entries[which, number, 2] = a, a_length
    entries[which, number, 3], entries[which, number, 4] = b, b_length
    entries[which, number, 5], entries[which, number, 6] = c, c_length
    tables[which, place] = number
    counts[which] = number + 1
    return number
