"""What only the whole fleet shows: everything worsens at once while telemetry is odd; one service silent or in
the middle of a network fault; limits."""

import numpy as np

from tidegate.rules.graph.evaluator import GraphEvaluator
from tidegate.rules.outputs import Outputs
from tidegate.rules.policy import Policy, builtin_policy, load_policy
from tidegate.schemas.cells import WEIGHT_ONE
from tidegate.schemas.facts import Fact
from tidegate.schemas.health import NUMBERS, Health, encode_health
from tidegate.schemas.level import Level, level_named
from tidegate.schemas.outcome import Outcome

START = 3_500_000_000
PER_BOUNDARY = 10


class Fleet:
    """Services that call each other, told to one graph stage as evaluate would, by hand."""

    def __init__(self, edges: list[tuple[str, str]], policy: Policy | None = None) -> None:
        services = sorted({name for pair in edges for name in pair})
        self.keys = sorted([(name, "") for name in services] + edges)
        self.evaluator = GraphEvaluator(policy or builtin_policy("default"), partitions_count=1)
        self.boundary, self.offset = START, 0
        self.outputs: list[Outputs] = []
        self.facts: list[Fact] = []
        """Told at the next boundary."""

    def go(
        self,
        boundaries: int,
        *,
        failing: set[tuple[str, str]] = frozenset(),  # type: ignore[assignment]  # never changed
        levels: dict[tuple[str, str], str] | None = None,
        silent: set[str] = frozenset(),  # type: ignore[assignment]  # never changed
        garbage: int = 0,
    ) -> None:
        """So many boundaries in which every key merges 10 requests."""
        for _ in range(boundaries):
            self.boundary += 1
            for _ in range(garbage):
                self._feed(b"\xc1")
            keys = [key for key in self.keys if key[1] or key[0] not in silent]
            for part in encode_health(self._health(keys, failing, levels or {})):
                self._feed(part)

    def level(self, scope: str) -> str:
        """As published last."""
        found = [d for out in self.outputs for d in out.decisions if d.scope == scope]
        return found[-1].level

    def counted(self, name: str) -> int:
        return sum(out.counters[name] for out in self.outputs)

    def _feed(self, value: bytes) -> None:
        now_ms = self.boundary * 500 + 500
        self.outputs.append(self.evaluator.feed(value, offset=self.offset, append_ms=now_ms))
        self.offset += 1

    def _health(
        self,
        keys: list[tuple[str, str]],
        failing: set[tuple[str, str]],
        levels: dict[tuple[str, str], str],
    ) -> Health:
        k = len(keys)
        is_failing = np.array([key in failing for key in keys])
        level = np.array([level_named(levels.get(key, "closed")) for key in keys], np.uint8)
        numbers = {name: np.zeros(k, dtype) for name, dtype in NUMBERS.items()}
        numbers["requests"][:] = 60 * PER_BOUNDARY
        numbers["qps"][:] = 2_000 * PER_BOUNDARY
        numbers["hard"][:] = -1
        numbers["error"] = np.where(is_failing, 1_000, 0).astype(np.int16)
        numbers["marks"] = np.where(is_failing, 1, 0).astype(np.uint16)
        facts, self.facts = self.facts, []
        return Health(
            facts=facts,
            partition=0,
            boundary=self.boundary,
            policy="test",
            keys=keys,
            score=np.where(is_failing, 0, 1_000).astype(np.int32),
            level=level,
            findings=np.zeros(k, np.uint8),
            p95_us=np.full(k, 20_000, np.int64),
            key=np.arange(k, dtype=np.uint32),
            age=np.zeros(k, np.uint16),
            code=np.where(is_failing, Outcome.SERVER_ERROR, Outcome.OK).astype(np.uint16),
            bin=np.full(k, 500, np.uint16),
            count=np.full(k, PER_BOUNDARY, np.int32),
            weight=np.full(k, WEIGHT_ONE, np.int32),
            numbers=numbers,
        )


MANY = [(f"front-{i:02d}", f"back-{i:02d}") for i in range(25)]


def worst(fleet: Fleet) -> str:
    return max((fleet.level(f"inbound:{callee}") for _, callee in MANY), key=level_named)


def test_levels_are_held_while_everything_worsens_and_telemetry_is_odd() -> None:
    fleet = Fleet(MANY)
    silent = {callee for _, callee in MANY}
    fleet.go(130)
    fleet.go(10, failing=set(MANY), silent=silent, garbage=60)
    assert worst(fleet) == "closed"
    alerts = [alert for out in fleet.outputs for alert in out.alerts]
    assert [(alert.rule, alert.scope) for alert in alerts] == [("telemetry", "partition:1")]


