"""The loop from spans to cells: for each record a join of children to parents, then one cell a request.

Nothing is allocated inside: outputs and scratch come from the caller, so that no array is counted.
Measured with `make bench`, together with the decoder.
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
    HAS_PARENT,
    INHERITED,
    PARENT_FAILED,
    SELF_TIME,
)
from tidegate.schemas.compiling import bare_kernel
from tidegate.schemas.outcome import FAILED_OUTCOMES, Outcome

__all__ = ["CODE", "COUNTERS", "KEY", "RECORD", "TALLY", "TOTALS", "WEIGHT", "fold_records"]

COUNTERS = ("duplicate_spans", "invalid_times", "end_before_start")
TOTALS = 4
"""What `counts` begins with: keys, cells, exemplars, tallies; COUNTERS follow."""
_DUPLICATES, _INVALID, _TURNED = range(TOTALS, TOTALS + len(COUNTERS))
RECORD, KEY, WEIGHT = 0, 1, 2
"""Rows of `cells32`."""
CODE, BIN = 0, 1
"""Rows of `cells16`."""
HEAD, NEXT, SPAN_CODE, SPAN_BIN, SPAN_BUCKET = 0, 1, 2, 3, 4
"""Rows of `scratch`. HEAD is a request's newest call, and a call's request."""
TALLY = ("record", "key", "name", "requests", "failed", "bucket")
"""Rows of `tallies`."""

_BUCKET_NS = BUCKET_MS * 1_000_000
_TIME_MAX = np.uint64((1 << 63) - 1)
_ZERO = np.uint64(0)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_SERVER, _CLIENT, _PRODUCER, _CONSUMER = 2, 3, 4, 5
_FAILED = np.array([o in FAILED_OUTCOMES for o in Outcome] + [False, False])
_NONE, _LEFT_OUT = -1, -2
"""In `scratch[HEAD]`: nothing is linked; a duplicate, or a span with times that can't be."""
_OF_RECORD, _OF_KEY, _OF_NAME, _REQUESTS, _FAILURES, _OF_BUCKET = range(len(TALLY))
_TALLIES_FROM = -2
"""In `table`, once a record is joined: its tally t is -2 - t. What the join left there is larger."""

_STEPS = 32
_FIRST_BIN = np.zeros(64 * _STEPS, np.int64)
"""By (bit length, next five bits): the smallest bin that such a duration may have."""
for _length in range(64):
    for _bits in range(_STEPS):
        _low = ((_STEPS + _bits) << _length) // (2 * _STEPS) if _length else 0
        _FIRST_BIN[_length * _STEPS + _bits] = int(np.searchsorted(EDGES_NS, _low, side="left"))

Ints = npt.NDArray[np.int64]
Counts32 = npt.NDArray[np.int32]
Small = npt.NDArray[np.uint8]
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
    found = _FIRST_BIN[np.uint64(length * _STEPS + bits)]
    while found < BINS_COUNT - 1 and EDGES_NS[np.uint64(found)] < duration_ns:
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
def _is_request(kind: int) -> bool:
    return kind in (_SERVER, _CONSUMER)


@bare_kernel
def _find(
    table: Counts32,
    mask: int,
    kind: Small,
    trace_hi: Wide,
    trace_lo: Wide,
    span_ids: Wide,
    of_trace: int,
    span_id: np.uint64,
    is_request: bool,
) -> int:
    """Place in the table where this span of the trace of span `of_trace` is, or the empty one where it
    would go. A request and a call may share an id (Zipkin's shared spans): they are two."""
    trace = np.uint64(of_trace)
    hi, lo = trace_hi[trace], trace_lo[trace]
    place = np.int64(((span_id ^ (lo * _MIX)) * _MIX) >> np.uint64(33)) & mask
    while True:
        i = np.int64(table[np.uint64(place)])
        if i < 0:
            return place
        other = np.uint64(i)
        if (
            span_ids[other] == span_id
            and trace_lo[other] == lo
            and trace_hi[other] == hi
            and _is_request(kind[other]) == is_request
        ):
            return place
        place = (place + 1) & mask


