"""One life of ingest: from joining the group to a stop, or to the first thing that makes it unsafe to go
on. The next life begins from what was committed, with a new owner epoch, so nothing is lost, and
evaluate recognises what it sees twice.

One thread runs all of it. What must hold:
* a source record's offset is committed only after all its blocks and sampled spans, or its dead letter,
  were delivered;
* a watermark is sent only in a flush that follows a delivered one, and says only what the broker
  confirmed after the last record was read;
* after a failed delivery no watermark is sent any more (the life ends).
"""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tidegate.rules.packing import SourceMark
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.partials import Source
from tidegate.streams.delivery import Delivery, Flight
from tidegate.streams.intake import Intake
from tidegate.streams.logs import get_logger
from tidegate.streams.source_share import SessionEndedError, SourceShare
from tidegate.streams.source_topics import (
    BrokerAwayError,
    SourceTopics,
    TopicFacts,
    TopicMissingError,
)
from tidegate.streams.worker_settings import WorkerSettings

if TYPE_CHECKING:
    from tidegate.streams.metrics import WorkerMetrics

__all__ = ["IngestSession", "SessionEndedError"]

POLL_S = 0.05
BUSY_S = 0.005
AWAY_RETRY_MS = 250
CATCH_UP_S = 0.1
"""How long a flush waits for the records that were there when it fell due."""
DRAIN_S = 10.0
CELLS_PER_FLIGHT_MAX = 1_000_000
"""Beyond this, blocks are sent before the next flush is due."""

log = get_logger("ingest")


