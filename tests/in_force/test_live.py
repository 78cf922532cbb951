"""Policies, roll-outs and overrides put in force under load on a real Kafka, with workers killed meanwhile: no
boundary is lost or delayed, and what was published follows from the log.
"""

import statistics
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from tests.control.asked import bad_push
from tests.control.sequencing import ask_all
from tests.in_force.live import (
    BOUNDARY_MS,
    Applied,
    InForceThen,
    Installation,
    Live,
    told,
)
from tests.kafka import KafkaCluster
from tests.streams.live import log_of, until
from tidegate.rules.policy import builtin_policy
from tidegate.schemas.scope import key_of_scope
from tidegate.streams.kafka_log import log_spans

SPANS, PARTIALS, PER_S = 2, 3, 100
SWITCH_BOUNDARIES = 6
"""Around an effective boundary: one before, and three seconds in which a switch could show."""
MARGIN_MS = 3_000
"""A shared machine stands still for that long by itself; a boundary that waits for a switch, would wait for the
lead of 2 s and more, each time."""
KILLED_S = 40.0
"""Until a session of 6 s has ended, the group is whole again and the backlog worked off."""
FALLBACK = builtin_policy("default")
SEQUENCED = "a control record was sent to every partition"
HISTORY = "control records in force were sent"


class Operators:
    """Everything that is asked during the run."""

    def __init__(self, live: Installation) -> None:
        self._live = live
        self.one = live.policy("one", "settings:\n  mode: enforce\n")
        self.two = live.policy("two", "settings:\n  mode: enforce\n  target_ms: 150\n")
        self.three = live.policy("three", "extends: adaptive\n")
        self.bad = live.policy("bad", "settings:\n  mood: good\n")
        self.count = 0

    def ask(self, *arguments: str) -> None:
        self._live.asked(*arguments)
        self.count += 1

    def refused(self) -> None:
        """Here already; and by the sequencer, whatever wrote it."""
        told = self._live.run("policy", "push", self.bad, "--reason", "x")
        assert (told.status, told.out) == (2, "")
        assert "settings.mood" in told.err
        ask_all(self._live.config, self._live.topics, bad_push())

    def settled(self) -> None:
        """What was asked is in force everywhere, without haste."""
        self._live.wait_for_entries(self.count)
        time.sleep(2)


