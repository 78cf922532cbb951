"""Each scene through the whole pipeline under policy `default`: the right one is blamed, nobody healthy is turned
away, and the graph that is shown is the one that is there."""

import itertools
from dataclasses import dataclass
from functools import cache

import pytest

from tests.goldens.incidents import BASE_MS
from tests.graph_oracle.cycles import rounds
from tests.graph_oracle.edges import EdgeCounts, edges
from tests.graph_oracle.reading import EVERYTHING, first_counted, last_30s, read
from tests.graph_oracle.traces import Edge, Traces
from tests.graph_scenes.scenes import SCENES, Scene, scene_named
from tests.graph_scenes.world import MESH
from tidegate.rules.pipeline import Offline
from tidegate.rules.policy import builtin_policy
from tidegate.schemas.decision import Decision, RootCause
from tidegate.schemas.graph import GraphFinding, GraphView
from tidegate.schemas.level import Level

POLICY = builtin_policy("default")
SEEN_AFTER_MS = 15_000
"""From the beginning of a fault: spans are up to 5 s old when they come, time-outs take a second more, evidence
needs some of them, and a window of 5 s has then only bad ones."""
HEARD_AFTER_MS = 10_000
"""From the beginning of a fault: before, some services have not sent a single span of it, and their callers, who
have, are all that is known to be bad."""

