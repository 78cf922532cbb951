"""A golden's log with control entries put into it, and what an evaluator gives out for it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from tests.exactness.driving import Feed, LogRecord, straight_log
from tests.goldens.incidents import BASE_MS, incident_named
from tests.goldens.recording import as_protobuf, records_of
from tidegate.rules.evaluator import Evaluator
from tidegate.rules.outputs import Outputs
from tidegate.rules.policy import builtin_policy, load_policy
from tidegate.schemas.alert import Alert
from tidegate.schemas.control import (
    ControlEntry,
    ControlRecord,
    OverrideSet,
    PolicyPush,
    encode_control,
)
from tidegate.schemas.decision import Decision
from tidegate.schemas.partials import decode_partials, encode_aside
from tidegate.schemas.points import Metric, MetricPoint, Temporality

__all__ = [
    "BASE",
    "Asked",
    "Run",
    "entry",
    "goroutines",
    "is_control",
    "log_with",
    "override",
    "push",
    "run",
    "run_log",
    "with_points",
]

BASE = BASE_MS // 500
GOLDEN = "error_burst"
"""`pay` answers 70 % HTTP 500 from second 75 to 100; 200 s in all."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A control record, when it reaches the log and from when it is in force, in seconds."""

    record: ControlRecord
    arrives_s: float
    from_s: float


def push(text: str, **how: object) -> PolicyPush:
    return PolicyPush(by="ada", reason="try", asked_ms=0, text=text, **how)  # type: ignore[arg-type] # the record's own fields


def override(scope: str, level: str, until_s: float) -> OverrideSet:
    return OverrideSet(
        by="ada",
        reason="drill",
        asked_ms=0,
        scope=scope,
        level=level,  # type: ignore[arg-type] # names of levels
        until_ms=BASE_MS + round(until_s * 1000),
    )


def entry(asked: Asked, seq: int) -> ControlEntry:
    record, content = asked.record, b""
    if isinstance(record, PolicyPush):
        content = load_policy(record.text, where="pushed").content()
    return ControlEntry(
        "control", seq, BASE + round(asked.from_s * 2), encode_control(record), content
    )


def log_with(asked: Sequence[Asked]) -> list[LogRecord]:
    """The golden's one partition, each entry before the first record appended after it arrives."""
    out = list(_log())
    for seq, one in reversed(list(enumerate(asked))):
        at_ms = BASE_MS + round(one.arrives_s * 1000)
        value = encode_aside(partitions_count=1, control=[entry(one, seq)])
        place = next((i for i, r in enumerate(out) if r.append_ms >= at_ms), len(out))
        out.insert(place, LogRecord(value, max(at_ms, out[place - 1].append_ms if place else 0)))
    return out


@cache
def _log() -> tuple[LogRecord, ...]:
    feeds = [
        Feed(as_protobuf(record.spans), record.kafka_ms, 0, offset)
        for offset, record in enumerate(records_of(incident_named(GOLDEN)))
    ]
    return tuple(straight_log(feeds)[0])


@dataclass(slots=True)
class Run:
    """All that came out."""

    decisions: list[Decision] = field(default_factory=list)
    shadow: list[Decision] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    counters: Counter[str] = field(default_factory=Counter)
    outputs: list[Outputs] = field(default_factory=list)

    def of(self, scope: str) -> list[tuple[float, str, str]]:
        """(second, level, policy's name) of a scope's decisions."""
        return [
            ((d.boundary - BASE) / 2, d.level, d.policy.partition("@")[0])
            for d in self.decisions
            if d.scope == scope
        ]

    def at(self, scope: str, second: float) -> Decision:
        """The newest of a scope at that time."""
        return next(
            d
            for d in reversed(self.decisions)
            if d.scope == scope and d.boundary <= BASE + second * 2
        )


def with_points(
    log: Sequence[LogRecord], points: Sequence[tuple[float, MetricPoint]]
) -> list[LogRecord]:
    """The log with points of metrics in it: (second at which each arrives, point)."""
    out = list(log)
    for arrives_s, point in sorted(points, reverse=True, key=lambda row: row[0]):
        at_ms = BASE_MS + round(arrives_s * 1000)
        value = encode_aside(partitions_count=1, points=[point])
        place = next((i for i, r in enumerate(out) if r.append_ms >= at_ms), len(out))
        out.insert(place, LogRecord(value, max(at_ms, out[place - 1].append_ms if place else 0)))
    return out


def goroutines(second: float, count: int, *, instance: str = "web-1") -> MetricPoint:
    return MetricPoint(
        "web",
        instance,
        Metric.GOROUTINES,
        Temporality.NOW,
        0,
        BASE_MS + round(second * 1000),
        count,
    )


def is_control(record: LogRecord) -> bool:
    return bool(decode_partials(record.value)[0].control)


def run(asked: Sequence[Asked] = (), *, pack: str = "default") -> Run:
    return run_log(log_with(asked), pack=pack) if asked else _undisturbed(pack)


@cache
def _undisturbed(pack: str) -> Run:
    return run_log(_log(), pack=pack)


def run_log(log: Sequence[LogRecord], *, pack: str = "default") -> Run:
    evaluator = Evaluator(0, builtin_policy(pack), partitions_count=1)
    out = Run()
    for offset, record in enumerate(log):
        fed = evaluator.feed(record.value, offset=offset, append_ms=record.append_ms)
        out.outputs.append(fed)
        out.decisions += fed.decisions
        out.shadow += fed.shadow
        out.alerts += fed.alerts
        out.counters.update(fed.counters)
    return out
