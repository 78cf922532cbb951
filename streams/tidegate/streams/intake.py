"""What ingest has read and not sent yet: blocks in the packer, spans of sampled traces, and records for the
dead-letter topic."""

from typing import TYPE_CHECKING

import numpy as np
from confluent_kafka import Message

from tidegate.rules.fold import fold
from tidegate.rules.packing import PackedRecord, Packer, SourceMark
from tidegate.rules.pairs import PairsPacker, sampled_spans
from tidegate.schemas.otlp import decode
from tidegate.schemas.partials import Source
from tidegate.streams.in_step import Batch

if TYPE_CHECKING:
    from tidegate.streams.metrics import WorkerMetrics

__all__ = ["Intake"]

BATCH_BYTES = 16 * 1_048_576
RECORDS_PER_BATCH = (50, 20_000)
DEAD_BYTES_MAX = 256 * 1_048_576


class Intake:
    """Decodes, folds and packs. Holds at most about `cells_max` cells, if its owner heeds `is_full`."""

    def __init__(
        self,
        metrics: "WorkerMetrics",
        *,
        partitions_count: int,
        pairs_partitions_count: int,
        cells_max: int,
    ) -> None:
        """partitions_count: of partials. pairs_partitions_count: 0 where nothing is sent to pairing."""
        self._metrics = metrics
        self._cells_max = cells_max
        self._packer = Packer(partitions_count)
        self._pairs = PairsPacker(pairs_partitions_count) if pairs_partitions_count else None
        self._dead: list[tuple[Message, str]] = []
        self._dead_bytes = 0
        self.batch_records = 1_000
        """How many records should be fetched at once, by the size of those that came."""

    @property
    def partitions_count(self) -> int:
        """Of partials."""
        return self._packer.partitions_count

    @property
    def cells_count(self) -> int:
        """Cells and exemplars held."""
        return self._packer.cells_count

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be read."""
        return self.cells_count > self._cells_max or self._dead_bytes > DEAD_BYTES_MAX

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to send."""
        return not self.cells_count and not self._dead and not self._pairs

    def add(self, batch: Batch[Message], source_id: str) -> None:
        """Takes records of the spans topic, which goes by `source_id` in blocks."""
        values = [message.value() or b"" for message in batch.item]
        columns = decode(values)
        cells = fold(columns)
        sources = {p: self._packer.source_index(Source(source_id, p)) for p in set(batch.partition)}
        self._packer.add(
            cells,
            source=np.array([sources[p] for p in batch.partition], np.int32),
            offset=np.array(batch.offset, np.int64),
            kafka_ms=np.array(batch.kafka_ms, np.int64),
        )
        if self._pairs is not None:
            self._pairs.add(columns, sampled_spans(columns))
        for index, reason in columns.record_errors.items():
            self._dead.append((batch.item[index], reason))
            self._dead_bytes += len(values[index])
        size = sum(map(len, values))
        least, most = RECORDS_PER_BATCH
        fitting = BATCH_BYTES * len(values) // max(1, size)
        self.batch_records = max(least, min(most, fitting))
        metrics = self._metrics
        metrics.records.inc(len(values))
        metrics.bytes.inc(size)
        metrics.spans.inc(len(columns.record))
        metrics.undecodable.inc(len(columns.record_errors))
        for counters in (columns.counters, cells.counters):
            for kind, count in counters.items():
                metrics.oddities.labels(kind).inc(count)

    def flush_pairs(self) -> list[PackedRecord]:
        """Records of pairs: all that is held."""
        if self._pairs is None:
            return []
        if self._pairs.left_out:
            self._metrics.oddities.labels("pairs_left_out").inc(self._pairs.left_out)
            self._pairs.left_out = 0
        return self._pairs.flush()

    def flush(
        self, marks: list[SourceMark], listed: list[tuple[str, int]]
    ) -> tuple[list[PackedRecord], list[tuple[Message, str]]]:
        """(records of partials, dead letters with their reasons): all that is held of them."""
        dead, self._dead, self._dead_bytes = self._dead, [], 0
        return self._packer.flush(marks, listed=listed), dead

    def forget(self) -> None:
        """Drops what is held: others read it."""
        self._packer.forget()
        if self._pairs is not None:
            self._pairs.forget()
        self._dead, self._dead_bytes = [], 0
