"""The time of a record that no broker stamped: the 90th percentile of its spans' ends.

One span from a host with a wrong clock must not move time, so the percentile; nor must one record full
of them, so a jump of more than 60 s counts only once five records in a row confirm it (a recording that
pauses and goes on does jump).
"""

import numpy as np
import numpy.typing as npt

from tidegate.schemas.columns import SpanColumns

__all__ = ["CONFIRM_RECORDS", "JUMP_MS", "RecordTime", "p90_end_ms"]

JUMP_MS = 60_000
CONFIRM_RECORDS = 5
_NS_PER_MS = 1_000_000


def p90_end_ms(columns: SpanColumns) -> npt.NDArray[np.int64]:
    """Per record the 90th percentile (nearest rank) of its spans' ends in ms, -1 without any.

    Shape (records_count,). Spans without an end (0) or beyond int64 nanoseconds have no say.
    """
    times = np.full(columns.records_count, -1, np.int64)
    valid = (columns.end_ns > 0) & (columns.end_ns <= np.uint64(np.iinfo(np.int64).max))
    record = columns.record[valid]
    if not len(record):
        return times
    end_ms = (columns.end_ns[valid] // np.uint64(_NS_PER_MS)).astype(np.int64)
    end_ms = end_ms[np.lexsort((end_ms, record))]
    counts = np.bincount(record, minlength=columns.records_count)
    has_any = counts > 0
    starts = np.cumsum(counts) - counts
    rank = (9 * counts + 9) // 10 - 1  # ceil(0.9 n) - 1, in integers
    times[has_any] = end_ms[(starts + rank)[has_any]]
    return times


class RecordTime:
    """Settles the times of one recording's records, in their order.

    A record that jumps is held until it is confirmed, or refuted by one that doesn't: then it takes
    the time before it. At most CONFIRM_RECORDS - 1 records are held.
    """

    def __init__(self) -> None:
        self._last_ms: int | None = None
        self._held_ms: list[int] = []

    def step(self, end_ms: int) -> list[int]:
        """Takes the next record's percentile (records without spans have no time and are left out)
        and gives the times now settled, for the oldest records without one: none, or all up to this.
        """
        if self._last_ms is None:
            self._last_ms = end_ms
        last_ms, held_ms = self._last_ms, self._held_ms
        if abs(end_ms - last_ms) <= JUMP_MS:
            self._held_ms, self._last_ms = [], end_ms
            return [last_ms] * len(held_ms) + [end_ms]
        refuted = bool(held_ms) and abs(end_ms - held_ms[-1]) > JUMP_MS
        settled = [last_ms] * len(held_ms) if refuted else []
        held_ms = [end_ms] if refuted else [*held_ms, end_ms]
        if len(held_ms) == CONFIRM_RECORDS:
            settled, held_ms, self._last_ms = settled + held_ms, [], end_ms
        self._held_ms = held_ms
        return settled

    def finish(self) -> list[int]:
        """The times of records still held at the end: never confirmed, so the time before them."""
        settled = [self._last_ms or 0] * len(self._held_ms)
        self._held_ms = []
        return settled
