"""The loop from spans to cells: for each record a join of children to parents, then one cell a request.

Nothing is allocated inside: outputs and scratch come from the caller, so that no array is counted.
"""

# numba compiles these to machine integers, which mypy takes for objects of other types than `int`.
# mypy: disable-error-code="arg-type, assignment, return-value, operator, index, no-any-return, call-overload"

import numpy as np
import numpy.typing as npt

from tidegate.schemas.bins import BINS_COUNT, EDGES_NS
from tidegate.schemas.cells import (
    BUCKET_MS,
    EFFECT_SHIFT,
    EXEMPLAR_SLOW_MIN_NS,
    HAS_CALLS,
    INHERITED,
    SELF_TIME,
)
from tidegate.schemas.compiling import bare_kernel
from tidegate.schemas.outcome import FAILED_OUTCOMES, Outcome

__all__ = ["BUCKET", "CODE", "COUNTERS", "KEY", "RECORD", "WEIGHT", "fold_records"]

COUNTERS = ("duplicate_spans", "invalid_times", "end_before_start")
RECORD, KEY, WEIGHT = 0, 1, 2
"""Rows of `cells32`."""
CODE, BIN = 0, 1
"""Rows of `cells16`."""
START_NS, END_NS, TRACE_HI, TRACE_LO, SPAN_ID, PARENT_ID = 0, 1, 2, 3, 4, 5
"""Rows of `wide`."""
HEAD, NEXT, SPAN_CODE, SPAN_BIN, SPAN_BUCKET = 0, 1, 2, 3, 4
"""Rows of `scratch`."""
BUCKET = 0

_BUCKET_NS = BUCKET_MS * 1_000_000
_TIME_MAX = np.uint64((1 << 63) - 1)
_ZERO = np.uint64(0)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_SERVER, _CLIENT, _PRODUCER, _CONSUMER = 2, 3, 4, 5
_FAILED = np.array([o in FAILED_OUTCOMES for o in Outcome] + [False, False])
_DUPLICATE = -2

_STEPS = 32
_FIRST_BIN = np.zeros(64 * _STEPS, np.int64)
"""By (bit length, next five bits): the smallest bin that such a duration may have."""
for _length in range(64):
    for _bits in range(_STEPS):
        _low = ((_STEPS + _bits) << _length) // (2 * _STEPS) if _length else 0
        _FIRST_BIN[_length * _STEPS + _bits] = int(np.searchsorted(EDGES_NS, _low, side="left"))

Ints = npt.NDArray[np.int64]
Counts32 = npt.NDArray[np.int32]
Wide = npt.NDArray[np.uint64]


@bare_kernel
def _bin_of(duration_ns: int) -> int:
    """As `bins.bin_of_ns`: from the bit length and five more bits to a bin, then at most two steps up."""
    x, length = duration_ns, 0
    for shift in (32, 16, 8, 4, 2, 1):
        if x >= (1 << shift):
            x >>= shift
            length += shift
    length += 1 if x else 0
    if length > 6:
        bits = (duration_ns >> (length - 6)) & (_STEPS - 1)
    else:
        bits = (duration_ns << (6 - length)) & (_STEPS - 1)
    found = _FIRST_BIN[length * _STEPS + bits]
    while found < BINS_COUNT - 1 and EDGES_NS[found] < duration_ns:
        found += 1
    return found


@bare_kernel
def _sort(first: Ints, second: Ints, n: int) -> None:
    """Both arrays by the first one, in place (Shell's sort: no memory, and no quadratic worst case)."""
    gap = 1
    while gap < n // 3:
        gap = 3 * gap + 1
    while gap >= 1:
        for i in range(gap, n):
            a, b, j = first[i], second[i], i
            while j >= gap and first[j - gap] > a:
                first[j], second[j] = first[j - gap], second[j - gap]
                j -= gap
            first[j], second[j] = a, b
        gap //= 3


@bare_kernel
def _find(table: Counts32, mask: int, wide: Wide, span_id: np.uint64) -> int:
    """Place in the table where the span id is, or the empty one where it would go."""
    place = np.int64((span_id * _MIX) >> np.uint64(33)) & mask
    while table[place] >= 0 and wide[SPAN_ID, table[place]] != span_id:
        place = (place + 1) & mask
    return place


@bare_kernel
def _key_of(
    pairs: Counts32, mask: int, pair_of: Counts32, counts: Ints, service: int, target: int
) -> int:
    """Number of a (service, target), given out in the order of first use."""
    mixed = np.uint64(service) * np.uint64(0x100000001B3) + np.uint64(target + 1)
    place = np.int64((mixed * _MIX) >> np.uint64(33)) & mask
    while pairs[place] >= 0:
        number = np.int64(pairs[place])
        if pair_of[0, number] == service and pair_of[1, number] == target:
            return number
        place = (place + 1) & mask
    number = counts[0]
    pair_of[0, number], pair_of[1, number] = service, target
    pairs[place] = number
    counts[0] = number + 1
    return number


@bare_kernel
def _self_ns(
    parent: int, start: int, end: int, wide: Wide, scratch: Ints, lows: Ints, highs: Ints
) -> int:
    """Duration minus the union of the parent's calls inside it."""
    n, child = 0, scratch[HEAD, parent]
    while child >= 0:
        low, high = wide[START_NS, child], wide[END_NS, child]
        if low < np.uint64(end) and high > np.uint64(start):
            lows[n] = max(start, np.int64(low))
            highs[n] = end if high > np.uint64(end) else np.int64(high)
            n += 1
        child = scratch[NEXT, child]
    _sort(lows, highs, n)
    covered, reached = 0, start
    for i in range(n):
        low = max(lows[i], reached)
        if highs[i] > low:
            covered += highs[i] - low
            reached = highs[i]
    return end - start - covered