@bare_kernel
def _key_of(
    pairs: Counts32, mask: int, pair_of: Counts32, counts: Ints, service: int, target: int
) -> int:
    """Number of a (service, target), given out in the order of first use."""
    mixed = np.uint64(service) * np.uint64(0x100000001B3) + np.uint64(target + 1)
    place = np.int64((mixed * _MIX) >> np.uint64(33)) & mask
    while True:
        number = np.int64(pairs[np.uint64(place)])
        if number < 0:
            break
        if pair_of[0, np.uint64(number)] == service and pair_of[1, np.uint64(number)] == target:
            return number
        place = (place + 1) & mask
    number = counts[0]
    pair_of[0, number], pair_of[1, number] = service, target
    pairs[place] = number
    counts[0] = number + 1
    return number


@bare_kernel
def _self_ns(
    parent: int,
    start: int,
    end: int,
    start_ns: Wide,
    end_ns: Wide,
    scratch: Ints,
    lows: Ints,
    highs: Ints,
) -> int:
    """Duration minus the union of the parent's calls inside it."""
    n, child = 0, scratch[HEAD, np.uint64(parent)]
    while child >= 0:
        at = np.uint64(child)
        if start_ns[at] < end_ns[at]:  # so both fit: an end beyond 63 bits was left out
            low, high = max(start, np.int64(start_ns[at])), min(end, np.int64(end_ns[at]))
            if low < high:
                lows[np.uint64(n)], highs[np.uint64(n)] = low, high
                n += 1
        child = scratch[NEXT, at]
    if n > 1:
        _sort(lows, highs, n)
    covered, reached = 0, start
    for i in range(n):
        low, high = max(lows[i], reached), highs[i]
        if high > low:
            covered += high - low
            reached = high
    return end - start - covered


@bare_kernel
def _calls_failed(parent: int, outcome: Small, scratch: Ints) -> bool:
    child = scratch[HEAD, parent]
    while child >= 0:
        if _FAILED[outcome[child]]:
            return True
        child = scratch[NEXT, child]
    return False


@bare_kernel
def _is_better(one: int, other: int, trace_hi: Wide, trace_lo: Wide, scratch: Ints) -> bool:
    """Slower; at the same bin by the larger trace id."""
    if scratch[SPAN_BIN, one] != scratch[SPAN_BIN, other]:
        return scratch[SPAN_BIN, one] > scratch[SPAN_BIN, other]
    if trace_hi[one] != trace_hi[other]:
        return trace_hi[one] > trace_hi[other]
    return trace_lo[one] > trace_lo[other]


@bare_kernel
def _join(
    first: int,
    last: int,
    kind: Small,
    start_ns: Wide,
    end_ns: Wide,
    trace_hi: Wide,
    trace_lo: Wide,
    span_id: Wide,
    parent_id: Wide,
    table: Counts32,
    scratch: Ints,
    counts: Ints,
) -> int:
    """Links the calls of a record to the requests they belong to, and CLIENT spans to each other from there;
    leaves out what can't count. Returns the mask of the table's part that this record takes."""
    size = 2
    while size < 2 * (last - first):
        size *= 2
    mask = size - 1
    for i in range(size):
        table[np.uint64(i)] = -1
    for i in range(first, last):
        at = np.uint64(i)
        scratch[HEAD, at] = _NONE
        if kind[at] < _SERVER:
            continue
        is_request = _is_request(kind[at])
        if span_id[at] != _ZERO:
            place = np.uint64(
                _find(table, mask, kind, trace_hi, trace_lo, span_id, i, span_id[at], is_request)
            )
            if table[place] >= 0:
                scratch[HEAD, at] = _LEFT_OUT
                counts[_DUPLICATES] += 1
                continue
            table[place] = i
        if start_ns[at] == _ZERO or end_ns[at] == _ZERO or end_ns[at] > _TIME_MAX:
            scratch[HEAD, at] = _LEFT_OUT
            counts[_INVALID] += 1
    for i in range(first, last):
        at = np.uint64(i)
        is_call = kind[at] == _CLIENT or kind[at] == _PRODUCER
        if is_call and parent_id[at] != _ZERO and scratch[HEAD, at] != _LEFT_OUT:
            place = _find(table, mask, kind, trace_hi, trace_lo, span_id, i, parent_id[at], True)
            parent = np.int64(table[np.uint64(place)])
            if parent >= 0 and scratch[HEAD, np.uint64(parent)] != _LEFT_OUT:
                if kind[at] == _CLIENT:
                    scratch[NEXT, at] = scratch[HEAD, np.uint64(parent)]
                    scratch[HEAD, np.uint64(parent)] = i
                scratch[HEAD, at] = parent
    return mask


