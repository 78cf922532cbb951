"""Attribute names as the kernel looks them up: one probe into a table without collisions, then at most
four comparisons of eight bytes at once.

A name of n bytes is known by n and four words: its first eight bytes (fewer if it is shorter, with zeros
behind), its last eight, and those from 8 and 16 on where it is longer than 16 and 24.
"""

# numba compiles these to machine integers, which mypy takes for objects of other types than `int`.
# mypy: disable-error-code="arg-type, assignment, return-value, operator, index, no-any-return"

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tidegate.schemas.compiling import inlined_kernel
from tidegate.schemas.conventions import INSTANCE, SPAN_FIELDS
from tidegate.schemas.otlp.wire import Bytes, fixed64

__all__ = ["RESOURCE_NAMES", "SPAN_NAMES", "NameTable", "name_table", "resource_name", "span_name"]

SPAN_NAMES: tuple[str, ...] = tuple(name for names in SPAN_FIELDS.values() for name in names)
"""Numbered in this order; the names of one field stand together, newest first."""
RESOURCE_NAMES: tuple[str, ...] = ("service.name", "service.namespace", *INSTANCE)
LENGTH_MAX = 32
_SLOT_BITS = 10
_WORD = (1 << 64) - 1
_SHIFT = np.uint64(64 - _SLOT_BITS)


class NameTable(NamedTuple):
    """Constants of the kernel: arrays that are arguments would cost a reference count at every call."""

    slots: npt.NDArray[np.int64]
    """Place -> number, or that of the last row, which no name equals."""
    words: npt.NDArray[np.uint64]
    """(names + 1, 4)."""
    lengths: npt.NDArray[np.int64]
    multiplier: np.uint64


def words_of(name: bytes) -> tuple[int, int, int, int]:
    """What a name is known by, beside its length."""
    n = len(name)

    def word(start: int) -> int:
        return int.from_bytes(name[start : start + 8], "little")

    return (
        word(0),
        word(n - 8) if n >= 8 else 0,
        word(8) if n > 16 else 0,
        word(16) if n > 24 else 0,
    )


def name_table(names: tuple[str, ...]) -> NameTable:
    """Looks for a multiplier under which no two names share a slot. Raises AssertionError without one."""
    data = [name.encode() for name in names]
    assert max(map(len, data)) <= LENGTH_MAX, "longer names need more words"
    for seed in range(1, 100_000):
        multiplier = seed * 0x9E3779B97F4A7C15 & _WORD | 1
        places = [_place(words_of(d), len(d), multiplier) for d in data]
        if len(set(places)) == len(places):
            slots = np.full(1 << _SLOT_BITS, len(data), np.int64)
            slots[places] = np.arange(len(names))
            words = np.array([*map(words_of, data), (0, 0, 0, 0)], np.uint64)
            lengths = np.array([*map(len, data), -1], np.int64)
            return NameTable(slots, words, lengths, np.uint64(multiplier))
    raise AssertionError("no collision-free table of attribute names; give it more slots")


def _place(words: tuple[int, int, int, int], length: int, multiplier: int) -> int:
    mixed = (words[0] ^ (words[1] >> 1) ^ length) * multiplier & _WORD
    return mixed >> (64 - _SLOT_BITS)


_SPAN_SLOTS, _SPAN_WORDS, _SPAN_LENGTHS, _SPAN_MULTIPLIER = name_table(SPAN_NAMES)
_RES_SLOTS, _RES_WORDS, _RES_LENGTHS, _RES_MULTIPLIER = name_table(RESOURCE_NAMES)


@inlined_kernel
def _first_word(buf: Bytes, start: int, length: int) -> np.uint64:
    """Up to eight bytes; what is read beyond a shorter name is masked away."""
    word = fixed64(buf, start)
    if length < 8:
        word &= (np.uint64(1) << np.uint64(8 * length)) - np.uint64(1)
    return word


@inlined_kernel
def _number(
    buf: Bytes,
    start: int,
    length: int,
    slots: npt.NDArray[np.int64],
    words: npt.NDArray[np.uint64],
    lengths: npt.NDArray[np.int64],
    multiplier: np.uint64,
) -> int:
    """Number of the name at buf[start:start+length] in a table, or -1. The bytes are inside the buffer."""
    if length == 0 or length > LENGTH_MAX:
        return -1
    first = _first_word(buf, start, length)
    last = fixed64(buf, start + length - 8) if length >= 8 else np.uint64(0)
    mixed = (first ^ (last >> np.uint64(1)) ^ np.uint64(length)) * multiplier
    number = slots[mixed >> _SHIFT]
    row = np.uint64(number)
    if (
        lengths[row] != length
        or words[row, 0] != first
        or words[row, 1] != last
        or (length > 16 and words[row, 2] != fixed64(buf, start + 8))
        or (length > 24 and words[row, 3] != fixed64(buf, start + 16))
    ):
        return -1
    return number


@inlined_kernel
def span_name(buf: Bytes, start: int, length: int) -> int:
    """Number of a span attribute's name in SPAN_NAMES, or -1. The bytes are inside the buffer."""
    return _number(buf, start, length, _SPAN_SLOTS, _SPAN_WORDS, _SPAN_LENGTHS, _SPAN_MULTIPLIER)


@inlined_kernel
def resource_name(buf: Bytes, start: int, length: int) -> int:
    """The same for RESOURCE_NAMES."""
    return _number(buf, start, length, _RES_SLOTS, _RES_WORDS, _RES_LENGTHS, _RES_MULTIPLIER)
