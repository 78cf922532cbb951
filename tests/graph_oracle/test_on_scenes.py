"""The oracle knows only the records' bytes, the simulation only what it did: both must say the same."""

from collections import defaultdict
from functools import cache

import pytest

from tests.goldens.incidents import BASE_MS
from tests.graph_oracle.cycles import components, rounds
from tests.graph_oracle.edges import EdgeCounts, amplification, edges, network, nodes
from tests.graph_oracle.reading import Window, last_30s, read
from tests.graph_oracle.timeouts import (
    Outlived,
    deadline_grows,
    gave_up,
    gives_up_early,
    outlived,
)
from tests.graph_oracle.traces import Edge, Traces
from tests.graph_scenes.exporting import GROUPINGS, exported
from tests.graph_scenes.scenes import SCENES, Scene, scene_named
from tests.graph_scenes.simulation import CLIENT, SERVER, SimulatedSpan
from tests.graph_scenes.world import MESH

MS = 1_000_000
BOUNDARIES_S = (60, 150, 155, 180, 212, 240, 280)
"""Before, at the onset, inside, around the end and after the faults."""

scenes = pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)


@cache
def traces_of(name: str) -> Traces:
    return Traces(read(record.value for record in scene_named(name).records()))


def sent(scene: Scene) -> list[SimulatedSpan]:
    return exported(scene.world, scene.spans())


def edge_sent(scene: Scene, span: SimulatedSpan) -> Edge:
    world = scene.world
    is_node = span.callee in world.databases or span.callee in world.behind_mesh
    return span.service, world.target(span.callee) if is_node else span.callee


def calm(scene: Scene) -> Window:
    return Window(BASE_MS + 30_000, scene.fault_ms[0])


def during(scene: Scene) -> Window:
    """What ends while everything that ends began in the fault."""
    return Window(scene.fault_ms[0] + 5_000, scene.fault_ms[1])


@scenes
def test_every_edge_has_the_calls_that_were_sent_over_it(scene: Scene) -> None:
    for boundary_s in BOUNDARIES_S:
        window = last_30s(BASE_MS + boundary_s * 1000)
        expected: dict[Edge, EdgeCounts] = defaultdict(EdgeCounts)
        requests: dict[str, int] = defaultdict(int)
        for span in sent(scene):
            if not (boundary_s - 30) * 1_000_000 <= span.end_us < boundary_s * 1_000_000:
                continue
            if span.kind == SERVER:
                requests[span.service] += 1
                continue
            counts = expected[edge_sent(scene, span)]
            counts.calls += 1
            counts.failed += span.result != "ok"
            counts.timeouts += span.result == "timeout"
        for (caller, _), counts in expected.items():
            counts.requests = requests[caller]
        traces = traces_of(scene.name)
        assert edges(traces, window) == expected
        assert {name: counts.requests for name, counts in nodes(traces, window).items()} == requests


@pytest.mark.parametrize("name", ["chain", "mesh"])
def test_how_spans_are_put_into_records_changes_nothing(name: str) -> None:
    scene = scene_named(name)
    expected = {(span.trace, span.span): span for span in traces_of(scene.name).spans}
    for grouping in GROUPINGS:
        found = read(record.value for record in scene.records(grouping))
        assert {(span.trace, span.span): span for span in found} == expected
        assert len(found) == len(expected)


@scenes
def test_entries_are_who_gets_the_traffic_from_outside(scene: Scene) -> None:
    assert traces_of(scene.name).entries() == set(scene.entries)


@scenes
def test_work_for_nobody_is_what_ended_after_its_caller(scene: Scene) -> None:
    spans = sent(scene)
    calls = {span.span: span for span in spans if span.kind == CLIENT}
    expected: dict[Edge, list[int]] = defaultdict(list)
    for span in spans:
        if span.kind == SERVER and span.parent in calls:
            caller = calls[span.parent]
            expected[edge_sent(scene, caller)].append(span.end_us - caller.end_us)
    found = outlived(traces_of(scene.name), Window(0, BASE_MS * 2))
    assert found == {
        edge: Outlived(
            len(over), sum(us > 0 for us in over), sum(us * 1000 for us in over if us > 0)
        )
        for edge, over in expected.items()
    }


@pytest.mark.parametrize(
    ("name", "edge", "deadline_ms"),
    [
        ("chain", ("c", "d"), 1_000),
        ("cascade", ("checkout", "pay"), 800),
        ("cascade", ("checkout", "stock"), 800),
        ("cascade", ("checkout", "ship"), 800),
        ("retry_storm", ("api", "search"), 400),
        ("cycle", ("web", "orders"), 1_000),
        ("cycle", ("orders", "stock"), 2_000),
    ],
)
def test_the_deadline_seen_is_the_time_out_that_the_caller_set(
    name: str, edge: Edge, deadline_ms: int
) -> None:
    found = gave_up(traces_of(name), during(scene_named(name)))
    assert found[edge].deadline_ns == deadline_ms * MS
    assert found[edge].calls > 50


