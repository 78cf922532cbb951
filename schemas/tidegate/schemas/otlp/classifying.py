"""What a span's attributes say, on bytes: the kernel's twin of `classify.py`, which it is tested against."""

# numba compiles these to machine integers, which mypy takes for objects of other types than `int`.
# mypy: disable-error-code="arg-type, assignment, return-value, operator, index, no-any-return"

import numpy as np
import numpy.typing as npt

from tidegate.schemas.compiling import bare_kernel, inlined_kernel
from tidegate.schemas.conventions import TIMEOUT_WORDS
from tidegate.schemas.otlp.classify import GRPC_NAMES, GRPC_OUTCOMES
from tidegate.schemas.otlp.interning import TARGETS, intern
from tidegate.schemas.otlp.names import SPAN_NAMES
from tidegate.schemas.otlp.reading import (
    BOOL,
    INT,
    NAMES_COUNT,
    NONE,
    TEXT,
    Slots,
    read_value,
    same,
    word_in,
)
from tidegate.schemas.otlp.wire import Bytes, skip, varint
from tidegate.schemas.outcome import Effect, Outcome

__all__ = [
    "EFFECT_NAME",
    "TARGET_BY_NAME",
    "TARGET_BY_URL",
    "TARGET_JOINED",
    "effect_in",
    "outcome_in",
    "target_in",
]

TARGET_JOINED, TARGET_BY_URL, TARGET_BY_NAME = 0, 1, 2


def _words(*words: str) -> Bytes:
    """Zero-ended, one after the other."""
    return np.frombuffer(b"".join(word.encode() + b"\0" for word in words), np.uint8)


def _numbers(*names: str) -> tuple[int, ...]:
    return tuple(SPAN_NAMES.index(name) for name in names)


(_HTTP_NEW, _HTTP_OLD) = _numbers("http.response.status_code", "http.status_code")
_GRPC_FIRST = SPAN_NAMES.index("rpc.response.status_code")
_GRPC_COUNT = 5
(_ERROR_TYPE, _ERROR, _PEER) = _numbers("error.type", "error", "peer.service")
(_DB_NEW, _DB_OLD, _DB_NS_NEW, _DB_NS_OLD) = _numbers(
    "db.system.name", "db.system", "db.namespace", "db.name"
)
(_MSG, _MSG_TO_NEW, _MSG_TO_OLD) = _numbers(
    "messaging.system", "messaging.destination.name", "messaging.destination"
)
(_ADDRESS_NEW, _ADDRESS_OLD, _URL_NEW, _URL_OLD) = _numbers(
    "server.address", "net.peer.name", "url.full", "http.url"
)
(_METHOD, _SERVICE, EFFECT_NAME) = _numbers("rpc.method", "rpc.service", "tidegate.effect")

_GRPC_NAMES = _words(*GRPC_NAMES)
_EFFECT_NAMES = _words(*(effect.name.lower() for effect in Effect))
_TIMEOUT_WORDS = _words(*TIMEOUT_WORDS)
_EXCEPTION, _EXCEPTION_TYPE, _TRUE = _words("exception"), _words("exception.type"), _words("true")
_GRPC_OUTCOMES = np.array(
    [GRPC_OUTCOMES.get(code, Outcome.CLIENT_ERROR) for code in range(17)], np.uint8
)
_OK, _CLIENT_ERROR, _CANCELLED, _THROTTLED, _SERVER_ERROR, _TIMEOUT = (int(o) for o in Outcome)


@inlined_kernel
def _code(buf: Bytes, slots: Slots, number: int) -> int:
    """A status code as a number 1..999, else 0."""
    if slots[number, 0] == INT:
        value = slots[number, 1]
        return value if 0 < value < 1000 else 0
    if slots[number, 0] == TEXT and 0 < slots[number, 2] <= 3:
        value = np.int64(0)
        for i in range(slots[number, 1], slots[number, 1] + slots[number, 2]):
            digit = np.int64(buf[i]) - 48
            if digit < 0 or digit > 9:
                return 0
            value = value * 10 + digit
        return value
    return 0


@inlined_kernel
def _text_of(slots: Slots, new: int, old: int) -> tuple[int, int]:
    """(offset, length) of the first of two names that is there, if it is text; else (0, 0)."""
    number = new if slots[new, 0] != NONE else old
    if slots[number, 0] == TEXT:
        return slots[number, 1], slots[number, 2]
    return 0, 0


