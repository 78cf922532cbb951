"""Made-up traffic in whole half seconds through the real stages: OTLP bytes, packing, evaluator. The next half
second may depend on what was decided (callers that obey), and whatever came out can be had again from a
snapshot.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from tests.exactness.driving import (
    GRACE_MS,
    TOPIC_ID,
    Feed,
    Ingest,
    LogRecord,
    Published,
    published_of,
)
from tests.goldens.incidents import BASE_MS
from tidegate.rules.evaluator import Evaluator
from tidegate.rules.keys import stable_hash
from tidegate.rules.outputs import Outputs
from tidegate.rules.policy import Policy, builtin_policy
from tidegate.rules.standing import Snapshot
from tidegate.schemas.alert import Alert
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.control import ControlEntry, ControlRecord, encode_control
from tidegate.schemas.decision import Decision
from tidegate.schemas.outcome import SpanKind
from tidegate.schemas.partials import Blocks, Source, encode_partials

__all__ = ["BASE", "Call", "Load", "Run", "count", "restored"]

BASE = BASE_MS // BUCKET_MS
_PACES = (1.0, 0.9, 1.1, 0.8, 1.2)
"""Durations differ a little, in turn."""


@dataclass(frozen=True, slots=True)
class Call:
    """What each request of a load calls, once."""

    target: str
    ms: float = 5.0
    bad: float = 0.0
    """Share that fails, evenly spread."""
    is_hard: bool = True
    """Whether its failure fails the request."""


@dataclass(frozen=True, slots=True)
class Load:
    """Requests to a service at an even pace."""

    service: str
    per_s: float = 4.0
    ms: float = 20.0
    """Own time; calls come on top."""
    bad: float = 0.0
    """Share that fails by itself, evenly spread."""
    calls: tuple[Call, ...] = ()
    instances: tuple[str, ...] = ()
    """In turn."""
    bad_instances: tuple[str, ...] = ()
    """All their requests fail."""
    effect: str = ""
    """`tidegate.effect` of the requests."""
    age_ms: int = 0
    """How long ago they ended when they arrive."""


class _Made(NamedTuple):
    service: str
    instance: str
    kind: int
    target: str
    start_us: int
    end_us: int
    status: int
    effect: str
    span: int
    parent: int


def count(half: int, per_s: float) -> int:
    """How many of an even stream fall into a half second."""
    return int((half + 1) * per_s / 2 + 1e-9) - int(half * per_s / 2 + 1e-9)


class Run:
    """An evaluator, what it was told and what it gave out."""

    def __init__(self, policy: Policy | None = None, *, sources_count: int = 1) -> None:
        self.policy = builtin_policy("default") if policy is None else policy
        self.evaluator = Evaluator(0, self.policy, partitions_count=1)
        self.half = 0
        """Half seconds made so far."""
        self.log: list[LogRecord] = []
        self.decisions: list[Decision] = []
        self.alerts: list[Alert] = []
        self.published: Published = []
        self.snapshots: list[Snapshot] = []
        self.counters: Counter[str] = Counter()
        self.silent: set[int] = set()
        """Source partitions of which nothing is heard."""
        self._ingest = Ingest([self.log], listed=((TOPIC_ID, sources_count),))
        self._sources = [Source(TOPIC_ID, p) for p in range(sources_count)]
        self._made: Counter[tuple[str, str]] = Counter()
        self._offset = self._fed = self._asked = 0

    @property
    def second(self) -> float:
        """Since the beginning."""
        return self.half / 2

    def hold(self, seconds: float, *loads: Load) -> "Run":
        """The same traffic for a time."""
        for _ in range(round(seconds * 2)):
            self.step(*loads)
        return self

    def step(self, *loads: Load) -> None:
        """Half a second, closed by its watermark."""
        spans = [span for load in loads for span in self._spans(load)]
        self.half += 1
        end_ms = BASE_MS + self.half * BUCKET_MS
        if spans:
            self._ingest.read([Feed(_encoded(spans), end_ms, 0, self._offset)])
            self._offset += 1
        marks = {s: end_ms for s in self._sources if s.partition not in self.silent}
        self._ingest.flush(marks, append_ms=end_ms + GRACE_MS)
        self._feed()

    def ask(self, record: ControlRecord) -> None:
        """An operator's record, in force from the next boundary on."""
        boundary = BASE + self.half + 1
        entry = ControlEntry("control", self._asked, boundary, encode_control(record), b"")
        self._asked += 1
        value = encode_partials(
            Blocks.empty(),
            sources=[],
            watermarks=[],
            listed=[],
            partitions_count=1,
            control=[entry],
        )
        self.log.append(LogRecord(value, BASE_MS + self.half * BUCKET_MS + GRACE_MS))
        self._feed()

    def at(self, scope: str, second: float | None = None) -> Decision:
        """The newest of a scope, or the newest at a time."""
        last = BASE + self.half if second is None else BASE + round(second * 2)
        return next(d for d in reversed(self.decisions) if d.scope == scope and d.boundary <= last)

    def levels(self, scope: str, *, since: float = 0) -> list[tuple[float, str]]:
        """(second, level) wherever it changed, and where it stood at `since`."""
        out: list[tuple[float, str]] = []
        for d in self.decisions:
            if d.scope == scope:
                second = max(since, (d.boundary - BASE) / 2)
                if out and second <= since:
                    out.pop()
                if not out or out[-1][1] != d.level:
                    out.append((second, d.level))
        return out

    def events(self, rule: str) -> list[tuple[float, str, str]]:
        """(second, event, scope) of a rule's alerts."""
        return [((a.boundary - BASE) / 2, a.event, a.scope) for a in self.alerts if a.rule == rule]

    def slot(self, service: str, target: str = "") -> int:
        return self.evaluator.state.traffic.keys.by_key[service, target]

    def _feed(self) -> None:
        for record in self.log[self._fed :]:
            out = self.evaluator.feed(record.value, offset=self._fed, append_ms=record.append_ms)
            self._fed += 1
            self._keep(out)

    def _keep(self, out: Outputs) -> None:
        self.decisions += out.decisions
        self.alerts += out.alerts
        self.counters.update(out.counters)
        self.published += published_of(out)
        if out.snapshot is not None:
            self.snapshots.append(out.snapshot)

    def _spans(self, load: Load) -> Iterable[_Made]:
        made = count(self.half, load.per_s)
        for i in range(made):
            at_ms = self.half * BUCKET_MS + (i + 0.5) * BUCKET_MS / made - load.age_ms
            yield from self._request(load, round(at_ms * 1000))

    def _request(self, load: Load, end_us: int) -> Iterable[_Made]:
        service = load.service
        number = self._next(service, "")
        instance = load.instances[number % len(load.instances)] if load.instances else ""
        is_bad = _is_due(number, load.bad) or instance in load.bad_instances
        # Ids say nothing about the order in which spans are made.
        own, at_us = (stable_hash(service) << 28) + number * 8, end_us
        for place, call in enumerate(load.calls, start=1):
            called = self._next(service, call.target)
            fails = _is_due(called, call.bad)
            is_bad |= fails and call.is_hard
            took_us = _took_us(call.ms, called)
            yield _Made(
                service=service,
                instance=instance,
                kind=SpanKind.CLIENT,
                target=call.target,
                start_us=at_us - took_us,
                end_us=at_us,
                status=503 if fails else 200,
                effect="",
                span=own + place,
                parent=own,
            )
            at_us -= took_us
        yield _Made(
            service=service,
            instance=instance,
            kind=SpanKind.SERVER,
            target="",
            start_us=at_us - _took_us(load.ms, number),
            end_us=end_us,
            status=500 if is_bad else 200,
            effect=load.effect,
            span=own,
            parent=0,
        )

    def _next(self, service: str, target: str) -> int:
        self._made[service, target] += 1
        return self._made[service, target] - 1