scenes = pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
bad_scenes = pytest.mark.parametrize(
    "scene", [scene for scene in SCENES if scene.is_graph_bad], ids=lambda scene: scene.name
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a scene."""

    decisions: list[Decision]
    views: list[GraphView]


@cache
def outcome_of(name: str) -> Outcome:
    offline = Offline(POLICY)
    out = offline.feed([(record.value, record.kafka_ms) for record in scene_named(name).records()])
    out.add(offline.finish())
    return Outcome(sorted(out.decisions, key=lambda one: one.boundary), out.views)


@cache
def traces_of(name: str) -> Traces:
    return Traces(read(record.value for record in scene_named(name).records()))


def at_s(ms: int) -> float:
    return (ms - BASE_MS) / 1000


def is_during(scene: Scene, ms: int) -> bool:
    """While the fault lasts and is seen."""
    return scene.fault_ms[0] + SEEN_AFTER_MS <= ms <= scene.fault_ms[1]


def view_during(scene: Scene) -> GraphView:
    """The last one while the fault lasts."""
    return [view for view in outcome_of(scene.name).views if is_during(scene, view.window_end_ms)][
        -1
    ]


def findings_of(scene: Scene, name: str) -> dict[tuple[str, ...], GraphFinding]:
    """All that were ever shown, the newest of each path."""
    return {
        tuple(finding.path): finding
        for view in outcome_of(scene.name).views
        for finding in view.findings
        if finding.name == name
    }


def blames(scene: Scene, causes: list[RootCause]) -> bool:
    """Whether those who are to be first are."""
    first = causes[: len(scene.expected_roots)]
    return {cause.name for cause in first} == set(scene.expected_roots)


# ---- root causes ----


@bad_scenes
def test_while_the_fault_lasts_the_expected_root_cause_ranks_first_in_every_view(
    scene: Scene,
) -> None:
    shown = [
        (at_s(view.window_end_ms), [(cause.name, cause.share) for cause in entry.root_causes])
        for view in outcome_of(scene.name).views
        for entry in view.entries
        if entry.entry == scene.entries[0]
        and is_during(scene, view.window_end_ms)
        and not blames(scene, entry.root_causes)
    ]
    assert shown == []


@bad_scenes
def test_every_decision_of_a_bad_graph_in_the_fault_names_the_expected_root_cause_first(
    scene: Scene,
) -> None:
    found = [
        decision
        for decision in outcome_of(scene.name).decisions
        if decision.scope == f"graph:{scene.entries[0]}"
        and is_during(scene, decision.window_end_ms)
        and decision.severity > Level.CLOSED
    ]
    assert found
    assert [
        (at_s(one.window_end_ms), [cause.name for cause in one.root_causes])
        for one in found
        if not blames(scene, one.root_causes)
    ] == []


@bad_scenes
def test_reasons_name_the_evidence(scene: Scene) -> None:
    entry = next(one for one in view_during(scene).entries if one.entry == scene.entries[0])
    for cause in entry.root_causes:
        assert 0.0 < cause.share <= 1.0
        assert len(cause.reason) > 20
    assert sum(cause.share for cause in entry.root_causes) <= 1.01


@scenes
def test_nobody_is_blamed_in_the_calm(scene: Scene) -> None:
    assert [
        (at_s(view.window_end_ms), entry.entry, [cause.name for cause in entry.root_causes])
        for view in outcome_of(scene.name).views
        for entry in view.entries
        if entry.root_causes and view.window_end_ms <= scene.fault_ms[0]
    ] == []


@scenes
def test_who_only_inherits_is_never_blamed_first(scene: Scene) -> None:
    innocent = {scope.partition(":")[2] for scope in scene.inherits | scene.healthy}
    assert [
        (at_s(view.window_end_ms), entry.entry, entry.root_causes[0].name)
        for view in outcome_of(scene.name).views
        for entry in view.entries
        if entry.root_causes
        and entry.root_causes[0].name in innocent
        and not scene.fault_ms[0] < view.window_end_ms < scene.fault_ms[0] + HEARD_AFTER_MS
        and view.window_end_ms <= scene.fault_ms[1]
    ] == []


# ---- who is turned away ----


@scenes
def test_nobody_healthy_gets_worse_than_degraded_1_or_is_rejected(scene: Scene) -> None:
    assert [
        (at_s(one.window_end_ms), one.scope, one.level, one.actions.reject, one.reason)
        for one in outcome_of(scene.name).decisions
        if one.scope in scene.healthy and (one.severity > Level.DEGRADED_1 or one.actions.reject)
    ] == []


@scenes
def test_only_who_is_in_a_cascade_rejects(scene: Scene) -> None:
    allowed = set()
    if scene.expects_l4:
        entry = scene.entries[0]
        allowed = {f"graph:{entry}", f"service:{scene.expects_l4}", f"graph:{scene.expects_l4}"}
    found = {one.scope for one in outcome_of(scene.name).decisions if one.actions.reject}
    assert found <= allowed
    assert bool(found) == bool(scene.expects_l4)


@pytest.mark.parametrize("scope", ["service:checkout", "graph:web"])
def test_a_cascade_rejects_for_a_while_and_leaves_once(scope: str) -> None:
    scene = scene_named("cascade")
    mine = [one for one in outcome_of("cascade").decisions if one.scope == scope]
    rejecting = [one for one in mine if one.actions.reject]
    assert {one.actions.retry_after_s for one in rejecting} == {60}
    assert {"L4"} <= {incident.rule for one in rejecting for incident in one.incidents}
    start_ms, end_ms = scene.fault_ms
    assert start_ms < rejecting[0].window_end_ms < start_ms + 25_000
    left_ms = next(o.window_end_ms for o in mine if o.boundary > rejecting[-1].boundary)
    # 30 s of window until the ratio of time-outs is below its limit, 30 s of damping.
    assert end_ms + 30_000 < left_ms < end_ms + 70_000
    turns = [key for key, _ in itertools.groupby(mine, key=lambda one: one.actions.reject)]
    assert turns in ([False, True, False], [True, False])


# ---- levels of graphs ----


@scenes
def test_the_graph_of_the_entry_is_bad_where_a_request_suffers_and_well_where_not(
    scene: Scene,
) -> None:
    levels = {
        view.window_end_ms: entry
        for view in outcome_of(scene.name).views
        for entry in view.entries
        if entry.entry == scene.entries[0]
    }
    during = [entry for ms, entry in levels.items() if is_during(scene, ms)]
    assert during
    if scene.is_graph_bad:
        assert all(entry.level != "closed" for entry in during)
        assert all(entry.score < 0.8 for entry in during)
    else:
        assert all(entry.level == "closed" for entry in during)
        assert all(0.8 < entry.score < 1.0 for entry in during)
    before = [entry for ms, entry in levels.items() if ms <= scene.fault_ms[0]]
    assert all(entry.level == "closed" for entry in before)


@scenes
def test_at_the_end_all_is_well_again(scene: Scene) -> None:
    last = outcome_of(scene.name).views[-1]
    assert {entry.entry: entry.level for entry in last.entries} == dict.fromkeys(
        scene.entries, "closed"
    )
    assert all(entry.root_causes == [] for entry in last.entries)


# ---- the graph itself ----


@scenes
def test_entries_are_those_with_traffic_from_outside(scene: Scene) -> None:
    found = {
        view.window_end_ms: sorted(entry.entry for entry in view.entries)
        for view in outcome_of(scene.name).views
        if view.window_end_ms > BASE_MS + 100_000
    }
    assert {ms: names for ms, names in found.items() if names != sorted(scene.entries)} == {}


@scenes
def test_the_view_has_the_oracles_nodes_and_edges(scene: Scene) -> None:
    traces, view = traces_of(scene.name), view_during(scene)
    found = edges(traces, EVERYTHING)
    assert {(edge.caller, edge.callee) for edge in view.edges} == set(found)
    virtual = traces.virtual()
    names = {name for edge in found for name in edge} | set(scene.entries)
    names |= {service for behind in virtual.values() for service in behind}
    kinds = {name: "virtual" if name in virtual else "service" for name in names}
    assert {node.name: node.kind for node in view.nodes} == kinds


@scenes
def test_the_view_counts_as_the_oracle_does(scene: Scene) -> None:
    """Over [t - 30 s, t), of what had come by t: of an edge that isn't closed now, of one that is closed when
    something of it came last (health says nothing new of it before)."""
    records = scene.records()
    counted_ms = first_counted([r.kafka_ms for r in records], grace_ms=POLICY.grace_ms)
    by_record = [read([record.value]) for record in records]
    named = traces_of(scene.name)
    in_order = sorted(
        (
            (max(from_ms, span.end_ns // 500_000_000 * 500 + 500), span)
            for spans, from_ms in zip(by_record, counted_ms, strict=True)
            for span in spans
        ),
        key=lambda pair: pair[0],
    )

    @cache
    def counts_at(boundary_ms: int) -> tuple[dict[Edge, EdgeCounts], dict[str, float]]:
        """And the seconds of the window since each service was seen: all, or since it came (again)."""
        window = last_30s(boundary_ms)
        traces = Traces([s for at_ms, s in in_order if at_ms <= boundary_ms and window.holds(s)])
        traces.answered = named.answered
        first_ms: dict[str, int] = {}
        for span in traces.spans:
            bucket_ms = span.end_ns // 500_000_000 * 500
            first_ms[span.service] = min(first_ms.get(span.service, bucket_ms), bucket_ms)
        seen_s = {name: (boundary_ms - ms) / 1000 for name, ms in first_ms.items()}
        return edges(traces, window), {name: s if s < 25 else 30 for name, s in seen_s.items()}

    for view in outcome_of(scene.name).views[12::11]:
        now_ms = view.window_end_ms
        told_ms = {
            named.edge(span): boundary_ms
            for boundary_ms, span in in_order
            if boundary_ms <= now_ms and span.is_call
        }
        for edge in view.edges:
            name = edge.caller, edge.callee
            if name not in told_ms or told_ms[name] < now_ms - 30_000:
                assert edge.calls_per_s == 0, f"{name} at {at_s(now_ms)} s"
                continue
            boundary_ms = told_ms[name] if edge.level == "closed" else now_ms
            found, seen_s = counts_at(boundary_ms)
            counts, per_s = found[name], found[name].calls / seen_s[edge.caller]
            where = f"{name} at {at_s(now_ms)} s, told at {at_s(boundary_ms)} s"
            assert edge.calls_per_s == pytest.approx(per_s, abs=0.001), where
            share = counts.timeouts / counts.calls
            assert edge.timeout_ratio == pytest.approx(share, abs=0.001), where


def test_a_mesh_address_stays_virtual() -> None:
    views = outcome_of("mesh").views
    assert views
    for view in views:
        if view.window_end_ms > BASE_MS + 90_000:
            mesh = next(node for node in view.nodes if node.name == MESH)
            assert mesh.kind == "virtual"
            assert [(e.caller, e.callee) for e in view.edges] == [("web", MESH)]


def test_an_optional_leg_is_known_to_be_optional_and_a_needed_one_to_be_hard() -> None:
    hard = {
        (edge.caller, edge.callee): edge.hard for edge in view_during(scene_named("diamond")).edges
    }
    assert hard["web", "right"] == pytest.approx(0.0, abs=0.05)
    hard = {
        (edge.caller, edge.callee): edge.hard for edge in view_during(scene_named("cascade")).edges
    }
    for callee in ("pay", "stock", "ship"):
        found = hard["checkout", callee]
        assert found is not None
        assert found > 0.9


# ---- findings ----


@scenes
def test_circles_with_requests_that_went_round_are_told_from_those_without(scene: Scene) -> None:
    found = findings_of(scene, "cycle")
    gone_round = {path for path, finding in found.items() if finding.exemplars}
    assert gone_round == scene.loops
    seen = {one.trace for one in rounds(traces_of(scene.name), EVERYTHING)}
    for path in gone_round:
        assert set(found[path].exemplars) <= seen
    assert {frozenset(path) for path in found} <= {
        frozenset({"orders", "stock"}),
        frozenset({"users", "groups"}),
    }


@scenes
def test_only_a_retry_storm_multiplies_calls(scene: Scene) -> None:
    expected = {
        "retry_storm": {("web", "api"), ("api", "search")},
        "cycle": {("orders", "stock")},
    }
    found = set(findings_of(scene, "amplification"))
    assert found <= expected.get(scene.name, set())
    if scene.name == "retry_storm":
        assert ("api", "search") in found


@scenes
def test_work_for_nobody_is_found_where_callees_outlive_their_callers(scene: Scene) -> None:
    expected = {
        "cascade": {("checkout", "pay"), ("checkout", "ship")},
        "retry_storm": {("api", "search")},
        "cycle": {("web", "orders"), ("orders", "stock")},
    }.get(scene.name, set())
    found = findings_of(scene, "outlives")
    assert set(found) - {("web", "api")} == expected
    assert all(finding.waste_s_per_min > 0 for finding in found.values())


def test_a_deadline_that_grows_downstream_is_found() -> None:
    assert set(findings_of(scene_named("cycle"), "deadline_grows")) == {("web", "orders", "stock")}
    for name in ("chain", "diamond", "mesh", "database"):
        assert findings_of(scene_named(name), "deadline_grows") == {}


@scenes
def test_no_network_is_blamed_where_none_is_slow(scene: Scene) -> None:
    """A dead callee's last P95 says nothing about what its callers wait for now. What queues in a caller's
    time-out is no network either, where the callee is late itself."""
    assert findings_of(scene, "network") == {}


@pytest.mark.parametrize(
    ("name", "edge", "deadline_ms"),
    [
        ("chain", ("c", "d"), 1_000),
        ("cascade", ("checkout", "pay"), 800),
        ("retry_storm", ("api", "search"), 400),
        ("cycle", ("orders", "stock"), 2_000),
    ],
)
def test_the_deadline_that_is_shown_is_the_time_out_that_the_caller_set(
    name: str, edge: tuple[str, str], deadline_ms: int
) -> None:
    shown = {(e.caller, e.callee): e.deadline_ms for e in view_during(scene_named(name)).edges}
    assert shown[edge] == pytest.approx(deadline_ms, rel=0.02)