@scenes
def test_nobody_gives_up_in_the_calm(scene: Scene) -> None:
    assert gave_up(traces_of(scene.name), calm(scene)) == {}


def test_a_dead_service_is_silent_and_its_callers_callers_do_not_time_out() -> None:
    scene = scene_named("chain")
    window = Window(scene.fault_ms[0] + 1_000, scene.fault_ms[1])
    found = edges(traces_of("chain"), window)
    assert "d" not in nodes(traces_of("chain"), window)
    assert found["c", "d"].timeouts == found["c", "d"].calls > 700
    assert found["b", "c"].failed == found["b", "c"].calls
    assert found["b", "c"].timeouts == 0
    assert ("c", "d") not in outlived(traces_of("chain"), window)


def test_who_does_without_an_optional_leg_stays_well() -> None:
    found = edges(traces_of("diamond"), during(scene_named("diamond")))
    assert found["web", "right"].failed == found["web", "right"].calls > 700
    web = nodes(traces_of("diamond"), during(scene_named("diamond")))["web"]
    assert web.failed / web.requests < 0.01


def test_three_dependencies_time_out_at_once_and_recover() -> None:
    scene = scene_named("cascade")
    for callee in scene.expected_roots:
        bad = edges(traces_of("cascade"), during(scene))["checkout", callee]
        assert bad.timeouts / bad.calls > 0.95
        after = Window(scene.fault_ms[1] + 5_000, BASE_MS + 340_000)
        assert edges(traces_of("cascade"), after)["checkout", callee].timeouts == 0


def test_slow_callees_go_on_for_nobody_and_dead_ones_do_not() -> None:
    found = outlived(traces_of("cascade"), during(scene_named("cascade")))
    assert found["checkout", "pay"].outlived > 500
    assert found["checkout", "ship"].outlived > 400
    assert ("checkout", "stock") not in found


def test_a_retry_storm_multiplies_calls() -> None:
    scene = scene_named("retry_storm")
    found = amplification(traces_of("retry_storm"), during(scene), calm(scene))
    assert 0.99 < found["api", "search"].usual < 1.01
    assert 3.5 < found["api", "search"].now <= 4.1
    assert 1.8 < found["web", "api"].now <= 2.1


def test_requests_go_round_where_they_do_and_only_there() -> None:
    traces = traces_of("cycle")
    scene = scene_named("cycle")
    everything = Window(0, BASE_MS * 2)
    assert components(edges(traces, everything)) == {
        frozenset({"orders", "stock"}),
        frozenset({"users", "groups"}),
    }
    found = rounds(traces, everything)
    assert {one.path for one in found} == scene.loops
    confirmed = {f"{span.trace:032x}" for span in sent(scene) if span.name == "POST /confirm"}
    assert {one.trace for one in found} <= confirmed
    assert len(found) > 0.95 * len(confirmed)


@pytest.mark.parametrize("scene", [s for s in SCENES if not s.loops], ids=lambda scene: scene.name)
def test_no_other_scene_has_a_cycle(scene: Scene) -> None:
    traces = traces_of(scene.name)
    assert components(edges(traces, Window(0, BASE_MS * 2))) == set()
    assert rounds(traces, Window(0, BASE_MS * 2)) == []


def test_a_deadline_that_grows_downstream() -> None:
    traces, window = traces_of("cycle"), during(scene_named("cycle"))
    assert deadline_grows(traces, window) == {("web", "orders", "stock"): (1_000 * MS, 2_000 * MS)}
    assert ("web", "orders") in gives_up_early(traces, window)


def test_a_mesh_address_has_three_services_behind_it() -> None:
    traces = traces_of("mesh")
    assert traces.virtual() == {MESH: {"catalog", "cart", "price"}}
    window = during(scene_named("mesh"))
    assert set(edges(traces, window)) == {("web", MESH)}
    price = nodes(traces, window)["price"]
    assert 0.85 < price.failed / price.requests < 0.95


def test_the_network_through_a_sidecar_is_what_the_world_has() -> None:
    found = network(traces_of("mesh"), calm(scene_named("mesh")))["web", MESH]
    low_us, high_us = scene_named("mesh").world.network_us
    assert 2 * low_us * 1000 < found.median_ns < 2 * high_us * 1000
    assert abs(found.median_ns - (low_us + high_us) * 1000) < 0.2 * MS


def test_a_database_is_a_node_with_nobody_behind_it() -> None:
    traces = traces_of("database")
    assert traces.virtual() == {"postgresql/inventory": set()}
    found = edges(traces, during(scene_named("database")))
    assert found["cart", "postgresql/inventory"].failed == 0
    assert found["catalog", "postgresql/inventory"].calls > 500