def test_without_odd_telemetry_the_same_is_what_it_looks_like() -> None:
    fleet = Fleet(MANY)
    silent = {callee for _, callee in MANY}
    fleet.go(130)
    fleet.go(40, failing=set(MANY), silent=silent)
    assert level_named(worst(fleet)) > Level.DEGRADED_1


PAIR = [("a", "pay"), ("b", "pay"), ("c", "pay")]


def test_a_network_fault_that_the_service_does_not_see_binds_nobody_beyond_degraded_1() -> None:
    fleet = Fleet(PAIR)
    fleet.go(130)
    fleet.go(60, failing=set(PAIR))
    assert fleet.level("inbound:pay") == "degraded_1"


def test_both_views_worse_bind_everyone() -> None:
    fleet = Fleet(PAIR)
    fleet.go(130)
    fleet.go(60, failing={*PAIR, ("pay", "")}, levels={("pay", ""): "open"})
    assert level_named(fleet.level("inbound:pay")) >= Level.OPEN


def test_a_service_that_falls_silent_has_no_view() -> None:
    fleet = Fleet(PAIR)
    fleet.go(130)
    fleet.go(60, failing=set(PAIR), silent={"pay"})
    assert level_named(fleet.level("inbound:pay")) >= Level.OPEN


def test_its_own_worse_view_alone_is_worth_degraded_1() -> None:
    fleet = Fleet(PAIR)
    fleet.go(130)
    fleet.go(30, levels={("pay", ""): "open"})
    assert fleet.level("inbound:pay") == "degraded_1"
    fleet.go(60, levels={("pay", ""): "half_open"})
    assert fleet.level("inbound:pay") == "closed"


def test_nodes_and_edges_beyond_the_limits_are_counted_and_left_out() -> None:
    text = "name: small\ngraph: {nodes_max: 9, edges_max: 2}\n"
    fleet = Fleet(MANY[:5], load_policy(text, where="small.yaml"))
    fleet.go(3)
    structure = fleet.evaluator.state.structure
    assert (structure.nodes_count, structure.edges_count) == (9, 2)
    assert fleet.counted("overflow_graph_nodes") > 0
    assert fleet.counted("overflow_graph_edges") > 0


def test_an_edge_that_nobody_calls_ends_after_its_time() -> None:
    text = "name: brief\ngraph: {edge_ttl_s: 30}\n"
    fleet = Fleet([*PAIR, ("a", "mail")], load_policy(text, where="brief.yaml"))
    fleet.go(10)
    version = fleet.evaluator.state.structure.version
    fleet.keys = [key for key in fleet.keys if "mail" not in key]
    fleet.go(130)
    structure = fleet.evaluator.state.structure
    assert ("a", "mail") not in structure.by_key
    assert ("mail", "") not in structure.by_key
    assert structure.version > version


def test_an_entry_is_who_gets_requests_that_no_known_caller_made() -> None:
    fleet = Fleet([("web", "pay")])
    fleet.go(200)
    scopes = {d.scope for out in fleet.outputs for d in out.decisions}
    assert "graph:web" in scopes
    assert "graph:pay" not in scopes


def test_who_answers_under_a_name_that_several_callers_use_is_no_entry() -> None:
    fleet = Fleet([("shop", "rpc"), ("till", "rpc")])
    fleet.keys = sorted([*fleet.keys, *((name, "") for name in ("ads", "cart", "pay", "tax"))])
    fleet.keys.remove(("rpc", ""))  # it says nothing itself
    now_ms = START * 500 + 500
    fleet.facts = [
        Fact("shop", "rpc", ["ads", "cart"], now_ms, 9),
        Fact("till", "rpc", ["pay", "tax"], now_ms, 9),
    ]
    fleet.go(200)
    view = fleet.outputs[-1].views or [v for out in fleet.outputs for v in out.views][-1:]
    assert [entry.entry for entry in view[0].entries] == ["shop", "till"]
    (rpc,) = (node for node in view[0].nodes if node.name == "rpc")
    assert (rpc.kind, rpc.answered_by) == ("virtual", ["ads", "cart", "pay", "tax"])
    assert view[0].entries[0].nodes_count == 6


def test_what_fails_for_long_is_called_out_once_and_not_by_every_view() -> None:
    text = "name: brief\nfindings: {chronic_after_s: 60}\n"
    fleet = Fleet(PAIR, load_policy(text, where="brief.yaml"))
    fleet.go(300, failing=set(PAIR))
    decisions = [d for out in fleet.outputs for d in out.decisions if d.scope == "inbound:pay"]
    assert [finding.name for finding in decisions[-1].findings] == ["chronic"]
    assert [alert for out in fleet.outputs for alert in out.alerts] == []
