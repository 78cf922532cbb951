"""Where the kernel puts the attributes it knows: one slot for each name, filled while a span is walked.

A slot's first row is the kind of the value, then its number or the offset of its text, then the length of
the text. A name given twice keeps its last scalar value.
"""

# numba compiles these to machine integers, which mypy takes for objects of other types than `int`.
# mypy: disable-error-code="arg-type, assignment, return-value, operator, index, no-any-return"

import numpy as np
import numpy.typing as npt

from tidegate.schemas.compiling import bare_kernel, inlined_kernel
from tidegate.schemas.otlp.names import RESOURCE_NAMES, SPAN_NAMES, resource_name, span_name
from tidegate.schemas.otlp.wire import (
    WIRE_BYTES,
    WIRE_FIXED64,
    WIRE_VARINT,
    Bytes,
    byte_at,
    skip,
    varint,
)

__all__ = [
    "BOOL",
    "DOUBLE",
    "INT",
    "KIND",
    "LENGTH",
    "NONE",
    "RESOURCE_SLOTS",
    "SCRATCH",
    "SPAN_SLOTS",
    "TEXT",
    "VALUE",
    "Slots",
    "any_value",
    "key_value",
    "text_of",
    "word_in",
    "words",
]

NONE, TEXT, INT, BOOL, DOUBLE = 0, 1, 2, 3, 4
KIND, VALUE, LENGTH = 0, 1, 2
"""Rows: kind, number or offset, length."""
Slots = npt.NDArray[np.int64]
SCRATCH = len(SPAN_NAMES)
"""A span's last slot belongs to no name."""
SPAN_SLOTS, RESOURCE_SLOTS = (3, len(SPAN_NAMES) + 1), (3, len(RESOURCE_NAMES) + 1)


def words(*texts: str) -> Bytes:
    """Texts as the kernel compares them: each ended by a zero."""
    return np.frombuffer(b"".join(text.encode() + b"\0" for text in texts), np.uint8)


@inlined_kernel
def _lower(byte: int) -> int:
    return byte + 32 if 65 <= byte <= 90 else byte


@bare_kernel
def word_in(buf: Bytes, start: int, length: int, choices: Bytes, whole: bool) -> int:
    """Number of the zero-ended word that the text holds (or, with `whole`, is), or -1. Case is ignored."""
    first, number = 0, 0
    while first < len(choices):
        last = first
        while byte_at(choices, last) != 0:
            last += 1
        size = last - first
        until = length - size if not whole else (0 if size == length else -1)
        for shift in range(until + 1):
            i = 0
            while i < size and _lower(byte_at(buf, start + shift + i)) == _lower(
                byte_at(choices, first + i)
            ):
                i += 1
            if i == size:
                return number
        first, number = last + 1, number + 1
    return -1


@inlined_kernel
def text_of(slots: Slots, new: int, old: int) -> tuple[int, int]:
    """(offset, length) of the first of two names that is there, if it is text; else (0, 0)."""
    number = np.uint64(new if slots[KIND, np.uint64(new)] != NONE else old)
    if slots[KIND, number] == TEXT:
        return slots[VALUE, number], slots[LENGTH, number]
    return 0, 0


@inlined_kernel
def any_value(buf: Bytes, pos: int, end: int, slots: Slots, number: int) -> bool:
    """Reads the AnyValue at pos..end into a slot. A value that is no scalar leaves the slot as it is.
    False for what isn't ordinary."""
    if (
        pos + 2 <= end < pos + 130
        and byte_at(buf, pos) == 10
        and byte_at(buf, pos + 1) == end - pos - 2
    ):  # a text of less than 128 bytes, alone: most of what there is
        row = np.uint64(number)
        slots[KIND, row], slots[VALUE, row], slots[LENGTH, row] = TEXT, pos + 2, end - pos - 2
        return True
    if end - pos == 3 and byte_at(buf, pos) == 24:
        low, high = byte_at(buf, pos + 1), byte_at(buf, pos + 2)
        if low >= 128 and high < 128:  # a number of two bytes, alone: an HTTP status
            row = np.uint64(number)
            slots[KIND, row], slots[VALUE, row] = INT, (low & 127) | (high << 7)
            return True
    return _odd_value(buf, pos, end, slots, number)


@bare_kernel
def _odd_value(buf: Bytes, pos: int, end: int, slots: Slots, number: int) -> bool:
    """As `any_value`, for all other forms."""
    kind, one, two = NONE, np.int64(0), np.int64(0)
    while pos < end:
        tag, pos = varint(buf, pos, end)
        if pos < 0 or tag > np.uint64(0xFFFFFFFF):
            return False
        field, wire = np.int64(tag) >> 3, np.int64(tag) & 7
        if field == 0:
            return False
        if field == 1 and wire == WIRE_BYTES:
            length, pos = varint(buf, pos, end)
            if pos < 0 or length > np.uint64(end - pos):
                return False
            kind, one, two = TEXT, np.int64(pos), np.int64(length)
            pos += np.int64(length)
        elif (field == 2 or field == 3) and wire == WIRE_VARINT:
            value, pos = varint(buf, pos, end)
            if pos < 0:
                return False
            kind = BOOL if field == 2 else INT
            one = np.int64(value != 0) if field == 2 else np.int64(value)
        elif field == 4 and wire == WIRE_FIXED64:
            if pos + 8 > end:
                return False
            kind, pos = DOUBLE, pos + 8
        elif 5 <= field <= 7 and wire == WIRE_BYTES:
            if kind != NONE:
                return False
            pos = skip(buf, pos, end, wire)
            if pos < 0:
                return False
        elif 1 <= field <= 7:
            return False
        else:
            pos = skip(buf, pos, end, wire)
            if pos < 0:
                return False
    if kind != NONE:
        row = np.uint64(number)
        slots[KIND, row], slots[VALUE, row], slots[LENGTH, row] = kind, one, two
    return True


@inlined_kernel
def key_value(buf: Bytes, pos: int, end: int, is_span: bool, slots: Slots) -> bool:
    """One attribute, key and value in any order. False for what isn't ordinary."""
    key, key_length, value, value_end = -1, 0, -1, 0
    while pos < end:
        tag = byte_at(buf, pos)
        pos += 1
        if tag != 10 and tag != 18:  # field 1 and field 2, both length-delimited
            return False
        length, pos = varint(buf, pos, end)
        if pos < 0 or length > np.uint64(end - pos):
            return False
        if tag == 10:
            key, key_length = pos, np.int64(length)
        else:
            if value >= 0:
                return False
            value, value_end = pos, pos + np.int64(length)
        pos += np.int64(length)
    if key < 0 or value < 0:
        return True
    number = span_name(buf, key, key_length) if is_span else resource_name(buf, key, key_length)
    if number < 0:
        return True
    return any_value(buf, value, value_end, slots, number)
