"""The quick decoder: a walk over the wire format of a batch of records, without a Python object per span.

Handles what exporters write, in any order of fields, and hands every record that holds something else
(groups, wrong wire types, a message given twice, odd resources) to protobuf's own parser: so only the
ordinary must be right here. What is inside events, links and nested values is skipped, not validated,
and text is not checked for UTF-8: a record that protobuf refuses for such a thing is taken for its good
part. Measured with `make bench`: about 300 bytes and 8 attributes a span, 1,000 spans a record.
"""

# numba compiles these to machine integers, which mypy takes for objects of other types than `int`.
# mypy: disable-error-code="arg-type, assignment, return-value, operator, index, no-any-return"

import numpy as np
import numpy.typing as npt

from tidegate.schemas.otlp.interning import RESOURCES, STATES, TARGETS, intern
from tidegate.schemas.otlp.names import RESOURCE_NAMES, SPAN_NAMES, resource_name, span_name
from tidegate.schemas.otlp.wire import (
    WIRE_BYTES,
    WIRE_FIXED64,
    WIRE_VARINT,
    Bytes,
    compiled,
    fixed64,
    inlined,
    skip,
    varint,
)
from tidegate.schemas.outcome import Effect, Outcome

__all__ = [
    "COUNTERS",
    "EFFECT",
    "END_NS",
    "FULL",
    "KIND",
    "OK",
    "OUTCOME",
    "PARENT_ID",
    "RECORD",
    "RESOURCE",
    "RESOURCE_SLOTS",
    "SPAN_ID",
    "SPAN_SLOTS",
    "START_NS",
    "STATE",
    "TARGET",
    "TARGET_BY_NAME",
    "TARGET_BY_URL",
    "TRACE_HI",
    "TRACE_LO",
    "UNUSUAL",
    "decode_records",
]

OK, UNUSUAL, FULL = 0, 1, 2
"""Of a record: decoded; for protobuf's parser; an output was too small, try again with larger ones."""
TARGET_JOINED, TARGET_BY_URL, TARGET_BY_NAME = 0, 1, 2
COUNTERS = ("invalid_trace_ids", "invalid_span_ids", "invalid_parent_ids", "unknown_service")
_NONE, _TEXT, _INT, _BOOL, _DOUBLE = 0, 1, 2, 3, 4


# Rows of the outputs, which are stacked (rows, capacity): an array argument costs a reference count.
KIND, OUTCOME, EFFECT = 0, 1, 2
"""Of `small`, uint8."""
RECORD, RESOURCE, TARGET, STATE = 0, 1, 2, 3
"""Of `numbers`, int32; target -1 where nobody is called, state -1 without a trace state."""
START_NS, END_NS, TRACE_HI, TRACE_LO, SPAN_ID, PARENT_ID = 0, 1, 2, 3, 4, 5
"""Of `wide`, uint64."""


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
(_METHOD, _SERVICE, _EFFECT) = _numbers("rpc.method", "rpc.service", "tidegate.effect")
_NAMES_COUNT = len(SPAN_NAMES)
_RESOURCE_COUNT = len(RESOURCE_NAMES)

_GRPC_NAMES = np.frombuffer(
    b"OK\0CANCELLED\0UNKNOWN\0INVALID_ARGUMENT\0DEADLINE_EXCEEDED\0NOT_FOUND\0ALREADY_EXISTS\0"
    b"PERMISSION_DENIED\0RESOURCE_EXHAUSTED\0FAILED_PRECONDITION\0ABORTED\0OUT_OF_RANGE\0"
    b"UNIMPLEMENTED\0INTERNAL\0UNAVAILABLE\0DATA_LOSS\0UNAUTHENTICATED\0",
    np.uint8,
)
_EFFECT_NAMES = np.frombuffer(b"".join(e.name.lower().encode() + b"\0" for e in Effect), np.uint8)
_TIMEOUT_WORDS = np.frombuffer(b"timeout\0timed out\0deadline\0", np.uint8)
_EXCEPTION = np.frombuffer(b"exception\0", np.uint8)
_EXCEPTION_TYPE = np.frombuffer(b"exception.type\0", np.uint8)
_TRUE = np.frombuffer(b"true\0", np.uint8)

_GRPC_OUTCOMES = np.array(
    [
        {
            0: Outcome.OK,
            1: Outcome.CANCELLED,
            4: Outcome.TIMEOUT,
            8: Outcome.THROTTLED,
            2: Outcome.SERVER_ERROR,
            12: Outcome.SERVER_ERROR,
            13: Outcome.SERVER_ERROR,
            14: Outcome.SERVER_ERROR,
            15: Outcome.SERVER_ERROR,
        }.get(code, Outcome.CLIENT_ERROR)
        for code in range(17)
    ],
    np.uint8,
)
_OK, _CLIENT_ERROR, _CANCELLED, _THROTTLED, _SERVER_ERROR, _TIMEOUT = (int(o) for o in Outcome)

