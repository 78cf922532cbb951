"""From spans to cells. Pure: a function of each record's bytes; how records are batched changes nothing
but the numbers of keys."""

import numpy as np
import numpy.typing as npt

from tidegate.rules import fold_kernel as kernel
from tidegate.schemas.cells import Cells, Exemplars
from tidegate.schemas.columns import SpanColumns

__all__ = ["fold"]


def fold(columns: SpanColumns) -> Cells:
    """Cells of a batch, in the order (record, span)."""
    n = len(columns.record)
    bounds = np.searchsorted(columns.record, np.arange(columns.records_count + 1)).astype(np.int64)
    size = 1 << max(2, (4 * n).bit_length())
    cells32, buckets = np.empty((3, 2 * n), np.int32), np.empty(2 * n, np.int64)
    cells16, exemplars = np.empty((2, 2 * n), np.uint16), np.empty((3, 2 * n), np.int32)
    scratch, pair_of = np.empty((5, n), np.int64), np.empty((2, n), np.int32)
    counts = np.zeros(3 + len(kernel.COUNTERS), np.int64)
    wide = np.stack(
        (
            columns.start_ns,
            columns.end_ns,
            columns.trace_hi,
            columns.trace_lo,
            columns.span_id,
            columns.parent_id,
        )
    )
    kernel.fold_records(
        bounds,
        np.stack((columns.kind, columns.outcome, columns.effect)),
        columns.service,
        columns.target,
        columns.weight,
        wide,
        np.empty(size, np.int32),
        scratch,
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.full(size, -1, np.int32),
        pair_of,
        np.empty(2 * n, np.int32),
        np.full(2 * n, -1, np.int32),
        np.empty(2 * n, np.int64),
        cells32,
        buckets,
        cells16,
        exemplars,
        counts,
    )
    keys, cells, offered = counts[:3].tolist()
    names, number = _named(columns, pair_of[:, :keys])
    key = number[cells32[kernel.KEY, :cells]]
    return Cells(
        record=cells32[kernel.RECORD, :cells],
        key=key,
        bucket=buckets[:cells],
        code=cells16[kernel.CODE, :cells],
        bin=cells16[kernel.BIN, :cells],
        count=np.ones(cells, np.int32),
        weight=cells32[kernel.WEIGHT, :cells],
        keys=names,
        exemplars=_exemplars(exemplars[:, :offered], number, scratch, wide),
        counters={
            name: count
            for name, count in zip(kernel.COUNTERS, counts[3:].tolist(), strict=True)
            if count
        },
    )


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
    wide: npt.NDArray[np.uint64],
) -> Exemplars:
    span = picked[2]
    return Exemplars(
        record=picked[0],
        key=number[picked[1]],
        bucket=scratch[kernel.SPAN_BUCKET, span],
        code=scratch[kernel.SPAN_CODE, span].astype(np.uint16),
        bin=scratch[kernel.SPAN_BIN, span].astype(np.uint16),
        trace_hi=wide[kernel.TRACE_HI, span],
        trace_lo=wide[kernel.TRACE_LO, span],
    )
