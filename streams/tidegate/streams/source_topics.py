"""What ingest asks the broker about topics: ids, partitions, first and last offsets.

Asked at each flush, since only an answer given *after* a moment tells that everything appended before it
was read: librdkafka's remembered end of a partition goes on standing while its broker is away.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any

import msgspec
from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from tidegate.streams.errors import UsageError

__all__ = [
    "BrokerAwayError",
    "SourceTopics",
    "TopicFacts",
    "TopicForbiddenError",
    "TopicMissingError",
]

ANSWER_S = 5.0
_EARLIEST: Any = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # has no types
_LATEST: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # it has no types
_MOCK = "mockCluster"
"""What librdkafka's mock cluster calls itself. It leaves DescribeTopics unanswered."""
_NO_TOPIC_ID = "A" * 22
"""A zero UUID: the broker knows no topic ids (before Kafka 2.8)."""


class BrokerAwayError(Exception):
    """No answer, or none that helps; try again later."""


class TopicForbiddenError(BrokerAwayError):
    """Names of topics that this user may not look at."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"forbidden: {', '.join(names)}; see `tidegate topics acls`")
        self.names = names


class TopicMissingError(Exception):
    """Names of topics that do not exist."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(", ".join(names))
        self.names = names


class TopicFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What identifies a topic."""

    topic_id: str
    """Empty where the broker gives none."""
    partitions_count: int


class SourceTopics:
    """An admin client with few questions. Every method raises BrokerAwayError where nothing comes back.

    Raises UsageError for settings that librdkafka refuses."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        try:
            self._client = AdminClient(dict(config))
        except KafkaException as problem:
            raise UsageError(f"Kafka settings: {problem.args[0].str()}") from problem
        self._has_ids: bool | None = None

    def facts(self, names: Iterable[str]) -> dict[str, TopicFacts]:
        """Ids and partitions. Raises TopicMissingError for all that are missing, TopicForbiddenError for
        all that are forbidden."""
        wanted = list(names)
        if self._has_ids is None:
            self._has_ids = not str(self._metadata(None).cluster_id).startswith(_MOCK)
        found: dict[str, TopicFacts] = {}
        missing, forbidden = [], []
        if not self._has_ids:
            topics = self._metadata(None).topics
            for name in wanted:
                if name in topics and topics[name].error is None:
                    count = len(topics[name].partitions)
                    found[name] = TopicFacts(topic_id="", partitions_count=count)
                else:
                    missing.append(name)
        else:
            answers = self._client.describe_topics(
                TopicCollection(wanted), request_timeout=ANSWER_S
            )
            for name, future in answers.items():
                try:
                    one = _result(future)
                except TopicMissingError:
                    missing.append(name)
                    continue
                except TopicForbiddenError:
                    forbidden.append(name)
                    continue
                topic_id = str(one.topic_id)
                found[name] = TopicFacts(
                    topic_id="" if topic_id == _NO_TOPIC_ID else topic_id,
                    partitions_count=len(one.partitions),
                )
        if forbidden:
            raise TopicForbiddenError(forbidden)
        if missing:
            raise TopicMissingError(missing)
        return found

    def ends(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """End offset of each partition, for readers of committed records."""
        return self._offsets(topic, partitions, _LATEST)

    def spans(self, topic: str, partitions_count: int) -> dict[int, tuple[int, int]]:
        """(low, end) of every partition of a topic."""
        every = range(partitions_count)
        low = self._offsets(topic, every, _EARLIEST)
        end = self.ends(topic, every)
        return {partition: (low[partition], end[partition]) for partition in every}

    def _offsets(self, topic: str, partitions: Iterable[int], spec: Any) -> dict[int, int]:
        wanted = {TopicPartition(topic, partition): spec for partition in partitions}
        if not wanted:
            return {}
        answers = self._client.list_offsets(
            wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=ANSWER_S
        )
        return {tp.partition: _result(future).offset for tp, future in answers.items()}

    def _metadata(self, topic: str | None) -> Any:
        try:
            return self._client.list_topics(topic, timeout=ANSWER_S)
        except KafkaException as problem:
            raise BrokerAwayError(problem.args[0].str()) from problem


def _result(future: "Future[Any]") -> Any:
    try:
        return future.result(ANSWER_S + 1.0)
    except TimeoutError as problem:
        raise BrokerAwayError(f"no answer within {ANSWER_S:.0f} s") from problem
    except KafkaException as problem:
        error = problem.args[0]
        if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):  # noqa: SLF001 - its public name
            raise TopicMissingError([]) from problem
        if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise TopicForbiddenError([]) from problem
        raise BrokerAwayError(error.str()) from problem