@bare_kernel
def _parent_bits(call: int, outcome: Small, effect: Small, scratch: Ints) -> int:
    """What a failed call's code says of its request: nothing where that isn't in the record."""
    parent = scratch[HEAD, np.uint64(call)]
    if parent < 0 or effect[np.uint64(parent)] != 0:
        return 0
    return HAS_PARENT | (PARENT_FAILED if _FAILED[outcome[np.uint64(parent)]] else 0)


@bare_kernel
def _tally_of(
    tallies: Ints, count: int, table: Counts32, mask: int, key: int, bucket: int, name: int
) -> int:
    """Number of this record's tally of (key, bucket, instance): `count` where it has none yet; that place in
    the table is then taken."""
    mixed = np.uint64(bucket) * np.uint64(0x100000001B3) + np.uint64(name)
    mixed = (mixed * np.uint64(0x100000001B3) + np.uint64(key)) * _MIX
    place = np.int64(mixed >> np.uint64(33)) & mask
    while True:
        number = _TALLIES_FROM - np.int64(table[np.uint64(place)])
        if number < 0:
            table[np.uint64(place)] = _TALLIES_FROM - count
            return count
        at = np.uint64(number)
        if (
            tallies[_OF_BUCKET, at] == bucket
            and tallies[_OF_NAME, at] == name
            and tallies[_OF_KEY, at] == key
        ):
            return number
        place = (place + 1) & mask


