"""Cells: what a block is made of. A cell is one request's contribution to one key and bucket.

cell = (key, bucket, code, bin, count, weight). Everything that windows hold (counts per outcome, own
effects, inherited failures, sketches of failed and not-failed durations, self times) is a sum over
cells, so blocks add up and nothing depends on order. One span usually makes one cell: at 1 % bins,
merging equal cells per record saves little and costs a sort. Requests by instance stand beside them:
in the cells they would multiply the keys of every fleet.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = [
    "BUCKET_MS",
    "CODES_COUNT",
    "EFFECT_SHIFT",
    "EXEMPLAR_SLOW_MIN_NS",
    "HAS_CALLS",
    "HAS_PARENT",
    "INHERITED",
    "OUTCOME_MASK",
    "PARENT_FAILED",
    "SELF_TIME",
    "WEIGHT_MAX",
    "WEIGHT_ONE",
    "Cells",
    "Exemplars",
    "Instances",
]

BUCKET_MS = 500
"""A bucket is numbered end_ms // 500 and covers [b*500, b*500 + 500) ms since the Unix epoch."""

OUTCOME_MASK = 0b111
"""Bits 0..2 of `code`: Outcome."""
EFFECT_SHIFT = 3
"""Bits 3..5 of `code`: Effect."""
INHERITED = 1 << 6
"""Bit 6: a failed request whose record also holds a failed CLIENT child of it."""
SELF_TIME = 1 << 7
"""Bit 7: `bin` is a self time, not a duration: no request, counts in no total. Made only for requests
(SERVER, CONSUMER) without effect that have CLIENT children in their record."""
HAS_CALLS = 1 << 8
"""Bit 8, on duration cells: a SELF_TIME cell stands beside this one (else self time = duration)."""
HAS_PARENT = 1 << 9
"""Bit 9: a failed call whose record also holds the request that made it, both without effect."""
PARENT_FAILED = INHERITED
"""Bit 6 beside HAS_PARENT: that request failed too."""
CODES_COUNT = 1 << 10
"""Every code is smaller."""

WEIGHT_ONE = 64
"""Adjusted count of an unsampled span: weights are fixed point with 6 binary digits."""
WEIGHT_MAX = 65_536 * WEIGHT_ONE
"""Larger adjusted counts are capped (and counted): squares of weights must add up within int64."""

EXEMPLAR_SLOW_MIN_NS = 50_000_000
"""Not-failed requests faster than this are never offered as exemplars (fixed per block format)."""


@dataclass(slots=True)
class Exemplars:
    """Candidates for a decision's exemplars: per (record, key) at most one failed request and one slow
    not-failed one (>= 50 ms): each the slowest, ties by the larger trace id. Columns of length m."""

    record: npt.NDArray[np.int32]
    """Index of the record, ascending."""
    key: npt.NDArray[np.int32]
    bucket: npt.NDArray[np.int64]
    code: npt.NDArray[np.uint16]
    bin: npt.NDArray[np.uint16]
    trace_hi: npt.NDArray[np.uint64]
    """First 8 bytes of the trace id, read big-endian."""
    trace_lo: npt.NDArray[np.uint64]
    """Last 8 bytes of the trace id, read big-endian."""

    @classmethod
    def empty(cls) -> "Exemplars":
        """No candidate at all."""
        none32, none16 = np.empty(0, np.int32), np.empty(0, np.uint16)
        ids = np.empty(0, np.uint64)
        return cls(none32, none32, np.empty(0, np.int64), none16, none16, ids, ids)


@dataclass(slots=True)
class Instances:
    """Requests (SERVER, CONSUMER spans without effect) by instance: one row per (record, key, bucket,
    instance), in the order of the first such span. Columns of length r; spans without an instance make none."""

    record: npt.NDArray[np.int32]
    """Index of the record, ascending."""
    key: npt.NDArray[np.int32]
    bucket: npt.NDArray[np.int64]
    name: npt.NDArray[np.int32]
    """Index into `names`."""
    requests: npt.NDArray[np.int32]
    failed: npt.NDArray[np.int32]
    """Those with one of FAILED_OUTCOMES."""
    names: list[str]

    @classmethod
    def empty(cls) -> "Instances":
        """No row at all."""
        none = np.empty(0, np.int32)
        return cls(none, none, np.empty(0, np.int64), none, none, none, [])


@dataclass(slots=True)
class Cells:
    """Cells of a batch of records, as columns of length n, in the order (record, span in record)."""

    record: npt.NDArray[np.int32]
    """Index of the record in the batch, ascending."""
    key: npt.NDArray[np.int32]
    """Index into `keys`."""
    bucket: npt.NDArray[np.int64]
    code: npt.NDArray[np.uint16]
    bin: npt.NDArray[np.uint16]
    """Sketch bin of the duration or self time (`bins.py`)."""
    count: npt.NDArray[np.int32]
    weight: npt.NDArray[np.int32]
    """Adjusted count of each counted span, 64 = 1."""
    keys: list[tuple[str, str]]
    """(service, target); target "" for a service's own requests."""
    exemplars: Exemplars
    counters: dict[str, int] = field(default_factory=dict)
    """Named losses and oddities of the fold: `duplicate_spans`, `invalid_times`, ..."""
    instances: Instances = field(default_factory=Instances.empty)

    def of_records(self, start: int, end: int) -> "Cells":
        """Those of records start..end-1, which become records 0..end-start-1. Keys and names stay as they
        are."""
        first, last = np.searchsorted(self.record, (start, end))
        offered = self.exemplars
        lo, hi = np.searchsorted(offered.record, (start, end))
        seen = self.instances
        low, high = np.searchsorted(seen.record, (start, end))
        return Cells(
            self.record[first:last] - np.int32(start),
            self.key[first:last],
            self.bucket[first:last],
            self.code[first:last],
            self.bin[first:last],
            self.count[first:last],
            self.weight[first:last],
            self.keys,
            Exemplars(
                offered.record[lo:hi] - np.int32(start),
                offered.key[lo:hi],
                offered.bucket[lo:hi],
                offered.code[lo:hi],
                offered.bin[lo:hi],
                offered.trace_hi[lo:hi],
                offered.trace_lo[lo:hi],
            ),
            instances=Instances(
                seen.record[low:high] - np.int32(start),
                seen.key[low:high],
                seen.bucket[low:high],
                seen.name[low:high],
                seen.requests[low:high],
                seen.failed[low:high],
                seen.names,
            ),
        )