def owner_of_sequencer(workers: list[Live]) -> Live:
    """Who wrote the last entry that was asked."""
    offsets = {
        live.port: max((event["offset"] for event in live.events(SEQUENCED)), default=-1)
        for live in workers
        if live.is_up
    }
    owner = max((live for live in workers if live.is_up), key=lambda live: offsets[live.port])
    assert offsets[owner.port] >= 0
    return owner


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_hot_reload_under_load_loses_and_delays_no_boundary_whoever_is_killed(
    kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    live = Installation(kafka_cluster, topic_prefix, tmp_path, spans=SPANS, partials=PARTIALS)
    operators = Operators(live)
    killed_s: list[float] = []
    with ExitStack() as stack:
        workers = [stack.enter_context(live.worker(name)) for name in ("a", "b")]
        stack.enter_context(live.load(per_s=PER_S))
        for each in workers:
            each.worker.wait_for("partitions rebuilt")
        live.settle()
        began = int(time.time() * 1000) // BOUNDARY_MS
        time.sleep(8)
        operators.ask("policy", "push", operators.one)
        operators.settled()
        operators.ask("policy", "push", operators.two, "--grey", "50%", "--services", "web")
        operators.settled()
        operators.ask("policy", "promote")
        operators.settled()
        operators.ask("policy", "push", operators.three, "--shadow", "--yes")
        operators.settled()
        operators.ask("override", "set", "cart", "open", "--for", "1h")
        operators.refused()
        operators.settled()

        # The worker without the sequencer; a switch while its partitions stand still.
        victim = next(w for w in workers if w is not owner_of_sequencer(workers))
        killed_s.append(time.time())
        victim.worker.kill()
        operators.ask("policy", "promote", "--yes")
        workers.append(stack.enter_context(live.worker("c")))
        workers[-1].worker.wait_for("partitions rebuilt", within_s=90)
        live.settle()
        operators.settled()

        # The one with it, wherever it is by now; what is asked meanwhile waits for the next.
        operators.ask("override", "set", "search", "degraded_1", "--for", "1h")
        operators.settled()
        victim = owner_of_sequencer(workers)
        killed_s.append(time.time())
        victim.worker.kill()
        operators.ask("policy", "push", operators.two, "--grey", "50%")
        operators.ask("override", "clear", "cart", "--no-wait")
        workers.append(stack.enter_context(live.worker("d")))
        workers[-1].worker.wait_for("partitions rebuilt", within_s=90)
        live.settle()
        operators.settled()
        assert any(each.events(HISTORY) for each in workers if each.is_up)

        time.sleep(max(0.0, killed_s[-1] + KILLED_S - time.time()))
        operators.ask("policy", "abort")
        operators.settled()
        for how in (["set", "*", "closed", "--for", "1h"], ["clear", "*"]):
            operators.ask("override", *how)
            operators.settled()
        operators.ask("policy", "rollback", "--yes")
        operators.settled()
        shown = [each.policies() for each in workers if each.is_up]
        print("while it runs:", live.compare())
        live.settle()
        steady = range(began, int(time.time() * 1000) // BOUNDARY_MS)
        for each in workers:
            if each.is_up:
                assert each.worker.stop() == 0
    check(live, operators, steady, killed_s, shown)


def check(
    live: Installation,
    operators: Operators,
    steady: range,
    killed_s: list[float],
    shown: list[dict[int, str]],
) -> None:
    """Everything that the topics tell."""
    delays, entries, applied = live.delays(), live.entries(), live.applied(FALLBACK)

    # Every entry, once, in every partition; in time, but for those asked around the second kill.
    assert [len(entries[p]) for p in range(PARTIALS)] == [operators.count] * PARTIALS
    assert entries[0] == entries[1] == entries[2]
    effective = [entry.effective_boundary for entry in entries[0]]
    for partition in range(PARTIALS):
        assert len(applied[partition]) == operators.count
        for entry, one in zip(entries[partition], applied[partition], strict=True):
            is_near = any(0 <= entry.effective_boundary / 2 - at_s < KILLED_S for at_s in killed_s)
            assert one.boundary == entry.effective_boundary or (one.due.is_late and is_near)
    late = sum(one.due.is_late for ones in applied.values() for one in ones)

    # No boundary lost, none delayed.
    assert delays.gaps() == []
    last = min(max(held) for held in delays.ms.values())
    assert last >= steady.stop - SWITCH_BOUNDARIES > max(effective)

    def is_disturbed(boundary: int) -> bool:
        # What ended just before a kill may have been on its way.
        return any(-2 <= boundary / 2 - at_s < KILLED_S for at_s in killed_s)

    def is_switch(boundary: int) -> bool:
        return any(-1 <= boundary - at < SWITCH_BOUNDARIES for at in effective)

    def is_quiet(boundary: int) -> bool:
        return boundary in steady and not is_disturbed(boundary)

    quiet = delays.where(lambda b: is_quiet(b) and not is_switch(b))
    switch = delays.where(lambda b: is_quiet(b) and is_switch(b))
    print(f"{operators.count} entries, {late} of {operators.count * PARTIALS} applied late")
    print(told("quiet", quiet), told("switch", switch), sep="\n")
    disturbed = delays.where(is_disturbed)
    print(told("around kills", disturbed))
    assert max(disturbed) < FALLBACK.timing.lease_ms, "clients fell back"
    assert len(switch) > 20
    assert statistics.median(switch) < statistics.median(quiet) + MARGIN_MS
    assert max(switch) < max(quiet) + MARGIN_MS

    check_labels(live, applied)

    # All partitions are some worker's, and run what was asked last.
    final = InForceThen(FALLBACK.label, applied[0]).label(last)
    assert final.startswith("two@")
    assert {p for held in shown for p in held} == set(range(PARTIALS))
    assert {label for held in shown for label in held.values()} == {final}

    print("at its end:", live.compare())


def check_labels(live: Installation, applied: dict[int, list[Applied]]) -> None:
    """From an effective boundary on, everything that is published names the new policy."""
    then = {p: InForceThen(FALLBACK.label, ones) for p, ones in applied.items()}
    for partition, labels in live.delays().labels.items():
        assert {b: then[partition].label(b) for b in labels} == labels
    decisions = live.decisions()
    assert {d.policy.partition("@")[0] for d in decisions} == {"default", "one", "two", "three"}
    for d in decisions:
        service = key_of_scope(d.scope)[0]
        where = (d.scope, d.boundary, d.partition)
        assert d.policy == then[d.partition].label(d.boundary, service), where
        held = then[d.partition].overridden(d.boundary, d.scope)
        assert (d.override is not None) is held, where
    assert any(d.override for d in decisions)
    shadow, alerts = (log_of(live.config, t) for t in (live.topics.shadow, live.topics.alerts))
    print(f"{len(decisions)} decisions, {len(shadow)} of the shadow, {len(alerts)} alerts")
    assert shadow


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("is_log_lost", [False, True])
def test_a_pushed_policy_is_in_force_again_where_all_snapshots_were_lost(
    kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path, is_log_lost: bool
) -> None:
    """From the log where it still has the entries; else from the control topic, as soon as a worker starts:
    later than its boundary, and that is counted."""
    live = Installation(kafka_cluster, topic_prefix, tmp_path, spans=1, partials=2)
    policy = live.policy("one", "settings:\n  mode: enforce\n")
    with live.load(per_s=20):
        with live.worker("first") as first:
            first.worker.wait_for("partitions rebuilt")
            live.settle()
            live.asked("policy", "push", policy)
            live.asked("override", "set", "cart", "open", "--for", "10m")
            live.wait_for_entries(2)
            until(lambda: all(live.snapshots()[p] >= 2 for p in (0, 1)), what="both snapshots")
            first.worker.kill()
        cluster_forgets(live, is_log_lost=is_log_lost)
        began_s = time.time()
        with live.worker("second") as second:
            second.worker.wait_for("partitions rebuilt")
            begins = second.events("partitions rebuilt")[0]["partitions"]
            assert all((offset > 0) is is_log_lost for offset in begins.values())
            until(
                lambda: (
                    {label.partition("@")[0] for label in second.policies().values()} == {"one"}
                    and len(second.policies()) == 2
                ),
                what="the policy in force",
            )
            print(f"in force again {time.time() - began_s:.1f} s after the worker's start")
            now = int(time.time() * 1000) // BOUNDARY_MS
            until(
                lambda: any(
                    d.boundary >= now and d.scope == "service:cart" and d.override
                    for d in live.decisions()
                ),
                what="the override in a decision",
            )
            live.settle()
            assert second.worker.stop() == 0
    lines = [line for line in second.events("in force") if line["stage"] == "evaluate"]
    assert {(line["partition"], line["kind"]) for line in lines} == {
        (partition, kind) for partition in (0, 1) for kind in ("PolicyPush", "OverrideSet")
    }
    assert {line["late"] for line in lines} == {is_log_lost}
    if not is_log_lost:
        print(live.compare())


def cluster_forgets(live: Installation, *, is_log_lost: bool) -> None:
    """The snapshots' changelog is made anew; partials are as if past their retention."""
    (spec,) = (
        spec
        for spec in live.topics.specs(partitions_count=live.partials)
        if spec.name == live.topics.snapshots_changelog
    )
    live.cluster.delete_topic(spec.name)
    live.cluster.create_topic(spec.name, spec.partitions_count, config=spec.config)
    if is_log_lost:
        with_ends = [
            TopicPartition(s.topic, s.partition, s.end)
            for s in log_spans(live.config, [live.topics.partials])
        ]
        admin = live.cluster.admin()  # kept: a client that is collected takes its answers with it
        for done in admin.delete_records(with_ends).values():
            done.result(30)
