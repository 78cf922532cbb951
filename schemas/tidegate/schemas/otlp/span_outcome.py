"""How a request ended, from the slots of its span: `classify.outcome_of` on bytes."""

# numba compiles these to machine integers, which mypy takes for objects of other types than `int`.
# mypy: disable-error-code="arg-type, assignment, return-value, operator, index, no-any-return"

import numpy as np

from tidegate.schemas.compiling import bare_kernel, inlined_kernel
from tidegate.schemas.conventions import SPAN_FIELDS, TIMEOUT_WORDS
from tidegate.schemas.otlp.classify import GRPC_NAMES, GRPC_OUTCOMES
from tidegate.schemas.otlp.names import SPAN_NAMES
from tidegate.schemas.otlp.reading import (
    BOOL,
    INT,
    KIND,
    LENGTH,
    NONE,
    SCRATCH,
    TEXT,
    VALUE,
    Slots,
    any_value,
    word_in,
    words,
)
from tidegate.schemas.otlp.wire import Bytes, byte_at, skip, varint
from tidegate.schemas.outcome import Effect, Outcome

__all__ = ["effect_of", "outcome_of"]

_HTTP_NEW, _HTTP_OLD = (SPAN_NAMES.index(name) for name in SPAN_FIELDS["http_status"])
_GRPC_FIRST = SPAN_NAMES.index(SPAN_FIELDS["grpc_status"][0])
_GRPC_COUNT = len(SPAN_FIELDS["grpc_status"])
_ERROR_TYPE, _ERROR = SPAN_NAMES.index("error.type"), SPAN_NAMES.index("error")
_EFFECT = SPAN_NAMES.index("tidegate.effect")
_GRPC_WORDS = words(*GRPC_NAMES)
_EFFECT_WORDS = words(*(effect.name.lower() for effect in Effect))
_TIMEOUT_WORDS = words(*TIMEOUT_WORDS)
_TRUE = words("true")
_EXCEPTION = words("exception")
_EXCEPTION_KEYS = words("exception.type", "exception.message")
_GRPC_OUTCOMES = np.array(GRPC_OUTCOMES, np.int64)
_OK, _CLIENT_ERROR, _CANCELLED, _THROTTLED, _SERVER_ERROR, _TIMEOUT = (int(o) for o in Outcome)
_STATUS_ERROR = 2


@inlined_kernel
def _code(buf: Bytes, slots: Slots, number: int) -> int:
    """A status code as a number 1..999, else 0."""
    row = np.uint64(number)
    kind, value, length = slots[KIND, row], slots[VALUE, row], slots[LENGTH, row]
    if kind == INT:
        return value if 0 < value < 1000 else 0
    if kind == TEXT and 0 < length <= 3:
        found = np.int64(0)
        for i in range(length):
            digit = byte_at(buf, value + i) - 48
            if digit < 0 or digit > 9:
                return 0
            found = found * 10 + digit
        return found
    return 0


@bare_kernel
def _grpc(buf: Bytes, slots: Slots) -> int:
    """The gRPC status 0..16 by the newest name that is there, else -1."""
    for number in range(_GRPC_FIRST, _GRPC_FIRST + _GRPC_COUNT):
        row = np.uint64(number)
        kind, one, length = slots[KIND, row], slots[VALUE, row], slots[LENGTH, row]
        if kind == NONE:
            continue
        if kind == INT:
            return one if 0 <= one <= 16 else -1
        if kind == TEXT and length > 0:
            if length <= 2 and 48 <= byte_at(buf, one) <= 57:
                value = byte_at(buf, one) - 48
                if length == 2:
                    if not 48 <= byte_at(buf, one + 1) <= 57:
                        return -1
                    value = value * 10 + byte_at(buf, one + 1) - 48
                return value if value <= 16 else -1
            return word_in(buf, one, length, _GRPC_WORDS, True)
        return -1
    return -1


@bare_kernel
def _names_timeout(buf: Bytes, slots: Slots) -> bool:
    return slots[KIND, _ERROR_TYPE] == TEXT and (
        word_in(buf, slots[VALUE, _ERROR_TYPE], slots[LENGTH, _ERROR_TYPE], _TIMEOUT_WORDS, False)
        >= 0
    )


@bare_kernel
def _exception_names_timeout(buf: Bytes, pos: int, end: int, slots: Slots) -> int:
    """Of the last exception event of the span at pos..end: 1 if its type or message names a time-out,
    0 if not, -1 where something isn't ordinary."""
    found = 0
    while pos < end:
        tag, pos = varint(buf, pos, end)
        if tag != np.uint64(90):  # field 11, events; the span has been walked before
            pos = skip(buf, pos, end, np.int64(tag) & 7)
            if pos < 0:
                return -1
            continue
        length, pos = varint(buf, pos, end)
        event_end = pos + np.int64(length)
        is_exception, type_names_it, message_names_it = False, False, False
        while pos < event_end:
            tag, pos = varint(buf, pos, event_end)
            if pos < 0 or tag == 0:
                return -1
            if tag == np.uint64(18) or tag == np.uint64(26):  # name, attributes
                size, pos = varint(buf, pos, event_end)
                if pos < 0 or size > np.uint64(event_end - pos):
                    return -1
                if tag == np.uint64(18):
                    is_exception = _is(buf, pos, np.int64(size), _EXCEPTION)
                else:
                    which, names_it = _exception_text(buf, pos, pos + np.int64(size), slots)
                    if which < -1:
                        return -1
                    if which == 0:
                        type_names_it = names_it
                    elif which == 1:
                        message_names_it = names_it
                pos += np.int64(size)
            else:
                pos = skip(buf, pos, event_end, np.int64(tag) & 7)
                if pos < 0:
                    return -1
        if is_exception:
            found = 1 if type_names_it or message_names_it else 0
    return found


