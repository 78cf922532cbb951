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

from tidegate.schemas.compiling import bare_kernel
from tidegate.schemas.otlp.classifying import EFFECT_NAME, effect_in, outcome_in, target_in
from tidegate.schemas.otlp.interning import RESOURCES, STATES, intern
from tidegate.schemas.otlp.reading import (
    NAMES_COUNT,
    NONE,
    RESOURCE_COUNT,
    TEXT,
    Slots,
    read_attribute,
    read_id,
    read_status,
)
from tidegate.schemas.otlp.wire import (
    WIRE_BYTES,
    WIRE_FIXED64,
    WIRE_VARINT,
    Bytes,
    fixed64,
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
    for i in range(NAMES_COUNT):
        slots[i, 0] = NONE
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
                if not read_attribute(buf, pos, pos + length, True, slots):
                    return UNUSUAL
            elif field == 1:
                bad_trace = length != 16 and length != 0
                trace_hi = read_id(buf, pos, 8) if length == 16 else np.uint64(0)
                trace_lo = read_id(buf, pos + 8, 8) if length == 16 else np.uint64(0)
            elif field == 2:
                bad_span = length != 8 and length != 0
                span_id = read_id(buf, pos, 8) if length == 8 else np.uint64(0)
            elif field == 4:
                bad_parent = length != 8 and length != 0
                parent_id = read_id(buf, pos, 8) if length == 8 else np.uint64(0)
            elif field == 5:
                name, name_length = pos, length
            elif field == 3:
                state, state_length = pos, length
            elif field == 15:
                if has_status:
                    return UNUSUAL
                has_status = True
                status, message, message_length, is_ordinary = read_status(buf, pos, pos + length)
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
    outcome = outcome_in(buf, slots, status, message, message_length, first, end)
    if outcome < 0:
        return UNUSUAL
    effect = np.int64(0)
    if slots[EFFECT_NAME, 0] == TEXT:
        effect = effect_in(buf, slots[EFFECT_NAME, 1], slots[EFFECT_NAME, 2])
    target = np.int64(-1)
    if kind == 3 or kind == 4:
        target = target_in(buf, slots, name, name_length, tables, entries, counts)
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
    for i in range(RESOURCE_COUNT):
        slots[i, 0] = NONE
    while pos < end:
        tag, pos = varint(buf, pos, end)
        if pos < 0 or tag > np.uint64(0xFFFFFFFF):
            return -2
        if tag == np.uint64(10):
            length, pos = varint(buf, pos, end)
            if pos < 0 or length > np.uint64(end - pos):
                return -2
            if not read_attribute(buf, pos, pos + np.int64(length), False, slots):
                return -2
            pos += np.int64(length)
        elif np.int64(tag) >> 3 <= 1:
            return -2
        else:
            pos = skip(buf, pos, end, np.int64(tag) & 7)
            if pos < 0:
                return -2
    for number in range(RESOURCE_COUNT):
        if slots[number, 0] != NONE and slots[number, 0] != TEXT:
            return -2
    instance, instance_length = np.int64(0), np.int64(0)
    for number in range(2, RESOURCE_COUNT):
        if slots[number, 0] == TEXT and slots[number, 2] > 0:
            instance, instance_length = slots[number, 1], slots[number, 2]
            break
    name_length = slots[0, 2] if slots[0, 0] == TEXT else 0
    space_length = slots[1, 2] if slots[1, 0] == TEXT else 0
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