@bare_kernel
def _grpc(buf: Bytes, slots: Slots) -> int:
    """The gRPC status 0..16 by the newest name that is there, else -1."""
    for number in range(_GRPC_FIRST, _GRPC_FIRST + _GRPC_COUNT):
        kind, one, length = slots[number, 0], slots[number, 1], slots[number, 2]
        if kind == NONE:
            continue
        if kind == INT:
            return one if 0 <= one <= 16 else -1
        if kind == TEXT and length > 0:
            if length <= 2 and 48 <= buf[one] <= 57:
                value = np.int64(buf[one]) - 48
                if length == 2:
                    if not 48 <= buf[one + 1] <= 57:
                        return -1
                    value = value * 10 + np.int64(buf[one + 1]) - 48
                return value if value <= 16 else -1
            return word_in(buf, one, length, _GRPC_NAMES, True)
        return -1
    return -1


@bare_kernel
def _names_timeout(buf: Bytes, slots: Slots) -> bool:
    return slots[_ERROR_TYPE, 0] == TEXT and (
        word_in(buf, slots[_ERROR_TYPE, 1], slots[_ERROR_TYPE, 2], _TIMEOUT_WORDS, False) >= 0
    )


@bare_kernel
def _exception_type(buf: Bytes, pos: int, end: int, slots: Slots) -> tuple[int, int, bool]:
    """(offset, length, is_ordinary) of the text of an attribute `exception.type`; offset -1 for others."""
    is_it, value, value_end = False, -1, 0
    while pos < end:
        tag = buf[pos]
        pos += 1
        if tag != 10 and tag != 18:
            return -1, 0, False
        length, pos = varint(buf, pos, end)
        if pos < 0 or length > np.uint64(end - pos):
            return -1, 0, False
        if tag == 10:
            is_it = np.int64(length) == len(_EXCEPTION_TYPE) - 1 and same(buf, pos, _EXCEPTION_TYPE)
        elif value >= 0:
            return -1, 0, False
        else:
            value, value_end = pos, pos + np.int64(length)
        pos += np.int64(length)
    if not is_it or value < 0:
        return -1, 0, True
    slots[NAMES_COUNT, 0] = NONE
    if not read_value(buf, value, value_end, slots, NAMES_COUNT):
        return -1, 0, False
    if slots[NAMES_COUNT, 0] != TEXT:
        return value, 0, True
    return slots[NAMES_COUNT, 1], slots[NAMES_COUNT, 2], True


@bare_kernel
def _exception(buf: Bytes, pos: int, end: int, slots: Slots) -> tuple[int, int, bool]:
    """(offset, length, is_ordinary) of the type of the last exception event of the span at pos..end."""
    found, found_length = -1, 0
    while pos < end:
        tag, pos = varint(buf, pos, end)
        if tag != np.uint64(90):  # field 11, events
            pos = skip(buf, pos, end, np.int64(tag) & 7)
            if pos < 0:
                return -1, 0, False
            continue
        length, pos = varint(buf, pos, end)
        event_end = pos + np.int64(length)
        is_exception, last, last_length = False, -1, 0
        while pos < event_end:
            tag, pos = varint(buf, pos, event_end)
            if pos < 0 or tag == 0:
                return -1, 0, False
            if tag == np.uint64(18) or tag == np.uint64(26):  # name, attributes
                size, pos = varint(buf, pos, event_end)
                if pos < 0 or size > np.uint64(event_end - pos):
                    return -1, 0, False
                if tag == np.uint64(18):
                    is_exception = np.int64(size) == 9 and same(buf, pos, _EXCEPTION)
                else:
                    start, text_length, is_ordinary = _exception_type(
                        buf, pos, pos + np.int64(size), slots
                    )
                    if not is_ordinary:
                        return -1, 0, False
                    if start >= 0:
                        last, last_length = start, text_length
                pos += np.int64(size)
            else:
                pos = skip(buf, pos, event_end, np.int64(tag) & 7)
                if pos < 0:
                    return -1, 0, False
        if is_exception and last >= 0:
            found, found_length = last, last_length
    return found, found_length, True


