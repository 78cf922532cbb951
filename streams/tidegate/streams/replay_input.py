"""Recordings as one stream of records with their times, in batches: what offline replay is fed.

Each file is read once, in bounded memory; several are merged by record time. A record's time is the
90th percentile of its spans' ends (`rules.record_time`), so it is decoded here; what can't be decoded is
named with file and line, counted and left out.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tidegate.rules.record_time import RecordTime, p90_end_ms
from tidegate.schemas.otlp import decode
from tidegate.streams.recordings import Problem, Recorded, open_recording, read_recording
from tidegate.streams.unpacked import ByteSource

__all__ = ["InputCounts", "ReplayInput"]

BATCH_RECORDS_MAX = 512
BATCH_BYTES_MAX = 8 * 1024 * 1024


@dataclass(slots=True)
class InputCounts:
    """What was read so far."""

    records: int = 0
    """Requests found in the files, the undecodable ones too."""
    spans: int = 0
    undecodable: int = 0
    """Pieces of a file that are no request, and requests that can't be decoded."""
    bytes_read: int = 0
    """Of the files as they lie there, packed or not."""
    first_ms: int | None = None
    last_ms: int | None = None

    @property
    def event_s(self) -> float:
        """Seconds of record time covered."""
        return (
            0.0
            if self.first_ms is None or self.last_ms is None
            else (self.last_ms - self.first_ms) / 1000
        )


class _Counted:
    """Counts the bytes of a file as they are read, for the progress bar."""

    def __init__(self, raw: ByteSource, counts: InputCounts) -> None:
        self._raw = raw
        self._counts = counts

    def read(self, size: int, /) -> bytes:
        data = self._raw.read(size)
        self._counts.bytes_read += len(data)
        return data


@dataclass(slots=True)
class ReplayInput:
    """Iterate once: batches of (OTLP bytes, record time in ms), in the order of time."""

    files: Sequence[str]
    on_problem: Callable[[Problem], None]
    counts: InputCounts = field(default_factory=InputCounts)

    def __iter__(self) -> Iterator[list[tuple[bytes, int]]]:
        """Raises UsageError where a file can't be opened, before anything is read."""
        sources = [(open_recording(file), file) for file in self.files]
        try:
            streams = [self._timed(_Counted(raw, self.counts), file) for raw, file in sources]
            batch: list[tuple[bytes, int]] = []
            batch_bytes = 0
            # merge is stable: at equal times the file named first comes first.
            for time_ms, data in heapq.merge(*streams, key=lambda pair: pair[0]):
                batch.append((data, time_ms))
                batch_bytes += len(data)
                if len(batch) >= BATCH_RECORDS_MAX or batch_bytes >= BATCH_BYTES_MAX:
                    yield batch
                    batch, batch_bytes = [], 0
            if batch:
                yield batch
        finally:
            for raw, _ in sources:
                raw.close()

    def _timed(self, raw: _Counted, file: str) -> Iterator[tuple[int, bytes]]:
        clock = RecordTime()
        held: list[bytes] = []
        for batch in self._batches(raw, file):
            columns = decode([recorded.data for recorded in batch])
            self.counts.spans += len(columns.record)
            for index, reason in sorted(columns.record_errors.items()):
                self._bad(batch[index], reason)
            for recorded, end_ms in zip(batch, p90_end_ms(columns).tolist(), strict=True):
                if end_ms < 0:
                    continue  # no span with an end: it says nothing, and has no time to say it at
                held.append(recorded.data)
                yield from self._settled(held, clock.step(end_ms))
        yield from self._settled(held, clock.finish())

    def _settled(self, held: list[bytes], times_ms: list[int]) -> Iterator[tuple[int, bytes]]:
        counts = self.counts
        for time_ms in times_ms:
            counts.first_ms = time_ms if counts.first_ms is None else min(counts.first_ms, time_ms)
            counts.last_ms = time_ms if counts.last_ms is None else max(counts.last_ms, time_ms)
            yield time_ms, held.pop(0)

    def _batches(self, raw: _Counted, file: str) -> Iterator[list[Recorded]]:
        batch: list[Recorded] = []
        batch_bytes = 0
        for recorded in read_recording(raw, file, on_problem=self._problem):
            self.counts.records += 1
            batch.append(recorded)
            batch_bytes += len(recorded.data)
            if len(batch) >= BATCH_RECORDS_MAX or batch_bytes >= BATCH_BYTES_MAX:
                yield batch
                batch, batch_bytes = [], 0
        if batch:
            yield batch

    def _problem(self, problem: Problem) -> None:
        self.counts.undecodable += 1
        self.on_problem(problem)

    def _bad(self, recorded: Recorded, reason: str) -> None:
        remedy = "the record is skipped; expected an ExportTraceServiceRequest"
        self._problem(Problem(recorded.file, recorded.where, reason, remedy))
