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

from tidegate.schemas.compiling import bare_kernel, inlined_kernel
from tidegate.schemas.otlp.interning import RESOURCES, STATES, intern
from tidegate.schemas.otlp.reading import KIND as SLOT_KIND
from tidegate.schemas.otlp.reading import (
    LENGTH,
    NONE,
    RESOURCE_SLOTS,
    SPAN_SLOTS,
    TEXT,
    VALUE,
    Slots,
    key_value,
)
from tidegate.schemas.otlp.span_outcome import effect_of, outcome_of
from tidegate.schemas.otlp.span_target import target_of
from tidegate.schemas.otlp.wire import (
    WIRE_BYTES,
    WIRE_FIXED64,
    WIRE_VARINT,
    Bytes,
    byte_at,
    fixed64,
    fixed64_big_endian,
    skip,
    varint,
)

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
    "SPAN_ID",
    "START_NS",
    "STATE",
    "TARGET",
    "TRACE_HI",
    "TRACE_LO",
    "UNUSUAL",
    "decode_records",
]

OK, UNUSUAL, FULL = 0, 1, 2
"""Of a record: decoded; for protobuf's parser; an output was too small, try again with larger ones."""
COUNTERS = ("invalid_trace_ids", "invalid_span_ids", "invalid_parent_ids", "unknown_service")

# Rows of the outputs, which are stacked (rows, capacity): an array argument costs a reference count.
KIND, OUTCOME, EFFECT = 0, 1, 2
"""Of `small`, uint8."""
RECORD, RESOURCE, TARGET, STATE = 0, 1, 2, 3
"""Of `numbers`, int32; target -1 where nobody is called, state -1 without a trace state."""
START_NS, END_NS, TRACE_HI, TRACE_LO, SPAN_ID, PARENT_ID = 0, 1, 2, 3, 4, 5
"""Of `wide`, uint64."""
_SPAN_NAMES_COUNT, _RESOURCE_NAMES_COUNT = SPAN_SLOTS[1] - 1, RESOURCE_SLOTS[1] - 1


@bare_kernel
def _span(
    buf: Bytes,
    pos: int,
    end: int,
    row: int,
    slots: Slots,
    small: npt.NDArray[np.uint8],
    numbers: npt.NDArray[np.int32],
    wide: npt.NDArray[np.uint64],
    tables: npt.NDArray[np.int32],
    entries: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    counters: npt.NDArray[np.int64],
) -> int:
    """One span into row `row` (record and resource are the caller's). OK, UNUSUAL or FULL."""
    for i in range(_SPAN_NAMES_COUNT):
        slots[SLOT_KIND, np.uint64(i)] = NONE
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
                if not key_value(buf, pos, pos + length, True, slots):
                    return UNUSUAL
            elif field == 1:
                bad_trace = length != 16 and length != 0
                trace_hi, trace_lo = np.uint64(0), np.uint64(0)
                if length == 16:
                    trace_hi = fixed64_big_endian(buf, pos)
                    trace_lo = fixed64_big_endian(buf, pos + 8)
            elif field == 2:
                bad_span = length != 8 and length != 0
                span_id = fixed64_big_endian(buf, pos) if length == 8 else np.uint64(0)
            elif field == 4:
                bad_parent = length != 8 and length != 0
                parent_id = fixed64_big_endian(buf, pos) if length == 8 else np.uint64(0)
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
    outcome = outcome_of(buf, slots, status, message, message_length, first, end)
    if outcome < 0:
        return UNUSUAL
    effect = effect_of(buf, slots)
    target = np.int64(-1)
    if kind == 3 or kind == 4:
        target = target_of(buf, slots, name, name_length, tables, entries, counts)
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
    at = np.uint64(row)
    small[KIND, at] = kind if 0 <= kind <= 5 else 0
    small[OUTCOME, at] = outcome
    small[EFFECT, at] = effect
    wide[START_NS, at], wide[END_NS, at] = start_ns, end_ns
    wide[TRACE_HI, at], wide[TRACE_LO, at] = trace_hi, trace_lo
    wide[SPAN_ID, at], wide[PARENT_ID, at] = span_id, parent_id
    numbers[TARGET, at] = target
    numbers[STATE, at] = number
    return OK


@inlined_kernel
def _status(buf: Bytes, pos: int, end: int) -> tuple[int, int, int, bool]:
    """(code, offset and length of the message, is_ordinary)."""
    code, message, message_length = np.int64(0), np.int64(0), np.int64(0)
    while pos < end:
        tag = byte_at(buf, pos)
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


@bare_kernel
def _resource(
    buf: Bytes,
    pos: int,
    end: int,
    slots: Slots,
    tables: npt.NDArray[np.int32],
    entries: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
) -> int:
    """Number of the resource's (namespace, name, instance); -1 where full, -2 where not ordinary."""
    for i in range(_RESOURCE_NAMES_COUNT):
        slots[SLOT_KIND, i] = NONE
    while pos < end:
        tag, pos = varint(buf, pos, end)
        if pos < 0 or tag > np.uint64(0xFFFFFFFF):
            return -2
        if tag == np.uint64(10):
            length, pos = varint(buf, pos, end)
            if pos < 0 or length > np.uint64(end - pos):
                return -2
            if not key_value(buf, pos, pos + np.int64(length), False, slots):
                return -2
            pos += np.int64(length)
        elif np.int64(tag) >> 3 <= 1:
            return -2
        else:
            pos = skip(buf, pos, end, np.int64(tag) & 7)
            if pos < 0:
                return -2
    for number in range(_RESOURCE_NAMES_COUNT):
        if slots[SLOT_KIND, number] != NONE and slots[SLOT_KIND, number] != TEXT:
            return -2
    instance, instance_length = np.int64(0), np.int64(0)
    for number in range(2, _RESOURCE_NAMES_COUNT):
        if slots[SLOT_KIND, number] == TEXT and slots[LENGTH, number] > 0:
            instance, instance_length = slots[VALUE, number], slots[LENGTH, number]
            break
    name_length = slots[LENGTH, 0] if slots[SLOT_KIND, 0] == TEXT else 0
    space_length = slots[LENGTH, 1] if slots[SLOT_KIND, 1] == TEXT else 0
    return intern(
        buf,
        tables,
        entries,
        counts,
        RESOURCES,
        0,
        slots[VALUE, 1] if space_length else 0,
        space_length,
        slots[VALUE, 0] if name_length else 0,
        name_length,
        instance,
        instance_length,
    )


@bare_kernel
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


@bare_kernel
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
    span_slots: Slots,
    resource_slots: Slots,
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
