"""However spans are cut into records, by trace, by resource, by a collector or at random, the same callees are found,
the same graph is drawn and the same one is blamed."""

import itertools

import pytest

from tests.goldens.incidents import BASE_MS
from tests.graph_scenes.exporting import Grouping
from tests.graph_scenes.scenes import Scene, scene_named
from tidegate.rules.pipeline import Offline
from tidegate.rules.policy import builtin_policy
from tidegate.schemas.graph import GraphView

GROUPINGS: tuple[Grouping, ...] = ("resource", "collector", "trace", "random")
WARM_MS = BASE_MS + 90_000


def views_of(scene: Scene, grouping: Grouping) -> list[GraphView]:
    offline = Offline(builtin_policy("default"))
    out = offline.feed([(r.value, r.kafka_ms) for r in scene.records(grouping)])
    out.add(offline.finish())
    return [view for view in out.views if view.window_end_ms >= WARM_MS]


@pytest.mark.parametrize(
    ("name", "grouping"), list(itertools.product(("chain", "mesh"), GROUPINGS))
)
def test_names_graph_and_blame_are_the_same(name: str, grouping: Grouping) -> None:
    scene = scene_named(name)
    views = views_of(scene, grouping)
    expected = {
        "chain": {("web", "a"), ("a", "b"), ("b", "c"), ("c", "d")},
        "mesh": {("web", "mesh:15001")},
    }[name]
    assert {(edge.caller, edge.callee) for edge in views[-1].edges} == expected
    late = [v for v in views if scene.fault_ms[0] + 30_000 <= v.window_end_ms <= scene.fault_ms[1]]
    blamed = {
        entry.root_causes[0].name
        for view in late
        for entry in view.entries
        if entry.entry == "web" and entry.root_causes
    }
    assert blamed == set(scene.expected_roots)
    assert all(entry.entry == "web" for view in late for entry in view.entries)
