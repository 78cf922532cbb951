"""confluent-kafka's admin client with Tidegate's errors: who was asked, for what, and what to do."""

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
)

from tidegate.schemas.topics import TopicSpec
from tidegate.streams.errors import Failure, UsageError
from tidegate.streams.topic_findings import Finding, FoundTopic

__all__ = ["ClusterAdmin"]

POLL_S = 0.1

_Result = TypeVar("_Result")


class ClusterAdmin:
    """confluent-kafka's admin client with our errors."""

    def __init__(self, config: Mapping[str, str], timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._servers = config["bootstrap.servers"]
        self._last_error = ""
        settings = {**config, "error_cb": self._on_error, "log_level": 0}
        try:
            self._client = AdminClient(settings)  # type: ignore[arg-type]  # a callback is no setting to the stub
        except KafkaException as problem:
            raise UsageError(f"Kafka settings: {problem.args[0].str()}") from problem

    def brokers_count(self) -> int:
        """Asks until somebody answers or the time is over, keeping the reason why not."""
        fallback = "nothing listens there"
        until_s = time.monotonic() + self._timeout_s
        while time.monotonic() < until_s:
            self._client.poll(0)
            try:
                return len(self._client.list_topics(timeout=1.0).brokers)
            except KafkaException as problem:
                fallback = problem.args[0].str()
                if self._is_refused():
                    break
                time.sleep(POLL_S)
        raise Failure(
            f"{self._servers}: no Kafka broker answered within {self._timeout_s:g} s "
            f"({self._last_error or fallback}); check --brokers and, on a secured cluster, --kafka-config"
        )

    def describe(self, names: Iterable[str]) -> dict[str, FoundTopic | None]:
        """Partitions, replicas and settings; None for a topic that does not exist."""
        from confluent_kafka.admin import ConfigResource

        wanted = list(names)
        described = self._client.describe_topics(
            TopicCollection(wanted), request_timeout=self._timeout_s
        )
        layouts = {
            name: self._result(
                future, f"describe topic {name}", ok={KafkaError.UNKNOWN_TOPIC_OR_PART}
            )
            for name, future in described.items()
        }
        resources = [
            ConfigResource(ConfigResource.Type.TOPIC, name)
            for name, layout in layouts.items()
            if layout is not None
        ]
        settings: dict[str, dict[str, str]] = {}
        if resources:
            answers = self._client.describe_configs(resources, request_timeout=self._timeout_s)
            for resource, future in answers.items():
                entries = self._result(future, f"read the settings of topic {resource.name}")
                settings[resource.name] = {
                    key: str(entry.value) for key, entry in (entries or {}).items()
                }
        return {
            name: None
            if layout is None
            else FoundTopic(
                partitions_count=len(layout.partitions),
                replicas_min_count=min(len(part.replicas) for part in layout.partitions),
                config=settings[name],
            )
            for name, layout in layouts.items()
        }

    def create(self, specs: Iterable[TopicSpec], replicas_count: int) -> None:
        """Makes topics; one that somebody else made meanwhile is no error."""
        new = [
            NewTopic(spec.name, spec.partitions_count, replicas_count, config=spec.config)
            for spec in specs
        ]
        if new:
            futures = self._client.create_topics(new, operation_timeout=self._timeout_s)
            for name, future in futures.items():
                self._result(future, f"create topic {name}", ok={KafkaError.TOPIC_ALREADY_EXISTS})

    def fix(self, findings: Iterable[Finding], specs: Mapping[str, TopicSpec]) -> None:
        """Alters settings and adds partitions."""
        changes: dict[str, list[ConfigEntry]] = {}
        for finding in findings:
            spec = specs[finding.topic]
            if finding.what == "partitions":
                grown = self._client.create_partitions(
                    [NewPartitions(spec.name, spec.partitions_fixed)]
                )
                for future in grown.values():
                    self._result(future, f"add partitions to topic {spec.name}")
                continue
            operation = AlterConfigOpType.SET
            entry = ConfigEntry(
                finding.what, spec.config[finding.what], incremental_operation=operation
            )
            changes.setdefault(spec.name, []).append(entry)
        if changes:
            resources = [
                ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=entries)
                for name, entries in changes.items()
            ]
            answers = self._client.incremental_alter_configs(resources)
            for resource, future in answers.items():
                self._result(future, f"alter topic {resource.name}")

    def _result(
        self, future: "Future[_Result]", what: str, *, ok: Iterable[int] = ()
    ) -> _Result | None:
        try:
            return future.result(self._timeout_s)
        except KafkaException as problem:
            error = problem.args[0]
            if error.code() in ok:
                return None
            hint = ""
            if "AUTHORIZATION" in error.name():
                hint = "; `tidegate topics acls --role tools` lists what this user must be allowed"
            raise Failure(f"{self._servers}: can't {what}: {error.str()}{hint}") from problem
        except TimeoutError as problem:
            raise Failure(
                f"{self._servers}: can't {what}: no answer within {self._timeout_s:.0f} s; try again "
                "with a longer --timeout-s"
            ) from problem

    def _on_error(self, error: object) -> None:
        # The first reason is the cause ("authentication failed"); "all brokers down" follows it.
        text = str(getattr(error, "str", lambda: error)())
        if not self._last_error or "down" in self._last_error:
            self._last_error = text

    def _is_refused(self) -> bool:
        """Waiting longer does not help against a wrong password or certificate."""
        return any(
            word in self._last_error for word in ("SASL authentication", "SSL handshake failed")
        )