@bare_kernel
def fold_records(
    bounds: Ints,
    kind: Small,
    outcome: Small,
    effect: Small,
    service: Counts32,
    instance: Counts32,
    target: Counts32,
    weight: Counts32,
    start_ns: Wide,
    end_ns: Wide,
    trace_hi: Wide,
    trace_lo: Wide,
    span_id: Wide,
    parent_id: Wide,
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
    tallies: Ints,
    counts: Ints,
) -> None:
    """Records are spans bounds[r]..bounds[r+1] of n.

    Out: cells32 (3, 2n), buckets (2n,), cells16 (2, 2n); exemplars (3, 2n): record, key, span; tallies
    (6, n); counts: keys, cells, exemplars, tallies, then COUNTERS. Scratch: table (power of two, at least
    4n), scratch (5, n), lows, highs, touched (n,); with k keys at most: pairs (power of two, at least 2k,
    filled with -1), pair_of (2, k), best, stamp (2k,), stamp filled with -1.
    """
    cell, offered, tallied = 0, 0, 0
    pairs_mask = len(pairs) - 1
    for record in range(len(bounds) - 1):
        first, last = bounds[record], bounds[record + 1]
        mask = _join(
            first,
            last,
            kind,
            start_ns,
            end_ns,
            trace_hi,
            trace_lo,
            span_id,
            parent_id,
            table,
            scratch,
            counts,
        )
        touched_count = 0
        first_tally = tally = tallied
        for i in range(first, last):
            at = np.uint64(i)
            if kind[at] < _SERVER or scratch[HEAD, at] == _LEFT_OUT:
                continue
            end = np.int64(end_ns[at])
            start = end
            if start_ns[at] > end_ns[at]:
                counts[_TURNED] += 1
            else:
                start = np.int64(start_ns[at])
            failed = _FAILED[outcome[at]]
            code = np.int64(outcome[at]) | np.int64(effect[at]) << EFFECT_SHIFT
            is_call = not _is_request(kind[at])
            has_calls = not is_call and effect[at] == 0 and scratch[HEAD, at] >= 0
            if has_calls:
                code |= HAS_CALLS
                if failed and _calls_failed(i, outcome, scratch):
                    code |= INHERITED
            key = _key_of(
                pairs, pairs_mask, pair_of, counts, service[at], target[at] if is_call else -1
            )
            bucket, duration_bin = end // _BUCKET_NS, _bin_of(end - start)
            if is_call:
                if failed and effect[at] == 0:
                    code |= _parent_bits(i, outcome, effect, scratch)
            elif instance[at] >= 0 and effect[at] == 0:
                to = np.uint64(tally)
                # Spans of a resource and bucket mostly stand together.
                if (
                    tallied == first_tally
                    or tallies[_OF_BUCKET, to] != bucket
                    or tallies[_OF_NAME, to] != instance[at]
                    or tallies[_OF_KEY, to] != key
                ):
                    name = np.int64(instance[at])
                    tally = _tally_of(tallies, tallied, table, mask, key, bucket, name)
                    to = np.uint64(tally)
                    if tally == tallied:
                        tallied += 1
                        tallies[_OF_RECORD, to], tallies[_OF_KEY, to] = record, key
                        tallies[_OF_NAME, to], tallies[_OF_BUCKET, to] = name, bucket
                        tallies[_REQUESTS, to], tallies[_FAILURES, to] = 0, 0
                tallies[_REQUESTS, to] += 1
                tallies[_FAILURES, to] += 1 if failed else 0
            to = np.uint64(cell)
            cells32[RECORD, to], cells32[KEY, to], cells32[WEIGHT, to] = record, key, weight[at]
            buckets[to] = bucket
            cells16[CODE, to], cells16[BIN, to] = code, duration_bin
            cell += 1
            if has_calls:
                own = _self_ns(i, start, end, start_ns, end_ns, scratch, lows, highs)
                to = np.uint64(cell)
                cells32[RECORD, to], cells32[KEY, to], cells32[WEIGHT, to] = record, key, weight[at]
                buckets[to] = bucket
                cells16[CODE, to] = np.int64(outcome[at]) | SELF_TIME
                cells16[BIN, to] = _bin_of(own)
                cell += 1
            if (failed or end - start >= EXEMPLAR_SLOW_MIN_NS) and effect[at] == 0:
                if trace_hi[at] == _ZERO and trace_lo[at] == _ZERO:
                    continue
                scratch[SPAN_CODE, at], scratch[SPAN_BIN, at] = code, duration_bin
                scratch[SPAN_BUCKET, at] = bucket
                slot = 2 * key + (1 if failed else 0)
                if stamp[slot] != record:
                    stamp[slot], best[slot] = record, i
                    touched[touched_count] = slot
                    touched_count += 1
                elif _is_better(i, np.int64(best[slot]), trace_hi, trace_lo, scratch):
                    best[slot] = i
        # In the order of their spans: keys are numbered by batch, and a block must not depend on that.
        for k in range(touched_count):
            lows[k] = best[touched[k]]
        _sort(lows, touched, touched_count)
        for k in range(touched_count):
            exemplars[0, offered] = record
            exemplars[1, offered] = touched[k] // 2
            exemplars[2, offered] = lows[k]
            offered += 1
    counts[1], counts[2], counts[3] = cell, offered, tallied
