"""From spans to cells. Pure: a function of each record's bytes; how records are batched changes nothing
but the numbers of keys."""

import threading

import numpy as np
import numpy.typing as npt

from tidegate.rules import fold_kernel as kernel
from tidegate.schemas.cells import Cells, Exemplars, Instances
from tidegate.schemas.columns import SpanColumns

__all__ = ["fold"]


def fold(columns: SpanColumns) -> Cells:
    """Cells of a batch, in the order (record, span)."""
    n = len(columns.record)
    bounds = np.searchsorted(columns.record, np.arange(columns.records_count + 1)).astype(np.int64)
    keys_max = min(n, len(columns.services) * (len(columns.targets) + 2)) + 1
    pairs = np.full(1 << (2 * keys_max).bit_length(), -1, np.int32)
    cells32, buckets = np.empty((3, 2 * n), np.int32), np.empty(2 * n, np.int64)
    cells16, exemplars = np.empty((2, 2 * n), np.uint16), np.empty((3, 2 * n), np.int32)
    counts = np.zeros(kernel.TOTALS + len(kernel.COUNTERS), np.int64)
    pair_of = np.empty((2, keys_max), np.int32)
    space = _space(n)
    kernel.fold_records(
        bounds,
        columns.kind,
        columns.outcome,
        columns.effect,
        columns.service,
        columns.instance,
        columns.target,
        columns.weight,
        columns.start_ns,
        columns.end_ns,
        columns.trace_hi,
        columns.trace_lo,
        columns.span_id,
        columns.parent_id,
        space.table,
        space.scratch,
        space.lows,
        space.highs,
        pairs,
        pair_of,
        np.empty(2 * keys_max, np.int32),
        np.full(2 * keys_max, -1, np.int32),
        space.touched,
        cells32,
        buckets,
        cells16,
        exemplars,
        space.tallies,
        counts,
    )
    keys, cells, offered, tallied = counts[: kernel.TOTALS].tolist()
    names, number = _named(columns, pair_of[:, :keys])
    return Cells(
        record=cells32[kernel.RECORD, :cells],
        # Numbers of pairs are those of keys, unless a call had no target of its own.
        key=cells32[kernel.KEY, :cells]
        if len(names) == keys
        else number[cells32[kernel.KEY, :cells]],
        bucket=buckets[:cells],
        code=cells16[kernel.CODE, :cells],
        bin=cells16[kernel.BIN, :cells],
        count=np.ones(cells, np.int32),
        weight=cells32[kernel.WEIGHT, :cells],
        keys=names,
        exemplars=_exemplars(exemplars[:, :offered], number, space.scratch, columns),
        counters={
            name: count
            for name, count in zip(kernel.COUNTERS, counts[kernel.TOTALS :].tolist(), strict=True)
            if count
        },
        instances=_instances(space.tallies[:, :tallied], number, columns.instances),
    )


_local = threading.local()
_LEAST_SPANS = 4_096


class _Space:
    """Scratch memory that a thread uses again for every batch: fresh pages cost more than the loop."""

    def __init__(self, spans: int) -> None:
        self.spans = spans
        self.table = np.empty(1 << (4 * spans).bit_length(), np.int32)
        self.scratch = np.empty((5, spans), np.int64)
        self.lows, self.highs = np.empty(spans, np.int64), np.empty(spans, np.int64)
        self.touched = np.empty(spans, np.int64)
        self.tallies = np.empty((len(kernel.TALLY), spans), np.int64)


def _space(spans: int) -> _Space:
    """Room for so many spans; what a giant batch took is given back after it."""
    wanted = max(_LEAST_SPANS, spans)
    space: _Space | None = getattr(_local, "space", None)
    if space is None or not wanted <= space.spans <= 16 * wanted:
        space = _local.space = _Space(wanted)
    return space


def _named(
    columns: SpanColumns, pairs: npt.NDArray[np.int32]
) -> tuple[list[tuple[str, str]], npt.NDArray[np.int32]]:
    """(keys, number of each pair among them): a target without a name at all is one of its own."""
    services, targets = columns.services, [*columns.targets, ""]
    numbers: dict[tuple[str, str], int] = {}
    index = [
        numbers.setdefault((services[s], targets[t]), len(numbers)) for s, t in pairs.T.tolist()
    ]
    return list(numbers), np.array(index, np.int32)


def _exemplars(
    picked: npt.NDArray[np.int32],
    number: npt.NDArray[np.int32],
    scratch: npt.NDArray[np.int64],
    columns: SpanColumns,
) -> Exemplars:
    span = picked[2]
    return Exemplars(
        record=picked[0],
        key=number[picked[1]],
        bucket=scratch[kernel.SPAN_BUCKET, span],
        code=scratch[kernel.SPAN_CODE, span].astype(np.uint16),
        bin=scratch[kernel.SPAN_BIN, span].astype(np.uint16),
        trace_hi=columns.trace_hi[span],
        trace_lo=columns.trace_lo[span],
    )


def _instances(
    tallies: npt.NDArray[np.int64], number: npt.NDArray[np.int32], names: list[str]
) -> Instances:
    """Copies: the tallies themselves are scratch."""
    record, key, name, requests, failed, bucket = tallies
    return Instances(
        record.astype(np.int32),
        number[key],
        bucket.copy(),
        name.astype(np.int32),
        requests.astype(np.int32),
        failed.astype(np.int32),
        names,
    )
