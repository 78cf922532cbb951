"""A live installation whose policies and overrides change: two workers, a steady load, operators' commands; and
what the internal topics tell of it afterwards.
"""

import itertools
import json
import statistics
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.control.commands import Told, run
from tests.control.sequencing import entries_of
from tests.kafka import KafkaCluster
from tests.streams.live import Traffic, Worker, log_of, make_topics, until
from tests.streams.test_worker import free_port
from tidegate.rules.evaluator import Evaluator
from tidegate.rules.in_force import Due, is_in_rollout, is_match
from tidegate.rules.policy import Policy, policy_from_content
from tidegate.schemas.control import (
    Abort,
    ControlEntry,
    OverrideClear,
    OverrideSet,
    PolicyPush,
    Promote,
)
from tidegate.schemas.decision import Decision, decode_decision
from tidegate.schemas.health import decode_health
from tidegate.schemas.topics import Topics

__all__ = ["BOUNDARY_MS", "Applied", "Delays", "InForceThen", "Installation", "Live", "told"]

BOUNDARY_MS = 500


@dataclass(slots=True)
class Load:
    """Steady traffic of five services, one of which fails; until `stop`."""

    config: Mapping[str, str]
    topics: Topics
    partitions: int
    per_s: int
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        spans = Traffic(self.config, self.topics.otlp_spans, partitions=self.partitions)
        bad = Traffic(
            self.config,
            self.topics.otlp_spans,
            partitions=self.partitions,
            services=("ads",),
            seed=2,
        )
        while not self._ended.is_set():
            spans.run(0.5, per_s=self.per_s, error_ratio=0.01)
            for _ in range(5):
                bad.send(error_ratio=0.9)

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


class Live:
    """A worker with its port of metrics."""

    def __init__(self, worker: Worker, port: int) -> None:
        self.worker, self.port = worker, port

    def policies(self) -> dict[int, str]:
        """What `/healthz` says: partition -> NAME@VERSION."""
        prefix = "policy of partition "
        return {
            int(number): label
            for line in ask(self.port, "/healthz").splitlines()
            if line.startswith(prefix)
            for number, _, label in (line.removeprefix(prefix).partition(": "),)
        }

    def events(self, text: str) -> list[dict[str, Any]]:
        """Lines of its log whose event is this text."""
        lines = [line for line in self.worker.log.splitlines() if line.startswith("{")]
        return [event for event in map(json.loads, lines) if event.get("event") == text]

    @property
    def is_up(self) -> bool:
        return self.worker.process.poll() is None


def ask(port: int, path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError):
        return ""


class Installation:
    """Topics, workers and commands of one test."""

    def __init__(
        self, cluster: KafkaCluster, prefix: str, folder: Path, *, spans: int, partials: int
    ) -> None:
        self.cluster, self.folder, self.partials = cluster, folder, partials
        self.config, self.topics = cluster.client_config(), Topics(prefix=prefix)
        self.spans = spans
        make_topics(self.config, self.topics, spans=spans, partials=partials)

    @contextmanager
    def worker(self, name: str) -> Iterator[Live]:
        port = free_port()
        options = (
            "--metrics-port",
            str(port),
            "--metrics-host",
            "127.0.0.1",
            "--log-format",
            "json",
        )
        with Worker(self.config, self.topics, self.folder, *options, name=name) as worker:
            yield Live(worker, port)

    @contextmanager
    def load(self, *, per_s: int) -> Iterator[Load]:
        load = Load(self.config, self.topics, self.spans, per_s)
        try:
            yield load
        finally:
            load.stop()

    def run(self, *arguments: str) -> Told:
        """`tidegate ARGUMENTS`."""
        brokers = ("--brokers", self.config["bootstrap.servers"])
        return run(*arguments, *brokers, "--topic-prefix", self.topics.prefix)

    def asked(self, *arguments: str) -> None:
        """A command that must succeed."""
        told = self.run(*arguments, "--reason", "a test", "--by", "kim")
        assert told.status == 0, told.err

    def compare(self) -> str:
        """`tidegate replay --internal --compare`, which must find no difference; its summary."""
        out = self.folder / "differences.txt"
        told = self.run("replay", "--internal", "--compare", "--out", str(out))
        assert told.status == 0, told.err + out.read_text()[:4_000]
        assert out.read_text() == ""
        return told.err

    def policy(self, name: str, text: str) -> str:
        """A file."""
        path = self.folder / f"{name}.yaml"
        path.write_text(f"name: {name}\n{text}")
        return str(path)

    # ---- what the topics hold ----

    def delays(self) -> "Delays":
        """Of every boundary that stands on health."""
        out = Delays(self.partials)
        for record in sorted(log_of(self.config, self.topics.health), key=lambda r: r.offset):
            health = decode_health(record.value or b"")
            if health.control:
                continue
            one = out.ms[health.partition]
            one.setdefault(health.boundary, record.append_ms - health.boundary * BOUNDARY_MS)
            out.labels[health.partition][health.boundary] = health.policy
        return out

    def settle(self, *, delay_ms: int = 2_500, within_s: float = 90.0) -> None:
        """Until every partition is evaluated as quickly as it should be."""

        def is_settled() -> bool:
            held = self.delays()
            now = int(time.time() * 1000) // BOUNDARY_MS
            return all(
                one and max(one) > now - 8 and one[max(one)] < delay_ms for one in held.ms.values()
            )

        until(is_settled, within_s=within_s, what="every partition evaluated in time", every_s=1.0)

    def entries(self) -> dict[int, list[ControlEntry]]:
        return entries_of(self.config, self.topics)

    def wait_for_entries(self, count: int) -> None:
        """Until every partition's log holds so many, and the last is in force."""

        def is_there() -> bool:
            found = self.entries()
            now = int(time.time() * 1000) // BOUNDARY_MS
            return all(
                len(found.get(p, [])) == count and found[p][-1].effective_boundary < now
                for p in range(self.partials)
            )

        until(is_there, what=f"{count} entries in every partition", every_s=0.5)

    def snapshots(self) -> Counter[int]:
        """Manifests that were written, by partition."""
        return Counter(
            record.partition
            for record in log_of(self.config, self.topics.snapshots_changelog)
            if record.value is not None and (record.key or b"").endswith(b"/manifest")
        )

    def applied(self, fallback: Policy) -> dict[int, list["Applied"]]:
        """By partition, what followed from its log when."""
        out: dict[int, list[Applied]] = {}
        evaluators: dict[int, Evaluator] = {}
        for record in sorted(log_of(self.config, self.topics.partials), key=lambda r: r.offset):
            evaluator = evaluators.setdefault(
                record.partition,
                Evaluator(record.partition, fallback, partitions_count=self.partials),
            )
            fed = evaluator.feed(
                record.value or b"", offset=record.offset, append_ms=record.append_ms
            )
            out.setdefault(record.partition, []).extend(Applied(*one) for one in fed.applied)
        return out

    def decisions(self) -> list[Decision]:
        """All that was ever published, by workers."""
        return [
            decode_decision(record.value)
            for record in log_of(self.config, self.topics.decisions)
            if record.value and (record.key or b"").startswith((b"service:", b"edge:"))
        ]


