"""The simulated worlds are causal and always the same."""

import hashlib
import itertools
from collections import defaultdict
from dataclasses import replace

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.goldens.incidents import BASE_MS
from tests.graph_scenes.exporting import export, exported
from tests.graph_scenes.scenes import SCENES, Scene, scene_named
from tests.graph_scenes.simulation import CLIENT, SERVER, SimulatedSpan, run
from tests.graph_scenes.world import Call, Fault, Flow, Operation, Service, World

scenes = pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)

SLOW_SHOP = World(
    seed=1,
    seconds=20,
    services={
        "web": Service(
            {"page": Operation((1, 2), (Call("shop.get", 100, attempts_max=3, backoff_ms=10),))},
            error_share=0,
        ),
        "shop": Service({"get": Operation((60, 200))}, error_share=0),
    },
    flows=(Flow("web.page", 10),),
)
"""A third of the calls are answered before their caller gives up."""


def children(spans: list[SimulatedSpan]) -> dict[int, list[SimulatedSpan]]:
    out: dict[int, list[SimulatedSpan]] = defaultdict(list)
    for span in spans:
        out[span.parent].append(span)
    return out


@scenes
def test_a_world_runs_the_same_way_every_time(scene: Scene) -> None:
    first, second = run(replace(scene.world, seconds=40)), run(replace(scene.world, seconds=40))
    assert first == second
    digests = {
        hashlib.sha256(b"".join(r.value for r in export(scene.world, spans, "resource"))).digest()
        for spans in (first, second)
    }
    assert len(digests) == 1


@scenes
def test_children_begin_after_their_parents_and_end_before_unless_nobody_waits(
    scene: Scene,
) -> None:
    by_id = {span.span: span for span in scene.spans()}
    outlives = 0
    for span in scene.spans():
        parent = by_id.get(span.parent)
        if parent is None:
            continue
        assert span.trace == parent.trace
        assert span.start_us > parent.start_us or span.kind == CLIENT
        assert span.start_us >= parent.start_us
        if span.end_us > parent.end_us:
            outlives += 1
            assert span.kind == SERVER
            assert parent.result == "timeout"
    assert (outlives > 0) == (scene.name in {"cascade", "retry_storm", "cycle"})


@scenes
def test_ids_are_used_once(scene: Scene) -> None:
    assert len({span.span for span in scene.spans()}) == len(scene.spans())


@scenes
def test_traffic_has_its_rate(scene: Scene) -> None:
    """Until the first fault: a dead entry would get nothing."""
    seconds = min(fault.start_s for fault in scene.world.faults)
    for entry in scene.entries:
        expected = sum(f.per_s for f in scene.world.flows if f.to.split(".")[0] == entry)
        got = sum(
            not span.parent and span.service == entry and span.end_us < seconds * 1_000_000
            for span in scene.spans()
        )
        assert got / seconds == pytest.approx(expected, rel=0.05)


def test_a_caller_that_gives_up_ends_its_span_and_the_callee_works_on() -> None:
    spans = run(SLOW_SHOP)
    below = children(spans)
    given_up = [span for span in spans if span.result == "timeout"]
    assert len(given_up) > 100
    for call in given_up:
        assert call.end_us - call.start_us == 100_000
        for request in below[call.span]:
            assert request.result == "ok"
            assert request.end_us > call.end_us - 600


def test_a_retry_begins_after_the_attempt_before_has_failed() -> None:
    spans = run(SLOW_SHOP)
    below = children(spans)
    counts = set()
    for request in spans:
        if request.service != "web" or request.kind != SERVER:
            continue
        attempts = sorted(below[request.span], key=lambda span: span.start_us)
        counts.add(len(attempts))
        for earlier, later in itertools.pairwise(attempts):
            assert earlier.result == "timeout"
            assert later.start_us > earlier.end_us
        assert (request.result == "ok") == (attempts[-1].result == "ok")
        assert request.end_us >= attempts[-1].end_us
    assert counts == {1, 2, 3}


def test_who_dies_ends_nothing_more_and_loses_what_it_had_not_exported() -> None:
    world = replace(SLOW_SHOP, faults=(Fault("dead", "shop", 9, 15, share=0.0),))
    spans = run(world)
    alive = [span for span in spans if span.service == "shop"]
    assert not [span for span in alive if 9_000_000 <= span.end_us < 15_000_000]
    assert not [span for span in alive if span.start_us < 9_000_000 <= span.end_us]
    lost = set(spans) - set(exported(world, spans))
    assert lost
    assert all(span.service == "shop" and 4e6 < span.end_us < 9e6 for span in lost)


def test_a_service_with_workers_serves_as_many_at_once_and_refuses_beyond_its_queue() -> None:
    shop = Service({"get": Operation((100, 100))}, error_share=0, workers=2, queue_max=1)
    world = replace(SLOW_SHOP, flows=(Flow("web.page", 60),))
    world = replace(world, services={**world.services, "shop": shop})
    served = [span for span in run(world) if span.service == "shop"]
    done = [span for span in served if span.result == "ok"]
    refused = [span for span in served if span.result == "error"]
    assert len(done) == pytest.approx(2 * 10 * 20, rel=0.02)
    assert {span.end_us - span.start_us for span in refused} == {500}
    assert max(span.end_us - span.start_us for span in done) <= 200_000


def test_a_service_with_workers_may_not_die() -> None:
    shop = Service({"get": Operation((1, 2))}, workers=2)
    world = replace(SLOW_SHOP, services={**SLOW_SHOP.services, "shop": shop})
    with pytest.raises(ValueError, match="shop: has workers"):
        run(replace(world, faults=(Fault("dead", "shop", 1, 2),)))


@scenes
def test_spans_are_one_to_five_seconds_old_when_they_are_exported(scene: Scene) -> None:
    for record in scene.records("resource"):
        request = ExportTraceServiceRequest()
        request.ParseFromString(record.value)
        assert len(request.resource_spans) == 1
        for span in request.resource_spans[0].scope_spans[0].spans:
            age_ms = record.kafka_ms - span.end_time_unix_nano / 1_000_000
            assert 1_000 <= age_ms <= 5_010


@scenes
def test_records_come_in_the_order_of_their_times(scene: Scene) -> None:
    times = [record.kafka_ms for record in scene.records()]
    assert times == sorted(times)
    assert times[0] > BASE_MS


def test_a_trace_lies_on_one_partition_where_records_are_placed_by_trace() -> None:
    partitions: dict[bytes, set[int]] = defaultdict(set)
    for record in scene_named("diamond").records("trace"):
        request = ExportTraceServiceRequest()
        request.ParseFromString(record.value)
        for resource in request.resource_spans:
            for span in resource.scope_spans[0].spans:
                partitions[span.trace_id].add(record.partition)
    assert all(len(found) == 1 for found in partitions.values())
    assert set.union(*partitions.values()) == {0, 1, 2, 3}
