"""Follows the graph topic beside the alerts: the newest view's causes, as long as it is fresh. Where there is no
graph, alerts are told one by one; that is said once in the log and is no error.
"""

import threading
import time
from collections.abc import Mapping

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition

from tidegate.rules.graph.grouping import Explained
from tidegate.schemas.graph import Parts, decode_view
from tidegate.schemas.topics import Topics
from tidegate.streams.kafka_log import LogRecord, Span, follow_log
from tidegate.streams.logs import get_logger

__all__ = ["GraphFollower"]

STALE_MS = 120_000
"""A graph stage publishes every few seconds; an older graph explains nothing that happens now."""
_TICK_S = 0.25
_ANSWER_S = 5.0
_RETRY_S = 5.0

log = get_logger("alert")


class GraphFollower:
    """A thread with a consumer in no group. `close` it when done."""

    def __init__(self, config: Mapping[str, str], topics: Topics) -> None:
        self._config, self._topic = config, topics.graph
        self._parts = Parts()
        self._newest: tuple[Explained, int] | None = None
        """(causes, when the broker got the view)."""
        self._is_read, self._stopped = threading.Event(), threading.Event()
        self._said = ""
        self._thread = threading.Thread(target=self._run, name="graph", daemon=True)
        self._thread.start()

    @property
    def is_read(self) -> bool:
        """Whether what was there at first is known, or that there is nothing to be had."""
        return self._is_read.is_set()

    def causes(self, now_ms: int) -> Explained | None:
        """Of the newest view; None where it is older than two minutes or there is none."""
        newest = self._newest
        if newest is None or now_ms - newest[1] > STALE_MS:
            return None
        return newest[0]

    def close(self) -> None:
        """Ends the thread."""
        self._stopped.set()
        self._thread.join(_ANSWER_S)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                span = self._span()
                if span is None:
                    self._say(f"there is no topic {self._topic}")
                else:
                    self._follow(span)
            except KafkaException as problem:
                self._say(problem.args[0].str())
            self._is_read.set()
            self._stopped.wait(_RETRY_S)

    def _say(self, reason: str) -> None:
        if reason != self._said:
            self._said = reason
            log.info("no graph: alerts are told one by one", reason=reason)

    def _span(self) -> Span | None:
        """What is fresh on the topic; None where there is no such topic. Raises KafkaException."""
        consumer = Consumer(
            {
                **self._config,
                "group.id": "tidegate-tools",  # never joined
                "client.id": "tidegate-alert",
                "log_level": 0,
                "error_cb": lambda _: None,
            }
        )
        try:
            found = consumer.list_topics(self._topic, timeout=_ANSWER_S).topics[self._topic]
            if found.error is not None or not found.partitions:
                return None
            since_ms = time.time_ns() // 1_000_000 - STALE_MS
            (fresh,) = consumer.offsets_for_times(
                [TopicPartition(self._topic, 0, since_ms)], timeout=_ANSWER_S
            )
            _, end = consumer.get_watermark_offsets(
                TopicPartition(self._topic, 0), timeout=_ANSWER_S
            )
        finally:
            consumer.close()
        return Span(self._topic, 0, fresh.offset if 0 <= fresh.offset <= end else end, end)

    def _follow(self, span: Span) -> None:
        for records, ended in follow_log(self._config, [span], tick_s=_TICK_S):
            for record in records:
                self._apply(record)
            if ended:
                self._is_read.set()
            if self._stopped.is_set():
                return

    def _apply(self, record: LogRecord) -> None:
        if record.value is None:
            return
        try:
            part = decode_view(record.value)
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            self._say(f"{record.topic} offset {record.offset}: {problem}")
            return
        view = self._parts.add(part)
        if view is not None:
            self._newest = Explained(view), record.append_ms
