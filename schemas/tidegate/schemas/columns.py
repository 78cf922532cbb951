"""Spans as columns: what the decoder hands to the fold, for a batch of Kafka records at once."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["SpanColumns"]


@dataclass(slots=True)
class SpanColumns:
    """n spans of a batch of records, in record order; within a record in the order they were written.

    Every kind is kept, INTERNAL too (the fold skips it). A record that can't be decoded contributes
    no span at all and has an entry in `record_errors`.
    """

    records_count: int
    record: npt.NDArray[np.int32]
    """Index of the record in the batch, ascending, shape (n,) as all below."""
    service: npt.NDArray[np.int32]
    """Index into `services`."""
    instance: npt.NDArray[np.int32]
    """Index into `instances`, -1 where the resource names none."""
    kind: npt.NDArray[np.uint8]
    outcome: npt.NDArray[np.uint8]
    effect: npt.NDArray[np.uint8]
    start_ns: npt.NDArray[np.uint64]
    end_ns: npt.NDArray[np.uint64]
    trace_hi: npt.NDArray[np.uint64]
    trace_lo: npt.NDArray[np.uint64]
    span_id: npt.NDArray[np.uint64]
    """8 bytes read big-endian; 0 where missing or of a wrong length."""
    parent_id: npt.NDArray[np.uint64]
    target: npt.NDArray[np.int32]
    """Index into `targets` for CLIENT and PRODUCER spans, else -1."""
    weight: npt.NDArray[np.int32]
    """Adjusted count from `tracestate` ot=th, fixed point, 64 = 1."""
    services: list[str]
    instances: list[str]
    targets: list[str]
    record_errors: dict[int, str] = field(default_factory=dict)
    """Record index -> why it can't be decoded (for the dead-letter header)."""
    counters: dict[str, int] = field(default_factory=dict)
    """Named oddities that were mended or skipped: invalid ids, missing resource, cut names, ..."""
