"""Recordings as one stream of records with their times, in batches: what offline replay is fed.

Each file is read once, in bounded memory; several are merged by record time. A record's time is the
90th percentile of its spans' ends (`rules.record_time`), so it is decoded here; what can't be decoded is
named with file and line, counted and left out.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tidegate.rules.record_time import RecordTime, p90_end_ms
from tidegate.schemas.columns import SpanColumns
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
class Batch:
    """Decoded records and their times."""

    recorded: list[Recorded]
    columns: SpanColumns
    times_ms: list[int] = field(default_factory=list)
    """One for each record, fewer while a jump waits to be confirmed."""

    @property
    def is_settled(self) -> bool:
        """Whether every record has its time."""
        return len(self.times_ms) == len(self.recorded)


@dataclass(slots=True)
class ReplayInput:
    """Iterate once: decoded records with their times in ms, in batches, in the order of time."""

    files: Sequence[str]
    on_problem: Callable[[Problem], None]
    counts: InputCounts = field(default_factory=InputCounts)

    def __iter__(self) -> Iterator[tuple[SpanColumns, list[int]]]:
        """Raises UsageError where a file can't be opened, before anything is read."""
        sources = [(open_recording(file), file) for file in self.files]
        try:
            streams = [self._timed(_Counted(raw, self.counts), file) for raw, file in sources]
            if len(streams) == 1:
                for batch in streams[0]:
                    yield batch.columns, batch.times_ms
            else:
                yield from _merged(streams)
        finally:
            for raw, _ in sources:
                raw.close()

    def _timed(self, raw: _Counted, file: str) -> Iterator[Batch]:
        """One file's batches in order, each once all its times are settled."""
        clock = RecordTime()
        waiting: deque[Batch] = deque()
        for recorded in self._batches(raw, file):
            batch, ends_ms = self._decoded(recorded)
            if not ends_ms:
                continue
            waiting.append(batch)
            for end_ms in ends_ms:
                yield from self._settle(waiting, clock.step(end_ms))
        yield from self._settle(waiting, clock.finish())

    def _decoded(self, recorded: list[Recorded]) -> tuple[Batch, list[int]]:
        """Those of the records that have a span with an end, and its percentile for each. Others say
        nothing about any window, and have no time to say it at.
        """
        columns = decode([one.data for one in recorded])
        self.counts.spans += len(columns.record)
        for index, reason in sorted(columns.record_errors.items()):
            self._bad(recorded[index], reason)
        ends_ms: list[int] = p90_end_ms(columns).tolist()
        if -1 in ends_ms:
            recorded = [one for one, end_ms in zip(recorded, ends_ms, strict=True) if end_ms >= 0]
            ends_ms = [end_ms for end_ms in ends_ms if end_ms >= 0]
            columns = decode([one.data for one in recorded])
        return Batch(recorded, columns), ends_ms

    def _settle(self, waiting: deque[Batch], times_ms: list[int]) -> Iterator[Batch]:
        counts = self.counts
        for time_ms in times_ms:
            counts.first_ms = time_ms if counts.first_ms is None else min(counts.first_ms, time_ms)
            counts.last_ms = time_ms if counts.last_ms is None else max(counts.last_ms, time_ms)
            waiting[0].times_ms.append(time_ms)
            if waiting[0].is_settled:
                yield waiting.popleft()

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


def _merged(streams: Sequence[Iterator[Batch]]) -> Iterator[tuple[SpanColumns, list[int]]]:
    """Records of several files by time; at equal times the file named first comes first. They are
    decoded once more in their new order: a batch's columns share dictionaries.
    """

    def records(stream: Iterator[Batch]) -> Iterator[tuple[int, bytes]]:
        for batch in stream:
            for time_ms, one in zip(batch.times_ms, batch.recorded, strict=True):
                yield time_ms, one.data

    merged = heapq.merge(*map(records, streams), key=lambda pair: pair[0])
    while chunk := list(itertools.islice(merged, BATCH_RECORDS_MAX)):
        yield decode([data for _, data in chunk]), [time_ms for time_ms, _ in chunk]
