"""The kernel's readers: attributes, values, status and ids at a place in the buffer. What isn't ordinary is
said, never guessed."""

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
    skip,
    varint,
)

__all__ = [
    "BOOL",
    "DOUBLE",
    "INT",
    "NAMES_COUNT",
    "NONE",
    "RESOURCE_COUNT",
    "RESOURCE_SLOTS",
    "SPAN_SLOTS",
    "TEXT",
    "Slots",
    "read_attribute",
    "read_id",
    "read_status",
    "read_value",
    "same",
    "word_in",
]

NONE, TEXT, INT, BOOL, DOUBLE = 0, 1, 2, 3, 4
NAMES_COUNT = len(SPAN_NAMES)
RESOURCE_COUNT = len(RESOURCE_NAMES)
Slots = npt.NDArray[np.int64]
"""(names + 1, 3): type, number or offset, length, by the number of a name; the last row is scratch."""
SPAN_SLOTS, RESOURCE_SLOTS = (NAMES_COUNT + 1, 3), (RESOURCE_COUNT + 1, 3)


@inlined_kernel
def _lower(byte: int) -> int:
    return byte + 32 if 65 <= byte <= 90 else byte


@bare_kernel
def word_in(buf: Bytes, start: int, length: int, words: Bytes, whole: bool) -> int:
    """Number of the zero-ended word that the text holds (or, with `whole`, is), or -1. Case is ignored."""
    first, number = 0, 0
    while first < len(words):
        last = first
        while words[last] != 0:
            last += 1
        size = last - first
        until = length - size if not whole else (0 if size == length else -1)
        for shift in range(until + 1):
            i = 0
            while i < size and _lower(np.int64(buf[start + shift + i])) == _lower(
                np.int64(words[first + i])
            ):
                i += 1
            if i == size:
                return number
        first, number = last + 1, number + 1
    return -1


@inlined_kernel
def same(buf: Bytes, start: int, word: Bytes) -> bool:
    """Whether the zero-ended word stands at `start`; the caller has checked the length."""
    for i in range(len(word) - 1):  # noqa: SIM110 - numba has no generators
        if buf[start + i] != word[i]:
            return False
    return True


@inlined_kernel
def read_value(buf: Bytes, pos: int, end: int, slots: Slots, number: int) -> bool:
    """Reads the AnyValue at pos..end into slots[number] = (type, number or offset, length). A value that
    is no scalar leaves the slot as it is. False for what isn't ordinary."""
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
        slots[number, 0], slots[number, 1], slots[number, 2] = kind, one, two
    return True


@inlined_kernel
def read_attribute(buf: Bytes, pos: int, end: int, is_span: bool, slots: Slots) -> bool:
    """One attribute, key and value in any order. False for what isn't ordinary."""
    key, key_length, value, value_end = -1, 0, -1, 0
    while pos < end:
        tag = buf[pos]
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
    return read_value(buf, value, value_end, slots, number)


@inlined_kernel
def read_status(buf: Bytes, pos: int, end: int) -> tuple[int, int, int, bool]:
    """(code, offset and length of the message, is_ordinary)."""
    code, message, message_length = np.int64(0), np.int64(0), np.int64(0)
    while pos < end:
        tag = buf[pos]
        pos += 1
        raw, pos = varint(buf, pos, end)
        if pos < 0:
            return 0, 0, 0, False
        if tag == 24:
            code = np.int64(np.int32(raw & np.uint64(0xFFFFFFFF)))
        elif tag == 18:
            if raw > np.uint64(end - pos):
                return 0, 0, 0, False
            message, message_length = np.int64(pos), np.int64(raw)
            pos += np.int64(raw)
        else:
            return 0, 0, 0, False
    return code, message, message_length, True


@inlined_kernel
def read_id(buf: Bytes, pos: int, length: int) -> np.uint64:
    """Eight big-endian bytes; the caller has checked the length."""
    value = np.uint64(0)
    for i in range(length):
        value = value << np.uint64(8) | np.uint64(buf[pos + i])
    return value