@bare_kernel
def _calls_failed(parent: int, small: npt.NDArray[np.uint8], scratch: Ints) -> bool:
    child = scratch[HEAD, parent]
    while child >= 0:
        if _FAILED[small[1, child]]:
            return True
        child = scratch[NEXT, child]
    return False


@bare_kernel
def fold_records(
    bounds: Ints,
    small: npt.NDArray[np.uint8],
    service: Counts32,
    target: Counts32,
    weight: Counts32,
    wide: Wide,
    table: Counts32,
    scratch: Ints,
    lows: Ints,
    highs: Ints,
    pairs: Counts32,
    pair_of: Counts32,
    best: Counts32,
    stamp: Counts32,
    touched: Ints,
    cells32: Counts32,
    buckets: Ints,
    cells16: npt.NDArray[np.uint16],
    exemplars: Counts32,
    counts: Ints,
) -> None:
    """Records are spans bounds[r]..bounds[r+1]. small (3, n): kind, outcome, effect; wide (6, n).

    Out: cells32 (3, 2n), buckets (2n,), cells16 (2, 2n); exemplars (3, 2n): record, key, span; counts:
    keys, cells, exemplars, then COUNTERS. Scratch: table (power of two, at least 4n), scratch (5, n),
    lows, highs, touched (2n,), pairs (power of two, filled with -1), pair_of (2, n), best, stamp (2n,),
    stamp filled with -1.
    """
    cell, offered = 0, 0
    pairs_mask = len(pairs) - 1
    for record in range(len(bounds) - 1):
        first, last = bounds[record], bounds[record + 1]
        size = 2
        while size < 2 * (last - first):
            size *= 2
        for i in range(size):
            table[i] = -1
        for i in range(first, last):
            scratch[HEAD, i] = -1
            span_id = wide[SPAN_ID, i]
            if span_id != _ZERO:
                place = _find(table, size - 1, wide, span_id)
                if table[place] >= 0:
                    scratch[HEAD, i] = _DUPLICATE
                    counts[3] += 1
                else:
                    table[place] = i
        for i in range(first, last):
            parent_id = wide[PARENT_ID, i]
            if small[0, i] == _CLIENT and parent_id != _ZERO and scratch[HEAD, i] != _DUPLICATE:
                parent = np.int64(table[_find(table, size - 1, wide, parent_id)])
                if parent >= 0:
                    scratch[NEXT, i] = scratch[HEAD, parent]
                    scratch[HEAD, parent] = i
        touched_count = 0
        for i in range(first, last):
            kind = small[0, i]
            if kind < _SERVER or scratch[HEAD, i] == _DUPLICATE:
                continue
            if wide[END_NS, i] == _ZERO or wide[END_NS, i] > _TIME_MAX:
                counts[4] += 1
                continue
            end = np.int64(wide[END_NS, i])
            start = end
            if wide[START_NS, i] > wide[END_NS, i]:
                counts[5] += 1
            else:
                start = np.int64(wide[START_NS, i])
            outcome, effect = np.int64(small[1, i]), np.int64(small[2, i])
            failed = _FAILED[outcome]
            code = outcome | effect << EFFECT_SHIFT
            is_call = kind in (_CLIENT, _PRODUCER)
            has_calls = not is_call and effect == 0 and scratch[HEAD, i] >= 0
            if has_calls:
                code |= HAS_CALLS
                if failed and _calls_failed(i, small, scratch):
                    code |= INHERITED
            key = _key_of(
                pairs, pairs_mask, pair_of, counts, service[i], target[i] if is_call else -1
            )
            bucket, duration_bin = end // _BUCKET_NS, _bin_of(end - start)
            cells32[RECORD, cell], cells32[KEY, cell], cells32[WEIGHT, cell] = (
                record,
                key,
                weight[i],
            )
            buckets[cell] = bucket
            cells16[CODE, cell], cells16[BIN, cell] = code, duration_bin
            cell += 1
            if has_calls:
                own = _self_ns(i, start, end, wide, scratch, lows, highs)
                cells32[RECORD, cell], cells32[KEY, cell] = record, key
                cells32[WEIGHT, cell] = weight[i]
                buckets[cell] = bucket
                cells16[CODE, cell], cells16[BIN, cell] = outcome | SELF_TIME, _bin_of(own)
                cell += 1
            if effect == 0 and (failed or end - start >= EXEMPLAR_SLOW_MIN_NS):
                scratch[SPAN_CODE, i], scratch[SPAN_BIN, i] = code, duration_bin
                scratch[SPAN_BUCKET, i] = bucket
                slot = 2 * key + (1 if failed else 0)
                if stamp[slot] != record:
                    stamp[slot], best[slot] = record, i
                    touched[touched_count] = slot
                    touched_count += 1
                elif _is_better(i, np.int64(best[slot]), wide, scratch):
                    best[slot] = i
        _sort(touched, touched, touched_count)
        for k in range(touched_count):
            slot = touched[k]
            exemplars[0, offered] = record
            exemplars[1, offered] = slot // 2
            exemplars[2, offered] = best[slot]
            offered += 1
    counts[1], counts[2] = cell, offered


@bare_kernel
def _is_better(one: int, other: int, wide: Wide, scratch: Ints) -> bool:
    """Slower; at the same bin by the larger trace id."""
    if scratch[SPAN_BIN, one] != scratch[SPAN_BIN, other]:
        return scratch[SPAN_BIN, one] > scratch[SPAN_BIN, other]
    if wide[TRACE_HI, one] != wide[TRACE_HI, other]:
        return wide[TRACE_HI, one] > wide[TRACE_HI, other]
    return wide[TRACE_LO, one] > wide[TRACE_LO, other]
