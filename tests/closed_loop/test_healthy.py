"""A service that was healthy from the start is never shed by the pack `default`, however slow it is.

Proven, for the seeds here (and by `run.py` for more): ten minutes, at 0.1 to 200 requests a second, with
heavy tails, two kinds of requests, pauses, waves, 1 % errors, spans exported every 5 s, with callers and without.

Not proven: `edge_of_tail`, where just as many requests are slow as P95 lets pass (a cache that misses one in
twenty). Its target jumps below them, and from 4 requests a second on it may be held `degraded_1` for some
seconds in its first minutes, until its share of slow requests is learned.
"""

import pytest

from tests.closed_loop.cases import ERROR_SHARE, KEYS_MAX, SURE_SHAPES, policy_named
from tests.closed_loop.loop import Load, Loop
from tests.closed_loop.recovering import closed_share
from tests.closed_loop.shop import SHAPES, Steady
from tidegate.schemas.scope import service_scope

RATES = (0.1, 0.5, 1.0, 3.0, 10.0)
MINUTES = 10
ERRORS = 0.01
"""Of single windows of few requests many would look bad."""


def always_healthy(seed: int) -> list[Load]:
    loads = [
        Load(
            service=f"s{number:02d}_{shape}",
            backend=Steady(SHAPES[shape], ERRORS),
            per_s=RATES[(number + seed) % len(RATES)],
            export_every_ms=5_000 if number % 3 == 0 else 500,
        )
        for number, shape in enumerate([*SURE_SHAPES, *SURE_SHAPES][: KEYS_MAX - 5])
    ]
    busy = Load(service="busy", backend=Steady(SHAPES["heavy_tail"], ERRORS), per_s=200.0)
    called = Load(
        service="called",
        caller="web",
        backend=Steady(SHAPES["two_kinds"], ERRORS),
        per_s=5.0,
    )
    return [*loads, busy, called]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_a_service_that_was_always_healthy_is_never_shed(seed: int) -> None:
    loop = Loop(policy_named("default"), always_healthy(seed), seed=seed)
    loop.run(60 * MINUTES)
    worse = {scope: known for scope, known in loop.levels.items() if len(known) > 1}
    assert worse == {}
    assert all(decision.actions.admit_ratio == 1.0 for decision in loop.decisions)
    for load in loop.loads:
        offered, passed = (
            sum(count for (kind, name, _), count in loop.tally.items() if (kind, name) == of)
            for of in (("offered", load.service), ("passed", load.service))
        )
        assert passed == offered > 0


@pytest.mark.slow
def test_at_the_edge_of_its_tail_a_service_is_hardly_ever_degraded_and_never_more() -> None:
    loads = [
        Load(service=f"s{n}", backend=Steady(SHAPES["edge_of_tail"], ERROR_SHARE), per_s=10.0)
        for n in range(6)
    ]
    loop = Loop(policy_named("default"), loads, seed=1)
    loop.run(60 * MINUTES)
    for load in loads:
        scope = service_scope(load.service)
        assert {level for _, level in loop.levels[scope]} <= {"closed", "degraded_1"}
        assert closed_share(loop, scope, from_s=0.0) > 0.85
