"""The stages, wired in one place: OTLP bytes -> columns -> cells -> blocks -> evaluator, and beside them
sampled spans -> pairing -> facts -> evaluator.

Live workers run the first three in ingest and the last in evaluate, with Kafka between; `Offline` runs
them in one go, for replays and tests. The blocks, pairing and the evaluator are the very same.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from tidegate.rules.evaluator import Evaluator, PartitionsChangedError
from tidegate.rules.fold import fold
from tidegate.rules.graph.evaluator import GraphEvaluator
from tidegate.rules.outputs import Outputs
from tidegate.rules.packing import Packer, SourceMark
from tidegate.rules.pairing import LOSSES, Pairing, Told
from tidegate.rules.pairs import PairsPacker, pack_facts, sampled_spans
from tidegate.rules.policy import Policy, load_policy
from tidegate.rules.standing import Snapshot
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.columns import SpanColumns
from tidegate.schemas.control import ControlEntry, ControlRecord, PolicyPush, encode_control
from tidegate.schemas.health import encode_control_for_graph, encode_health
from tidegate.schemas.otlp import decode
from tidegate.schemas.partials import Source, encode_aside
from tidegate.schemas.points import MetricPoint

__all__ = ["Evaluator", "Offline", "Outputs", "PartitionsChangedError", "Snapshot"]

_SOURCE = Source("replay", 0)
_LISTED = ((_SOURCE.topic_id, 1),)


class Offline:
    """All stages on one partition, fed with records in the order of their times.

    A flush follows at every boundary that time crosses, as a live ingest's does: so a record is merged
    before the boundaries that its time closes."""

    def __init__(self, policy: Policy, *, has_graph: bool = True) -> None:
        """has_graph: whether the graph stage runs too."""
        self.policy = policy
        self.records_count = 0
        self.counters: Counter[str] = Counter()
        """Oddities of the input by name, and `undecodable` records."""
        self._packer = Packer(1)
        self._pairs, self._pairing = PairsPacker(1), Pairing()
        self._evaluator = Evaluator(0, policy, partitions_count=1)
        self._graph = GraphEvaluator(policy, partitions_count=1) if has_graph else None
        self._health_offset = 0
        self._log_offset = 0
        self._control_seq = 0
        self._time_ms = 0
        self._flushed = 0

    def feed(self, records: Sequence[tuple[bytes, int]]) -> Outputs:
        """Takes (OTLP bytes, Kafka time in ms) of records in order; undecodable ones are counted."""
        return self.feed_columns(decode([value for value, _ in records]), [t for _, t in records])

    def feed_columns(self, columns: SpanColumns, kafka_ms: Sequence[int]) -> Outputs:
        """The same for spans that are decoded already; kafka_ms: one per record of the batch."""
        self.counters.update(columns.counters)
        self.counters["undecodable"] += len(columns.record_errors)
        cells, sampled = fold(columns), sampled_spans(columns)
        self.counters.update(cells.counters)
        out = Outputs(boundary=self._evaluator.boundary)
        first = self.records_count
        times = np.maximum.accumulate(np.array([self._time_ms, *kafka_ms], np.int64))[1:]
        boundary = (times - self.policy.grace_ms) // BUCKET_MS
        cuts = np.flatnonzero(np.diff(boundary, prepend=self._flushed)) + 1
        start = 0
        for end in dict.fromkeys([*cuts.tolist(), len(times)]):
            if end > start:
                part = cells.of_records(start, end)
                self._packer.add(
                    part,
                    source=np.full(end - start, self._packer.source_index(_SOURCE), np.int32),
                    offset=np.arange(first + start, first + end),
                    kafka_ms=np.array(kafka_ms[start:end], np.int64),
                )
                of_record = columns.record[sampled]
                first_span, last_span = np.searchsorted(of_record, (start, end))
                self._pairs.add(columns, sampled[first_span:last_span])
                self._time_ms = int(times[end - 1])
            start = end
            if end in cuts:
                self._flush(self._time_ms, out)
        self.records_count += len(kafka_ms)
        return out

    def finish(self) -> Outputs:
        """Closes the last buckets: time goes on by the grace and one bucket."""
        out = Outputs(boundary=self._evaluator.boundary)
        if self.records_count:
            self._pair(self._time_ms)
            self._tell(self._pairing.finish(), out)
            self.counters.update({name: self._pairing.counters[name] for name in LOSSES})
            self.counters["pairs_left_out"] += self._pairs.left_out
            self._flush(self._time_ms + self.policy.grace_ms + BUCKET_MS, out)
        return out

    def control(self, record: ControlRecord, at_ms: int) -> Outputs:
        """What an operator asks for, in force from the first boundary at or after `at_ms` (at the next
        one where that lies in the past). Raises PolicyError for a policy that is refused."""
        content = b""
        if isinstance(record, PolicyPush):
            content = load_policy(record.text, where=record.where or "pushed").content()
        entry = ControlEntry(
            "replay", self._control_seq, -(-at_ms // BUCKET_MS), encode_control(record), content
        )
        self._control_seq += 1
        out = Outputs(boundary=self._evaluator.boundary)
        if self._graph is not None:
            self._feed_graph(encode_control_for_graph([entry]), self._time_ms, out)
        out.add(self._evaluate(encode_aside(partitions_count=1, control=[entry]), self._time_ms))
        return out

    def points(self, points: Sequence[MetricPoint]) -> Outputs:
        """Points of metrics, in the order in which they came."""
        newest_ms = max((point.time_ms for point in points), default=0)
        value = encode_aside(partitions_count=1, points=points)
        return self._evaluate(value, max(self._time_ms, newest_ms))

    def _evaluate(self, value: bytes, at_ms: int) -> Outputs:
        """Evaluate's outputs, and what the graph stage makes of its health."""
        out = self._evaluator.feed(value, offset=self._log_offset, append_ms=at_ms)
        self._log_offset += 1
        if self._graph is not None:
            for health in out.health:
                for part in encode_health(health):
                    self._feed_graph(part, health.boundary * BUCKET_MS, out)
            out.decisions.sort(key=lambda decision: (decision.boundary, decision.scope))
        return out

    def _feed_graph(self, value: bytes, at_ms: int, out: Outputs) -> None:
        assert self._graph is not None
        out.add_beside(self._graph.feed(value, offset=self._health_offset, append_ms=at_ms))
        self._health_offset += 1

    def _pair(self, time_ms: int) -> None:
        """Pairing hears what ingest sends it at a flush."""
        for record in self._pairs.flush():
            self._pairing.feed(record.value, time_ms)

    def _tell(self, told: Told, out: Outputs) -> None:
        for record in pack_facts(told.facts, told.loops, 1):
            out.add(self._evaluate(record.value, self._time_ms))

    def _flush(self, time_ms: int, out: Outputs) -> None:
        """What ingest sends at a boundary: what pairing tells of it, blocks, then the watermark."""
        self._pair(time_ms)
        self._tell(self._pairing.due(time_ms), out)
        self._flushed = (time_ms - self.policy.grace_ms) // BUCKET_MS
        mark = SourceMark(_SOURCE, 1, time_ms - self.policy.grace_ms, 0)
        for record in self._packer.flush([mark], listed=_LISTED):
            out.add(self._evaluate(record.value, time_ms))
        # Offline nothing arrives twice: what was merged need not be remembered.
        self._evaluator.sources.forget_merged()