_Slots = npt.NDArray[np.int64]
"""(names + 1, 3): type, number or offset, length, by the number of a name; the last row is scratch."""
SPAN_SLOTS, RESOURCE_SLOTS = (_NAMES_COUNT + 1, 3), (_RESOURCE_COUNT + 1, 3)


@inlined
def _lower(byte: int) -> int:
    return byte + 32 if 65 <= byte <= 90 else byte


@compiled
def _word_in(buf: Bytes, start: int, length: int, words: Bytes, whole: bool) -> int:
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


@inlined
def _value(buf: Bytes, pos: int, end: int, slots: _Slots, number: int) -> bool:
    """Reads the AnyValue at pos..end into slots[number] = (type, number or offset, length). A value that
    is no scalar leaves the slot as it is. False for what isn't ordinary."""
    kind, one, two = _NONE, np.int64(0), np.int64(0)
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
            kind, one, two = _TEXT, np.int64(pos), np.int64(length)
            pos += np.int64(length)
        elif (field == 2 or field == 3) and wire == WIRE_VARINT:
            value, pos = varint(buf, pos, end)
            if pos < 0:
                return False
            kind = _BOOL if field == 2 else _INT
            one = np.int64(value != 0) if field == 2 else np.int64(value)
        elif field == 4 and wire == WIRE_FIXED64:
            if pos + 8 > end:
                return False
            kind, pos = _DOUBLE, pos + 8
        elif 5 <= field <= 7 and wire == WIRE_BYTES:
            if kind != _NONE:
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
    if kind != _NONE:
        slots[number, 0], slots[number, 1], slots[number, 2] = kind, one, two
    return True


@inlined
def _key_value(buf: Bytes, pos: int, end: int, is_span: bool, slots: _Slots) -> bool:
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
    return _value(buf, value, value_end, slots, number)


@inlined
def _code(buf: Bytes, slots: _Slots, number: int) -> int:
    """A status code as a number 1..999, else 0."""
    if slots[number, 0] == _INT:
        value = slots[number, 1]
        return value if 0 < value < 1000 else 0
    if slots[number, 0] == _TEXT and 0 < slots[number, 2] <= 3:
        value = np.int64(0)
        for i in range(slots[number, 1], slots[number, 1] + slots[number, 2]):
            digit = np.int64(buf[i]) - 48
            if digit < 0 or digit > 9:
                return 0
            value = value * 10 + digit
        return value
    return 0


@compiled
def _grpc(buf: Bytes, slots: _Slots) -> int:
    """The gRPC status 0..16 by the newest name that is there, else -1."""
    for number in range(_GRPC_FIRST, _GRPC_FIRST + _GRPC_COUNT):
        kind, one, length = slots[number, 0], slots[number, 1], slots[number, 2]
        if kind == _NONE:
            continue
        if kind == _INT:
            return one if 0 <= one <= 16 else -1
        if kind == _TEXT and length > 0:
            if length <= 2 and 48 <= buf[one] <= 57:
                value = np.int64(buf[one]) - 48
                if length == 2:
                    if not 48 <= buf[one + 1] <= 57:
                        return -1
                    value = value * 10 + np.int64(buf[one + 1]) - 48
                return value if value <= 16 else -1
            return _word_in(buf, one, length, _GRPC_NAMES, True)
        return -1
    return -1


@compiled
def _names_timeout(buf: Bytes, slots: _Slots) -> bool:
    return slots[_ERROR_TYPE, 0] == _TEXT and (
        _word_in(buf, slots[_ERROR_TYPE, 1], slots[_ERROR_TYPE, 2], _TIMEOUT_WORDS, False) >= 0
    )


@compiled
def _exception(buf: Bytes, pos: int, end: int, slots: _Slots) -> tuple[int, int, bool]:
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
                    is_exception = np.int64(size) == 9 and _same(buf, pos, _EXCEPTION)
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


@inlined
def _same(buf: Bytes, start: int, word: Bytes) -> bool:
    for i in range(len(word) - 1):  # noqa: SIM110 - numba has no generators
        if buf[start + i] != word[i]:
            return False
    return True


