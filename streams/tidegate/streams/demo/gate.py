"""What the demo's services have of Tidegate: the thin client before each call, the exporter after it."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from tidegate.client import Client, Verdict
from tidegate.client.otel import KafkaSpanExporter
from tidegate.schemas.scope import edge_scope, service_scope
from tidegate.schemas.topics import Topics

__all__ = ["ClientGate", "kafka_exporter"]


class GateVerdict:
    """A verdict in the shop's words."""

    def __init__(self, verdict: Verdict) -> None:
        self._verdict = verdict

    @property
    def passes(self) -> bool:
        """Whether the call may be made."""
        return self._verdict.passes

    @property
    def effect(self) -> str | None:
        """Mark for the span."""
        return self._verdict.effect

    @property
    def deadline_ms(self) -> int | None:
        """When the caller should give up."""
        return self._verdict.deadline_ms


class ClientGate:
    """One real client for all services of the shop: they live in one process."""

    def __init__(self, config: Mapping[str, str], topics: Topics) -> None:
        self._client = Client(config, topic_prefix=topics.prefix)

    def admit(self, caller: str, target: str, trace_id: str) -> GateVerdict:
        """The strictest of the called service and the edge to it."""
        return GateVerdict(
            self._client.admit(service_scope(target), edge_scope(caller, target), trace_id=trace_id)
        )

    def done(self, caller: str, target: str, *, is_ok: bool) -> None:
        """Spans tell how it went."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()


def kafka_exporter(config: Mapping[str, str], topic: str) -> KafkaSpanExporter:
    """Spans straight to Kafka."""
    return KafkaSpanExporter(config, topic=topic)
