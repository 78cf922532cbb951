"""Protobuf's wire format for the kernel: every read is checked against an end that its caller has proved
to lie inside the buffer. Positions below 0 mean: not what was expected.

The buffer is followed by PADDING bytes that belong to no record, so that eight bytes may be read at once
from any position inside. Indexes are turned into unsigned ones where memory is read: for signed ones numba
compiles Python's counting from the end, which made reading eight bytes 17 times slower (3.7 ns for 0.2).
"""

# numba compiles these to machine integers, which mypy takes for objects of other types than `int`.
# mypy: disable-error-code="arg-type, assignment, return-value, operator, index, no-any-return"

import numpy as np
import numpy.typing as npt

from tidegate.schemas.compiling import bare_kernel, inlined_kernel

__all__ = [
    "PADDING",
    "WIRE_BYTES",
    "WIRE_FIXED32",
    "WIRE_FIXED64",
    "WIRE_VARINT",
    "Bytes",
    "byte_at",
    "fixed64",
    "fixed64_big_endian",
    "skip",
    "varint",
]

Bytes = npt.NDArray[np.uint8]
WIRE_VARINT, WIRE_FIXED64, WIRE_BYTES, WIRE_FIXED32 = 0, 1, 2, 5
PADDING = 8
"""Bytes behind the last record."""


@inlined_kernel
def byte_at(buf: Bytes, pos: int) -> int:
    """One byte; the caller has checked that it is there."""
    return np.int64(buf[np.uint64(pos)])


@inlined_kernel
def varint(buf: Bytes, pos: int, end: int) -> tuple[np.uint64, int]:
    """(value, next position); position -1 where it is cut short or longer than ten bytes."""
    if pos < end:
        first = buf[np.uint64(pos)]
        if first < 0x80:
            return np.uint64(first), pos + 1
    return _long_varint(buf, pos, end)


@bare_kernel
def _long_varint(buf: Bytes, pos: int, end: int) -> tuple[np.uint64, int]:
    value, shift = np.uint64(0), np.uint64(0)
    for _ in range(10):
        if pos >= end:
            return np.uint64(0), -1
        byte = np.uint64(buf[np.uint64(pos)])
        pos += 1
        value |= (byte & np.uint64(0x7F)) << shift
        if byte < np.uint64(0x80):
            return value, pos
        shift += np.uint64(7)
    return np.uint64(0), -1


@inlined_kernel
def fixed64(buf: Bytes, pos: int) -> np.uint64:
    """Eight little-endian bytes (one machine instruction); inside the buffer or its padding."""
    p = np.uint64(pos)
    return (
        np.uint64(buf[p])
        | np.uint64(buf[p + np.uint64(1)]) << np.uint64(8)
        | np.uint64(buf[p + np.uint64(2)]) << np.uint64(16)
        | np.uint64(buf[p + np.uint64(3)]) << np.uint64(24)
        | np.uint64(buf[p + np.uint64(4)]) << np.uint64(32)
        | np.uint64(buf[p + np.uint64(5)]) << np.uint64(40)
        | np.uint64(buf[p + np.uint64(6)]) << np.uint64(48)
        | np.uint64(buf[p + np.uint64(7)]) << np.uint64(56)
    )


@inlined_kernel
def fixed64_big_endian(buf: Bytes, pos: int) -> np.uint64:
    """Eight big-endian bytes; the caller has checked that they are there."""
    p = np.uint64(pos)
    return (
        np.uint64(buf[p + np.uint64(7)])
        | np.uint64(buf[p + np.uint64(6)]) << np.uint64(8)
        | np.uint64(buf[p + np.uint64(5)]) << np.uint64(16)
        | np.uint64(buf[p + np.uint64(4)]) << np.uint64(24)
        | np.uint64(buf[p + np.uint64(3)]) << np.uint64(32)
        | np.uint64(buf[p + np.uint64(2)]) << np.uint64(40)
        | np.uint64(buf[p + np.uint64(1)]) << np.uint64(48)
        | np.uint64(buf[p]) << np.uint64(56)
    )


@inlined_kernel
def skip(buf: Bytes, pos: int, end: int, wire: int) -> int:
    """The position behind a field's value; -1 for groups, unknown wire types and what is cut short."""
    if wire == WIRE_BYTES:
        length, pos = varint(buf, pos, end)
        if pos < 0 or length > np.uint64(end - pos):
            return -1
        return pos + np.int64(length)
    if wire == WIRE_VARINT:
        _, pos = varint(buf, pos, end)
        return pos
    if wire == WIRE_FIXED64:
        return pos + 8 if pos + 8 <= end else -1
    if wire == WIRE_FIXED32:
        return pos + 4 if pos + 4 <= end else -1
    return -1