@compiled
def _exception_type(buf: Bytes, pos: int, end: int, slots: _Slots) -> tuple[int, int, bool]:
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
            is_it = np.int64(length) == len(_EXCEPTION_TYPE) - 1 and _same(
                buf, pos, _EXCEPTION_TYPE
            )
        elif value >= 0:
            return -1, 0, False
        else:
            value, value_end = pos, pos + np.int64(length)
        pos += np.int64(length)
    if not is_it or value < 0:
        return -1, 0, True
    slots[_NAMES_COUNT, 0] = _NONE
    if not _value(buf, value, value_end, slots, _NAMES_COUNT):
        return -1, 0, False
    if slots[_NAMES_COUNT, 0] != _TEXT:
        return value, 0, True
    return slots[_NAMES_COUNT, 1], slots[_NAMES_COUNT, 2], True


@compiled
def _outcome(
    buf: Bytes,
    slots: _Slots,
    status: int,
    message: int,
    message_length: int,
    span: int,
    span_end: int,
) -> int:
    """As `classify.outcome_of`; -1 where the span holds something that isn't ordinary."""
    http = _code(buf, slots, _HTTP_NEW if slots[_HTTP_NEW, 0] != _NONE else _HTTP_OLD)
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
        is_flagged = (kind == _BOOL and one != 0) or (
            kind == _TEXT and _word_in(buf, one, length, _TRUE, True) >= 0
        )
        kind = slots[_ERROR_TYPE, 0]
        has_type = kind != _NONE and not (kind == _TEXT and slots[_ERROR_TYPE, 2] == 0)
        if status != 0 or not (is_flagged or has_type):
            return _OK
    if _names_timeout(buf, slots):
        return _TIMEOUT
    if message_length and _word_in(buf, message, message_length, _TIMEOUT_WORDS, False) >= 0:
        return _TIMEOUT
    start, length, is_ordinary = _exception(buf, span, span_end, slots)
    if not is_ordinary:
        return -1
    if length and _word_in(buf, start, length, _TIMEOUT_WORDS, False) >= 0:
        return _TIMEOUT
    return _SERVER_ERROR


@inlined
def _text_of(slots: _Slots, new: int, old: int) -> tuple[int, int]:
    """(offset, length) of the first of two names that is there, if it is text; else (0, 0)."""
    number = new if slots[new, 0] != _NONE else old
    if slots[number, 0] == _TEXT:
        return slots[number, 1], slots[number, 2]
    return 0, 0


