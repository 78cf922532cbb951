"""Spans of the loop, and the columns that the decoder would make of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tidegate.schemas.cells import WEIGHT_ONE
from tidegate.schemas.columns import SpanColumns
from tidegate.schemas.outcome import Effect, Outcome, SpanKind

__all__ = ["BASE_MS", "RawSpan", "columns_of", "ns_of"]

BASE_MS = 1_750_000_000_000
"""When virtual time begins, a multiple of 500."""


class RawSpan(NamedTuple):
    """Times in ms since the loop began."""

    service: str
    kind: SpanKind
    target: str
    start_ms: float
    end_ms: float
    outcome: Outcome
    effect: Effect
    trace: int
    span: int
    parent: int


def columns_of(records: Sequence[Sequence[RawSpan]]) -> SpanColumns:
    """As the decoder would give them."""
    spans = [span for record in records for span in record]
    services = sorted({span.service for span in spans})
    targets = sorted({span.target for span in spans if span.target})
    service = {name: number for number, name in enumerate(services)}
    target = {name: number for number, name in enumerate(targets)} | {"": -1}
    n = len(spans)
    return SpanColumns(
        records_count=len(records),
        record=np.repeat(np.arange(len(records), dtype=np.int32), [len(r) for r in records]),
        service=np.array([service[s.service] for s in spans], np.int32),
        instance=np.full(n, -1, np.int32),
        kind=np.array([s.kind for s in spans], np.uint8),
        outcome=np.array([s.outcome for s in spans], np.uint8),
        effect=np.array([s.effect for s in spans], np.uint8),
        start_ns=np.array([ns_of(s.start_ms) for s in spans], np.uint64),
        end_ns=np.array([ns_of(s.end_ms) for s in spans], np.uint64),
        trace_hi=np.ones(n, np.uint64),
        trace_lo=np.array([s.trace for s in spans], np.uint64),
        span_id=np.array([s.span for s in spans], np.uint64),
        parent_id=np.array([s.parent for s in spans], np.uint64),
        target=np.array([target[s.target] for s in spans], np.int32),
        weight=np.full(n, WEIGHT_ONE, np.int32),
        services=services,
        instances=[],
        targets=targets,
    )


def ns_of(ms: float) -> int:
    """Since the Unix epoch, whole microseconds."""
    return (BASE_MS * 1000 + int(ms * 1000.0)) * 1000