@bare_kernel
def outcome_in(
    buf: Bytes,
    slots: Slots,
    status: int,
    message: int,
    message_length: int,
    span: int,
    span_end: int,
) -> int:
    """As `classify.outcome_of`; -1 where the span holds something that isn't ordinary."""
    http = _code(buf, slots, _HTTP_NEW if slots[_HTTP_NEW, 0] != NONE else _HTTP_OLD)
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
    grpc = _grpc(buf, slots)
    if grpc >= 0:
        return np.int64(_GRPC_OUTCOMES[grpc])
    if status != 2:
        kind, one, length = slots[_ERROR, 0], slots[_ERROR, 1], slots[_ERROR, 2]
        is_flagged = (kind == BOOL and one != 0) or (
            kind == TEXT and word_in(buf, one, length, _TRUE, True) >= 0
        )
        kind = slots[_ERROR_TYPE, 0]
        has_type = kind != NONE and not (kind == TEXT and slots[_ERROR_TYPE, 2] == 0)
        if status != 0 or not (is_flagged or has_type):
            return _OK
    if _names_timeout(buf, slots):
        return _TIMEOUT
    if message_length and word_in(buf, message, message_length, _TIMEOUT_WORDS, False) >= 0:
        return _TIMEOUT
    start, length, is_ordinary = _exception(buf, span, span_end, slots)
    if not is_ordinary:
        return -1
    if length and word_in(buf, start, length, _TIMEOUT_WORDS, False) >= 0:
        return _TIMEOUT
    return _SERVER_ERROR


@inlined_kernel
def _authority_end(buf: Bytes, start: int, length: int) -> int:
    """How much of a URL is scheme and authority: the path differs in every call, the host doesn't."""
    slashes = 0
    for i in range(length):
        byte = buf[start + i]
        if byte == 47:
            slashes += 1
            if slashes == 3:
                return i
        elif byte == 63 or byte == 35:
            return i
    return length


@bare_kernel
def target_in(
    buf: Bytes,
    slots: Slots,
    name: int,
    name_length: int,
    tables: npt.NDArray[np.int32],
    entries: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
) -> int:
    """As `classify.target_of`: the number of its slices, -1 where the dictionary is full."""
    a, a_length = _text_of(slots, _PEER, _PEER)
    if a_length:
        return intern(buf, tables, entries, counts, TARGETS, TARGET_JOINED, a, a_length, 0, 0, 0, 0)
    a, a_length = _text_of(slots, _DB_NEW, _DB_OLD)
    if a_length:
        b, b_length = _text_of(slots, _DB_NS_NEW, _DB_NS_OLD)
        return intern(
            buf, tables, entries, counts, TARGETS, TARGET_JOINED, a, a_length, b, b_length, 0, 0
        )
    a, a_length = _text_of(slots, _MSG, _MSG)
    if a_length:
        b, b_length = _text_of(slots, _MSG_TO_NEW, _MSG_TO_OLD)
        return intern(
            buf, tables, entries, counts, TARGETS, TARGET_JOINED, a, a_length, b, b_length, 0, 0
        )
    b, b_length = _text_of(slots, _METHOD, _METHOD)
    while b_length and buf[b + b_length - 1] != 47:
        b_length -= 1
    b_length = max(0, b_length - 1)
    while b_length and buf[b] == 47:
        b, b_length = b + 1, b_length - 1
    if not b_length:
        b, b_length = _text_of(slots, _SERVICE, _SERVICE)
    a, a_length = _text_of(slots, _ADDRESS_NEW, _ADDRESS_OLD)
    if a_length:
        return intern(
            buf, tables, entries, counts, TARGETS, TARGET_JOINED, a, a_length, b, b_length, 0, 0
        )
    a, a_length = _text_of(slots, _URL_NEW, _URL_OLD)
    if a_length:
        a_length = _authority_end(buf, a, a_length)
        return intern(
            buf,
            tables,
            entries,
            counts,
            TARGETS,
            TARGET_BY_URL,
            a,
            a_length,
            b,
            b_length,
            name,
            name_length,
        )
    if b_length:
        return intern(buf, tables, entries, counts, TARGETS, TARGET_JOINED, b, b_length, 0, 0, 0, 0)
    return intern(
        buf, tables, entries, counts, TARGETS, TARGET_BY_NAME, name, name_length, 0, 0, 0, 0
    )


@bare_kernel
def effect_in(buf: Bytes, start: int, length: int) -> int:
    """As `classify.effect_of`: names count in lower case only."""
    number = word_in(buf, start, length, _EFFECT_NAMES, True)
    for i in range(start, start + length):
        if 65 <= buf[i] <= 90:
            return 0
    return max(0, number)