@compiled
def _target(
    buf: Bytes,
    slots: _Slots,
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


@inlined
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


@inlined
def _id(buf: Bytes, pos: int, length: int) -> np.uint64:
    """Eight big-endian bytes; the caller has checked the length."""
    value = np.uint64(0)
    for i in range(length):
        value = value << np.uint64(8) | np.uint64(buf[pos + i])
    return value


@compiled
def _span(
    buf: Bytes,
    pos: int,
    end: int,
    row: int,
    slots: _Slots,
    small: npt.NDArray[np.uint8],
    numbers: npt.NDArray[np.int32],
    wide: npt.NDArray[np.uint64],
    tables: npt.NDArray[np.int32],
    entries: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    counters: npt.NDArray[np.int64],
) -> int:
    """One span into row `row` (record and resource are the caller's). OK, UNUSUAL or FULL."""
    for i in range(_NAMES_COUNT):
        slots[i, 0] = _NONE
    first = pos
    name, name_length, state, state_length = 0, 0, 0, 0
    status, message, message_length, has_status = 0, 0, 0, False
    kind = np.int64(0)
    trace_hi, trace_lo = np.uint64(0), np.uint64(0)
    span_id, parent_id = np.uint64(0), np.uint64(0)
    start_ns, end_ns = np.uint64(0), np.uint64(0)
    bad_trace, bad_span, bad_parent = 0, 0, 0
    while pos < end:
        tag, pos = varint(buf, pos, end)
        if pos < 0 or tag > np.uint64(0xFFFFFFFF):
            return UNUSUAL
        field, wire = np.int64(tag) >> 3, np.int64(tag) & 7
        if wire == WIRE_BYTES:
            raw, pos = varint(buf, pos, end)
            if pos < 0 or raw > np.uint64(end - pos):
                return UNUSUAL
            length = np.int64(raw)
            if field == 9:
                if not _key_value(buf, pos, pos + length, True, slots):
                    return UNUSUAL
            elif field == 1:
                bad_trace = length != 16 and length != 0
                trace_hi = _id(buf, pos, 8) if length == 16 else np.uint64(0)
                trace_lo = _id(buf, pos + 8, 8) if length == 16 else np.uint64(0)
            elif field == 2:
                bad_span = length != 8 and length != 0
                span_id = _id(buf, pos, 8) if length == 8 else np.uint64(0)
            elif field == 4:
                bad_parent = length != 8 and length != 0
                parent_id = _id(buf, pos, 8) if length == 8 else np.uint64(0)
            elif field == 5:
                name, name_length = pos, length
            elif field == 3:
                state, state_length = pos, length
            elif field == 15:
                if has_status:
                    return UNUSUAL
                has_status = True
                status, message, message_length, is_ordinary = _status(buf, pos, pos + length)
                if not is_ordinary:
                    return UNUSUAL
            elif field == 0 or field == 6 or field == 7 or field == 8:
                return UNUSUAL
            pos += length
        elif wire == WIRE_FIXED64 and (field == 7 or field == 8):
            if pos + 8 > end:
                return UNUSUAL
            if field == 7:
                start_ns = fixed64(buf, pos)
            else:
                end_ns = fixed64(buf, pos)
            pos += 8
        elif wire == WIRE_VARINT and field == 6:
            raw, pos = varint(buf, pos, end)
            if pos < 0:
                return UNUSUAL
            kind = np.int64(np.int32(raw & np.uint64(0xFFFFFFFF)))
        elif field > 16 or field == 10 or field == 12 or field == 14 or field == 16:
            pos = skip(buf, pos, end, wire)
            if pos < 0:
                return UNUSUAL
        else:
            return UNUSUAL
    outcome = _outcome(buf, slots, status, message, message_length, first, end)
    if outcome < 0:
        return UNUSUAL
    effect = np.int64(0)
    if slots[_EFFECT, 0] == _TEXT:
        effect = _exact_effect(buf, slots[_EFFECT, 1], slots[_EFFECT, 2])
    target = np.int64(-1)
    if kind == 3 or kind == 4:
        target = _target(buf, slots, name, name_length, tables, entries, counts)
        if target < 0:
            return FULL
    number = np.int64(-1)
    if state_length:
        number = intern(buf, tables, entries, counts, STATES, 0, state, state_length, 0, 0, 0, 0)
        if number < 0:
            return FULL
    counters[0] += bad_trace
    counters[1] += bad_span
    counters[2] += bad_parent
    small[KIND, row] = kind if 0 <= kind <= 5 else 0
    small[OUTCOME, row] = outcome
    small[EFFECT, row] = effect
    wide[START_NS, row], wide[END_NS, row] = start_ns, end_ns
    wide[TRACE_HI, row], wide[TRACE_LO, row] = trace_hi, trace_lo
    wide[SPAN_ID, row], wide[PARENT_ID, row] = span_id, parent_id
    numbers[TARGET, row] = target
    numbers[STATE, row] = number
    return OK


@compiled
def _exact_effect(buf: Bytes, start: int, length: int) -> int:
    number = _word_in(buf, start, length, _EFFECT_NAMES, True)
    for i in range(start, start + length):
        if 65 <= buf[i] <= 90:
            return 0
    return max(0, number)


@inlined
def _status(buf: Bytes, pos: int, end: int) -> tuple[int, int, int, bool]:
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


@compiled
def _resource(
    buf: Bytes,
    pos: int,
    end: int,
    slots: _Slots,
    tables: npt.NDArray[np.int32],
    entries: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
) -> int:
    """Number of the resource's (namespace, name, instance); -1 where full, -2 where not ordinary."""
    for i in range(_RESOURCE_COUNT):
        slots[i, 0] = _NONE
    while pos < end:
        tag, pos = varint(buf, pos, end)
        if pos < 0 or tag > np.uint64(0xFFFFFFFF):
            return -2
        if tag == np.uint64(10):
            length, pos = varint(buf, pos, end)
            if pos < 0 or length > np.uint64(end - pos):
                return -2
            if not _key_value(buf, pos, pos + np.int64(length), False, slots):
                return -2
            pos += np.int64(length)
        elif np.int64(tag) >> 3 <= 1:
            return -2
        else:
            pos = skip(buf, pos, end, np.int64(tag) & 7)
            if pos < 0:
                return -2
    for number in range(_RESOURCE_COUNT):
        if slots[number, 0] != _NONE and slots[number, 0] != _TEXT:
            return -2
    instance, instance_length = np.int64(0), np.int64(0)
    for number in range(2, _RESOURCE_COUNT):
        if slots[number, 0] == _TEXT and slots[number, 2] > 0:
            instance, instance_length = slots[number, 1], slots[number, 2]
            break
    name_length = slots[0, 2] if slots[0, 0] == _TEXT else 0
    space_length = slots[1, 2] if slots[1, 0] == _TEXT else 0
    return intern(
        buf,
        tables,
        entries,
        counts,
        RESOURCES,
        0,
        slots[1, 1] if space_length else 0,
        space_length,
        slots[0, 1] if name_length else 0,
        name_length,
        instance,
        instance_length,
    )


@compiled
def _find_resource(buf: Bytes, pos: int, end: int) -> tuple[int, int, bool]:
    """(offset, end, is_ordinary) of a ResourceSpans' resource, wherever it stands; empty without one."""
    found, found_end = -1, -1
    while pos < end:
        tag, pos = varint(buf, pos, end)
        if pos < 0 or tag > np.uint64(0xFFFFFFFF) or tag < np.uint64(8):
            return 0, 0, False
        field, wire = np.int64(tag) >> 3, np.int64(tag) & 7
        if field <= 3 and wire != WIRE_BYTES:
            return 0, 0, False
        start = pos
        pos = skip(buf, pos, end, wire)
        if pos < 0:
            return 0, 0, False
        if field == 1:
            if found >= 0:
                return 0, 0, False
            _, found = varint(buf, start, end)
            found_end = pos
    return (max(found, 0), max(found_end, 0), True)


@compiled
def decode_records(
    buf: Bytes,
    bounds: npt.NDArray[np.int64],
    small: npt.NDArray[np.uint8],
    numbers: npt.NDArray[np.int32],
    wide: npt.NDArray[np.uint64],
    tables: npt.NDArray[np.int32],
    entries: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    status: npt.NDArray[np.uint8],
    counters: npt.NDArray[np.int64],
    before: npt.NDArray[np.int64],
    span_slots: _Slots,
    resource_slots: _Slots,
) -> int:
    """Records i = buf[bounds[i]:bounds[i+1]] into the outputs; status[i] says how each went. Returns how many
    spans there are, -1 where an output was too small. `before` and the slots are scratch space."""
    row, capacity = 0, small.shape[1]
    for record in range(len(bounds) - 1):
        first_row = row
        for i in range(len(counters)):
            before[i] = counters[i]
        pos, end = bounds[record], bounds[record + 1]
        status[record] = OK
        while pos < end and status[record] == OK:
            tag, pos = varint(buf, pos, end)
            if pos < 0 or tag != np.uint64(10):
                status[record] = UNUSUAL
                break
            raw, pos = varint(buf, pos, end)
            if pos < 0 or raw > np.uint64(end - pos):
                status[record] = UNUSUAL
                break
            group_end = pos + np.int64(raw)
            start, stop, is_ordinary = _find_resource(buf, pos, group_end)
            if not is_ordinary:
                status[record] = UNUSUAL
                break
            resource = _resource(buf, start, stop, resource_slots, tables, entries, counts)
            if resource == -1:
                return -1
            if resource < 0:
                status[record] = UNUSUAL
                break
            if entries[RESOURCES, resource, 4] == 0:
                counters[3] += 1
            while pos < group_end and status[record] == OK:
                tag, pos = varint(buf, pos, group_end)
                if tag != np.uint64(18):  # not scope_spans; the walk above proved it can be skipped
                    pos = skip(buf, pos, group_end, np.int64(tag) & 7)
                    continue
                raw, pos = varint(buf, pos, group_end)
                scope_end = pos + np.int64(raw)
                while pos < scope_end:
                    tag, pos = varint(buf, pos, scope_end)
                    if pos < 0 or tag < np.uint64(8) or tag > np.uint64(0xFFFFFFFF):
                        status[record] = UNUSUAL
                        break
                    if tag != np.uint64(18):
                        if np.int64(tag) >> 3 <= 3 and np.int64(tag) & 7 != WIRE_BYTES:
                            status[record] = UNUSUAL
                            break
                        pos = skip(buf, pos, scope_end, np.int64(tag) & 7)
                        if pos < 0:
                            status[record] = UNUSUAL
                            break
                        continue
                    raw, pos = varint(buf, pos, scope_end)
                    if pos < 0 or raw > np.uint64(scope_end - pos):
                        status[record] = UNUSUAL
                        break
                    if row >= capacity:
                        return -1
                    went = _span(
                        buf,
                        pos,
                        pos + np.int64(raw),
                        row,
                        span_slots,
                        small,
                        numbers,
                        wide,
                        tables,
                        entries,
                        counts,
                        counters,
                    )
                    if went == FULL:
                        return -1
                    if went != OK:
                        status[record] = UNUSUAL
                        break
                    numbers[RECORD, row] = record
                    numbers[RESOURCE, row] = resource
                    row += 1
                    pos += np.int64(raw)
        if status[record] != OK:
            row = first_row
            for i in range(len(counters)):
                counters[i] = before[i]
    return row