class IngestSession:
    """Reads, decodes, folds and packs until `stop()` is true. `facts` were true when it was made; without
    the pairs topic among them nothing is sent there."""

    def __init__(
        self,
        settings: WorkerSettings,
        metrics: "WorkerMetrics",
        topics: SourceTopics,
        facts: Mapping[str, TopicFacts],
        *,
        grace_ms: int,
    ) -> None:
        self._metrics, self._topics = metrics, topics
        self._grace_ms = grace_ms
        self._spans, self._partials = settings.topics.otlp_spans, settings.topics.partials
        pairs = facts.get(settings.topics.pairs)
        self._flight: Flight | None = None
        self._due_ms = 0
        self._away_since_s: float | None = None
        self._intake = Intake(
            metrics,
            partitions_count=facts[self._partials].partitions_count,
            pairs_partitions_count=pairs.partitions_count if pairs is not None else 0,
            cells_max=settings.held_cells_max,
        )
        self._delivery = Delivery(settings, self._spans)
        self._share = SourceShare(
            settings,
            metrics,
            topics,
            facts[self._spans],
            drain=self._drain,
            forget=self._forget,
        )

    @property
    def is_ready(self) -> bool:
        """Whether it reads and its broker answers."""
        return self._share.is_assigned and self._away_since_s is None

    def run(self, stop: Callable[[], bool], tick: Callable[[], None]) -> None:
        """Until `stop()`. `tick` is called each round. Raises SessionEndedError."""
        try:
            self._share.subscribe()
            while not stop():
                tick()
                self._round()
        except BaseException as problem:
            self._share.fail(problem)
            raise
        finally:
            self._share.close()
            self._delivery.close()

    def _round(self) -> None:
        left_s = self._due_ms / 1000 - time.time()
        self._read(min(POLL_S, max(BUSY_S, left_s)))
        self._settle()
        if not self._share.epochs or self._flight is not None:
            return  # a flight under way: so a stalled delivery stalls watermarks too
        if time.time() * 1000 >= self._due_ms:
            self._flush()
        elif self._intake.cells_count > CELLS_PER_FLIGHT_MAX and self._confirm():
            # Early, without watermarks, but never unconfirmed: a topic made anew has the same offsets.
            self._send([])

    def _read(self, wait_s: float) -> None:
        intake = self._intake
        batch = self._share.fetch(intake.batch_records, wait_s, is_full=intake.is_full)
        if batch.item:
            intake.add(batch, self._share.source_id)

    # ---- flushing ----

    def _flush(self) -> None:
        """Confirms with the broker, sends all blocks and, in the last records, the watermarks."""
        share = self._share
        asked_ms = int(time.time() * 1000)
        try:
            ends = self._topics.ends(self._spans, share.epochs)
        except BrokerAwayError as problem:
            self._is_away(problem)
            return
        except TopicMissingError as problem:
            raise SessionEndedError(f"{self._spans}: is missing") from problem
        share.check_ends(ends)
        epochs = dict(share.epochs)
        until_s = time.monotonic() + CATCH_UP_S
        while share.behind(ends) and time.monotonic() < until_s and not self._intake.is_full:
            self._read(BUSY_S)
            if share.epochs != epochs:
                return  # a rebalance came between
        if not self._confirm():
            return
        self._send(self._marks(ends, asked_ms))
        phase_ms = self._grace_ms % BUCKET_MS
        now_ms = int(time.time() * 1000)
        self._due_ms = (now_ms - phase_ms) // BUCKET_MS * BUCKET_MS + phase_ms + BUCKET_MS

    def _confirm(self) -> bool:
        """Whether the topics are still those that were read. Asked after the last record was taken, so
        that no record of a topic made anew goes by the old one's id."""
        try:
            facts = self._topics.facts([self._spans, self._partials])
        except BrokerAwayError as problem:
            self._is_away(problem)
            return False
        except TopicMissingError as problem:
            raise SessionEndedError(f"{problem}: is missing") from problem
        if facts[self._spans].topic_id != self._share.facts.topic_id:
            raise SessionEndedError(f"{self._spans}: was made anew")
        if facts[self._partials].partitions_count != self._intake.partitions_count:
            raise SessionEndedError(f"{self._partials}: has another number of partitions")
        self._share.facts = facts[self._spans]
        if self._away_since_s is not None:
            after_s = round(time.monotonic() - self._away_since_s)
            log.info("the broker answers again", after_s=after_s)
            self._away_since_s = None
        return True

    def _marks(self, ends: Mapping[int, int], asked_ms: int) -> list[SourceMark]:
        """A watermark for each partition: the moment of asking where all that was there then has been
        read, else the time of the last record read; minus grace."""
        share, marks = self._share, []
        for partition, end in ends.items():
            reading = share.step.readings[partition]
            reading.is_behind = reading.read_to < end
            if reading.is_behind:
                if reading.time_ms is None:
                    continue
                read_ms = min(reading.time_ms, asked_ms)
            else:
                read_ms = asked_ms
            watermark_ms = read_ms - self._grace_ms
            self._metrics.lag.labels(self._spans, partition).set(max(0, end - reading.read_to))
            self._metrics.source_delay_s.labels(self._spans, partition).set(
                time.time() - watermark_ms / 1000
            )
            marks.append(
                SourceMark(
                    Source(share.source_id, partition),
                    share.epochs[partition],
                    watermark_ms,
                    share.committed[partition],
                )
            )
        return marks

    def _send(self, marks: list[SourceMark]) -> None:
        share = self._share
        records, dead = self._intake.flush(marks, [(share.source_id, share.facts.partitions_count)])
        upto = {p: (r.read_to, r.time_ms or 0) for p, r in share.step.readings.items()}
        pairs = self._intake.flush_pairs()
        self._flight = self._delivery.send(records, dead, upto, pairs=pairs)

    def _settle(self, *, is_waited_for: bool = False) -> None:
        """Serves deliveries; commits what a delivered flight has carried."""
        self._delivery.poll()
        flight = self._flight
        if flight is None or not flight.is_done:
            return
        if flight.problem is not None:
            raise SessionEndedError(flight.problem)
        self._flight = None
        self._metrics.flushes.inc()
        self._metrics.dead_lettered.inc(flight.dead_letters)
        self._share.commit(flight.upto, is_waited_for=is_waited_for)

    # ---- before partitions go ----

    def _drain(self) -> None:
        """Sends, waits and commits. Raises SessionEndedError where it isn't delivered in time."""
        self._land()
        if not self._intake.is_empty and self._confirm():
            self._send([])
            self._land()

    def _land(self) -> None:
        until_s = time.monotonic() + DRAIN_S
        while self._flight is not None and not self._flight.is_done:
            if time.monotonic() > until_s:
                raise SessionEndedError("a flush was not delivered before partitions were revoked")
            self._delivery.poll(POLL_S)
        self._settle(is_waited_for=True)

    def _forget(self) -> None:
        self._intake.forget()
        self._flight = None
        self._due_ms = 0

    def _is_away(self, problem: BrokerAwayError) -> None:
        if self._away_since_s is None:
            self._away_since_s = time.monotonic()
            log.warning("the broker does not answer; waiting for it", problem=str(problem))
        self._due_ms = int(time.time() * 1000) + AWAY_RETRY_MS