@dataclass(frozen=True, slots=True)
class Applied:
    """An entry, and the boundary from which it was in force."""

    boundary: int
    due: Due


@dataclass(slots=True)
class InForceThen:
    """Which policy a partition must name at each boundary, by what it applied."""

    fallback: str
    applied: Sequence[Applied]

    def label(self, boundary: int, service: str | None = None) -> str:
        """Of a boundary; of a service's decisions."""
        full, tried = self.fallback, ""
        push: PolicyPush | None = None
        for one in self.applied:
            if one.boundary > boundary:
                break
            match one.due.record:
                case PolicyPush(rollout="full"):
                    full, push = policy_from_content(one.due.policy).label, None
                case PolicyPush() as candidate:
                    push, tried = candidate, policy_from_content(one.due.policy).label
                case Promote():
                    full, push = tried, None
                case Abort():
                    push = None
        is_tried = service is not None and push is not None and is_in_rollout(service, push)
        return tried if is_tried else full

    def overridden(self, boundary: int, scope: str) -> bool:
        """Whether an operator's level held."""
        patterns: set[str] = set()
        for one in self.applied:
            if one.boundary <= boundary:
                match one.due.record:
                    case OverrideSet(scope=pattern):
                        patterns.add(pattern)
                    case OverrideClear(scope=pattern):
                        patterns.discard(pattern)
        return any(is_match(scope, pattern) for pattern in patterns)


@dataclass(slots=True)
class Delays:
    """How long after its end each boundary's health was appended for the first time."""

    partials: int
    ms: dict[int, dict[int, int]] = field(init=False)
    """Partition -> boundary -> delay."""
    labels: dict[int, dict[int, str]] = field(init=False)

    def __post_init__(self) -> None:
        self.ms = {partition: {} for partition in range(self.partials)}
        self.labels = {partition: {} for partition in range(self.partials)}

    def gaps(self) -> list[tuple[int, int]]:
        """(partition, boundary) that is missing between two."""
        return [
            (partition, boundary)
            for partition, held in self.ms.items()
            for before, after in itertools.pairwise(sorted(held))
            for boundary in range(before + 1, after)
        ]

    def where(self, is_chosen: Callable[[int], bool]) -> list[int]:
        """Delays of chosen boundaries, all partitions, ascending."""
        return sorted(
            ms for held in self.ms.values() for boundary, ms in held.items() if is_chosen(boundary)
        )


def told(name: str, delays: Sequence[int]) -> str:
    """A line of figures."""
    if not delays:
        return f"{name}: none"
    return (
        f"{name}: {len(delays)} boundaries, median {statistics.median(delays):.0f} ms, "
        f"P95 {delays[int(0.95 * (len(delays) - 1))]} ms, max {delays[-1]} ms"
    )
