"""The fold once more, one span at a time, with dictionaries and lists: the oracle of `rules.fold`."""

from collections import Counter, defaultdict
from typing import Any

import numpy as np

from tidegate.schemas.bins import bin_of_ns
from tidegate.schemas.cells import (
    BUCKET_MS,
    EFFECT_SHIFT,
    EXEMPLAR_SLOW_MIN_NS,
    HAS_CALLS,
    HAS_PARENT,
    INHERITED,
    PARENT_FAILED,
    SELF_TIME,
    Cells,
    Exemplars,
    Instances,
)
from tidegate.schemas.columns import SpanColumns
from tidegate.schemas.outcome import FAILED_OUTCOMES, SpanKind

__all__ = ["fold"]

_BUCKET_NS = BUCKET_MS * 1_000_000
_REQUESTS = (SpanKind.SERVER, SpanKind.CONSUMER)
_CALLS = (SpanKind.CLIENT, SpanKind.PRODUCER)
_TIME_MAX_NS = (1 << 63) - 1
_CELL_TYPES = (np.int32, np.int32, np.int64, np.uint16, np.uint16, np.int32, np.int32)
_EXEMPLAR_TYPES = (np.int32, np.int32, np.int64, np.uint16, np.uint16, np.uint64, np.uint64)


def fold(columns: SpanColumns) -> Cells:
    """Cells of a batch, in the order (record, span)."""
    cells: list[tuple[int, ...]] = []
    offered: list[tuple[int, ...]] = []
    tallies: dict[tuple[int, int, int, int], list[int]] = {}
    keys: dict[tuple[str, str], int] = {}
    counters: Counter[str] = Counter()
    bounds = np.searchsorted(columns.record, np.arange(columns.records_count + 1)).tolist()
    for record in range(columns.records_count):
        spans = range(bounds[record], bounds[record + 1])
        _fold_record(columns, record, spans, keys, cells, offered, tallies, counters)
    cell_columns: list[Any] = list(zip(*cells, strict=True)) or [()] * len(_CELL_TYPES)
    exemplar_columns: list[Any] = list(zip(*offered, strict=True)) or [()] * len(_EXEMPLAR_TYPES)
    arrays: list[Any] = [np.array(c, t) for c, t in zip(cell_columns, _CELL_TYPES, strict=True)]
    picked: list[Any] = [
        np.array(c, t) for c, t in zip(exemplar_columns, _EXEMPLAR_TYPES, strict=True)
    ]
    names = ("record", "key", "bucket", "code", "bin", "count", "weight")
    columns_by_name: dict[str, Any] = dict(zip(names, arrays, strict=True))
    return Cells(
        keys=list(keys),
        exemplars=Exemplars(*picked),
        counters=dict(counters),
        instances=_instances(tallies, columns.instances),
        **columns_by_name,
    )


def _instances(tallies: dict[tuple[int, int, int, int], list[int]], names: list[str]) -> Instances:
    rows = [(*where, *counted) for where, counted in tallies.items()]
    record, key, bucket, name, requests, failed = zip(*rows, strict=True) if rows else [()] * 6
    return Instances(
        np.array(record, np.int32),
        np.array(key, np.int32),
        np.array(bucket, np.int64),
        np.array(name, np.int32),
        np.array(requests, np.int32),
        np.array(failed, np.int32),
        names,
    )


def _fold_record(
    columns: SpanColumns,
    record: int,
    spans: range,
    keys: dict[tuple[str, str], int],
    cells: list[tuple[int, ...]],
    offered: list[tuple[int, ...]],
    tallies: dict[tuple[int, int, int, int], list[int]],
    counters: Counter[str],
) -> None:
    seen: set[tuple[int, int, int, bool]] = set()
    kept = []
    children: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    requests: dict[tuple[int, int, int], int] = {}
    for i in spans:
        kind = int(columns.kind[i])
        if kind not in _REQUESTS and kind not in _CALLS:
            continue
        name = (*_trace(columns, i), int(columns.span_id[i]), kind in _REQUESTS)
        if name[2] and name in seen:
            counters["duplicate_spans"] += 1
            continue
        seen.add(name)
        start, end = int(columns.start_ns[i]), int(columns.end_ns[i])
        if not start or not 0 < end <= _TIME_MAX_NS:
            counters["invalid_times"] += 1
            continue
        kept.append(i)
        if kind in _REQUESTS and name[2]:
            requests[name[:3]] = i
        parent = int(columns.parent_id[i])
        if kind == SpanKind.CLIENT and parent:
            children[*_trace(columns, i), parent].append(i)
    best: dict[tuple[int, bool], tuple[int, ...]] = {}
    for i in kept:
        kind = int(columns.kind[i])
        start, end = int(columns.start_ns[i]), int(columns.end_ns[i])
        if start > end:
            counters["end_before_start"] += 1
            start = end
        outcome, effect = int(columns.outcome[i]), int(columns.effect[i])
        code = outcome | effect << EFFECT_SHIFT
        target = columns.targets[int(columns.target[i])] if kind in _CALLS else ""
        service = columns.services[int(columns.service[i])]
        span_id = int(columns.span_id[i])
        mine = children.get((*_trace(columns, i), span_id), []) if span_id else []
        mine = [] if kind in _CALLS or effect else mine
        if mine:
            code |= HAS_CALLS
            failed_child = any(int(columns.outcome[c]) in FAILED_OUTCOMES for c in mine)
            if outcome in FAILED_OUTCOMES and failed_child:
                code |= INHERITED
        failed = outcome in FAILED_OUTCOMES
        if kind in _CALLS and failed and not effect:
            caller = requests.get((*_trace(columns, i), int(columns.parent_id[i])))
            if caller is not None and not columns.effect[caller]:
                code |= HAS_PARENT
                if int(columns.outcome[caller]) in FAILED_OUTCOMES:
                    code |= PARENT_FAILED
        key = keys.setdefault((service, target), len(keys))
        bucket, weight = end // _BUCKET_NS, int(columns.weight[i])
        instance = int(columns.instance[i])
        if kind in _REQUESTS and not effect and instance >= 0:
            counted = tallies.setdefault((record, key, bucket, instance), [0, 0])
            counted[0] += 1
            counted[1] += failed
        duration_bin = _bin(end - start)
        cells.append((record, key, bucket, code, duration_bin, 1, weight))
        if mine:
            own = end - start - _covered(columns, mine, start, end)
            self_code = outcome | SELF_TIME
            cells.append((record, key, bucket, self_code, _bin(own), 1, weight))
        trace = _trace(columns, i)
        if any(trace) and not effect and (failed or end - start >= EXEMPLAR_SLOW_MIN_NS):
            old = best.get((key, failed))
            if old is None or (duration_bin, *trace) > (old[5], old[6], old[7]):
                best[key, failed] = (i, record, key, bucket, code, duration_bin, *trace)
    offered += [row[1:] for row in sorted(best.values())]


def _trace(columns: SpanColumns, i: int) -> tuple[int, int]:
    return int(columns.trace_hi[i]), int(columns.trace_lo[i])


def _bin(duration_ns: int) -> int:
    return int(bin_of_ns(np.array([duration_ns]))[0])


def _covered(columns: SpanColumns, calls: list[int], start: int, end: int) -> int:
    """Length of the union of the calls' times inside start..end."""
    total, reached = 0, start
    for first, last in sorted((int(columns.start_ns[c]), int(columns.end_ns[c])) for c in calls):
        low, high = max(first, reached), min(last, end)
        if high > low:
            total += high - low
            reached = high
    return total