def restored(run: Run, snapshot: Snapshot, until: int | None = None) -> Published:
    """What a worker publishes that takes over with this snapshot, up to a boundary."""
    evaluator = Evaluator.restore(
        0, run.policy, snapshot.manifest, snapshot.chunks, partitions_count=1
    )
    out: Published = []
    for offset in range(snapshot.start_offset, len(run.log)):
        record = run.log[offset]
        out += published_of(evaluator.feed(record.value, offset=offset, append_ms=record.append_ms))
        if until is not None and evaluator.boundary is not None and evaluator.boundary >= until:
            break
    return out


def _is_due(number: int, share: float) -> bool:
    """Of an even spread."""
    return int((number + 1) * share + 1e-9) > int(number * share + 1e-9)


def _took_us(ms: float, number: int) -> int:
    return round(ms * 1000 * _PACES[number % len(_PACES)])


def _encoded(spans: Sequence[_Made]) -> bytes:
    """An ExportTraceServiceRequest."""
    by_resource: dict[tuple[str, str], list[Span]] = defaultdict(list)
    for s in spans:
        attributes = [_pair("http.response.status_code", s.status)]
        if s.target:
            attributes.append(_pair("server.address", s.target))
        if s.effect:
            attributes.append(_pair("tidegate.effect", s.effect))
        by_resource[s.service, s.instance].append(
            Span(
                trace_id=(s.parent or s.span).to_bytes(16, "big"),
                span_id=s.span.to_bytes(8, "big"),
                parent_span_id=s.parent.to_bytes(8, "big") if s.parent else b"",
                kind=s.kind,  # type: ignore[arg-type] # the numbers are OTLP's
                start_time_unix_nano=(BASE_MS * 1000 + s.start_us) * 1000,
                end_time_unix_nano=(BASE_MS * 1000 + s.end_us) * 1000,
                attributes=attributes,
            )
        )
    made = ExportTraceServiceRequest()
    for (service, instance), inside in by_resource.items():
        resource = ResourceSpans(scope_spans=[ScopeSpans(spans=inside)])
        resource.resource.attributes.append(_pair("service.name", service))
        if instance:
            resource.resource.attributes.append(_pair("service.instance.id", instance))
        made.resource_spans.append(resource)
    value: bytes = made.SerializeToString(deterministic=True)
    return value


def _pair(key: str, value: str | int) -> KeyValue:
    made = AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value)
    return KeyValue(key=key, value=made)