@inlined_kernel
def _is(buf: Bytes, start: int, length: int, word: Bytes) -> bool:
    """Whether the text is a zero-ended word, case and all."""
    if length != len(word) - 1:
        return False
    for i in range(length):  # noqa: SIM110 - numba has no generators
        if byte_at(buf, start + i) != byte_at(word, i):
            return False
    return True


@bare_kernel
def _exception_text(buf: Bytes, pos: int, end: int, slots: Slots) -> tuple[int, bool]:
    """(0 for `exception.type`, 1 for `exception.message`, -1 for other attributes, -2 where it isn't
    ordinary; whether its text names a time-out)."""
    which, value, value_end = -1, -1, 0
    while pos < end:
        tag = byte_at(buf, pos)
        pos += 1
        if tag != 10 and tag != 18:
            return -2, False
        length, pos = varint(buf, pos, end)
        if pos < 0 or length > np.uint64(end - pos):
            return -2, False
        if tag == 10:
            which = word_in(buf, pos, np.int64(length), _EXCEPTION_KEYS, True)
            for i in range(np.int64(length)):
                if 65 <= byte_at(buf, pos + i) <= 90:
                    which = -1
        elif value >= 0:
            return -2, False
        else:
            value, value_end = pos, pos + np.int64(length)
        pos += np.int64(length)
    if which < 0 or value < 0:
        return -1, False
    slots[KIND, SCRATCH] = NONE
    if not any_value(buf, value, value_end, slots, SCRATCH):
        return -2, False
    if slots[KIND, SCRATCH] != TEXT:
        return which, False
    start, size = slots[VALUE, SCRATCH], slots[LENGTH, SCRATCH]
    return which, word_in(buf, start, size, _TIMEOUT_WORDS, False) >= 0


@inlined_kernel
def outcome_of(
    buf: Bytes,
    slots: Slots,
    status: int,
    message: int,
    message_length: int,
    span: int,
    span_end: int,
) -> int:
    """As `classify.outcome_of`; -1 where the span holds something that isn't ordinary."""
    grpc = _grpc(buf, slots)
    if grpc > 0:
        return _GRPC_OUTCOMES[np.uint64(grpc)]
    http = _code(buf, slots, _HTTP_NEW if slots[KIND, _HTTP_NEW] != NONE else _HTTP_OLD)
    if http >= 100:
        if http < 400:
            return _OK
        if http == 408 or http == 504:
            return _TIMEOUT
        if http == 429:
            return _THROTTLED
        if http == 499:
            return _CANCELLED
        if http >= 500:
            return _TIMEOUT if _names_timeout(buf, slots) else _SERVER_ERROR
        return _CLIENT_ERROR
    if grpc == 0:
        return _OK
    return _without_code(buf, slots, status, message, message_length, span, span_end)


@bare_kernel
def _without_code(
    buf: Bytes,
    slots: Slots,
    status: int,
    message: int,
    message_length: int,
    span: int,
    span_end: int,
) -> int:
    if status != _STATUS_ERROR:
        kind, one, length = slots[KIND, _ERROR], slots[VALUE, _ERROR], slots[LENGTH, _ERROR]
        is_flagged = (kind == BOOL and one != 0) or (
            kind == TEXT and word_in(buf, one, length, _TRUE, True) >= 0
        )
        kind = slots[KIND, _ERROR_TYPE]
        has_type = kind != NONE and not (kind == TEXT and slots[LENGTH, _ERROR_TYPE] == 0)
        if status != 0 or not (is_flagged or has_type):
            return _OK
    if _names_timeout(buf, slots):
        return _TIMEOUT
    if message_length and word_in(buf, message, message_length, _TIMEOUT_WORDS, False) >= 0:
        return _TIMEOUT
    by_exception = _exception_names_timeout(buf, span, span_end, slots)
    if by_exception < 0:
        return -1
    return _TIMEOUT if by_exception else _SERVER_ERROR


@inlined_kernel
def effect_of(buf: Bytes, slots: Slots) -> int:
    """As `classify.effect_of`."""
    if slots[KIND, _EFFECT] != TEXT:
        return 0
    start, length = slots[VALUE, _EFFECT], slots[LENGTH, _EFFECT]
    number = word_in(buf, start, length, _EFFECT_WORDS, True)
    for i in range(length):
        if 65 <= byte_at(buf, start + i) <= 90:
            return 0
    return max(0, number)
