"""Overload: a queue of capacity C that works on what nobody waits for any more, and callers that retry.

Proven, for the one seed here: once load drops below C the service is let recover; while load stays above C, of
what is admitted at least 40 % is answered in time; a retry storm that feeds itself ends. Under `mode: observe`
under 5 % is answered in time of the same lasting load, and the same storm goes on. (A queue whose load drops
far enough recovers without help, too: there the point is only that nothing holds it back.)

Not proven, because it isn't so: that the whole capacity is used. A breaker is no limiter: where load stays
1.5 C and more, each way back up the ramp ends in a longer sleep, and 3 to 4 % of C is used.
"""

from collections.abc import Callable

import pytest

from tests.closed_loop.cases import CAPACITY_PER_S, policy_named, queue
from tests.closed_loop.loop import Load, Loop
from tests.closed_loop.recovering import problems_of_recovery
from tests.closed_loop.shop import Fault
from tests.closed_loop.starts import bound_s
from tidegate.rules.policy import Policy, builtin_policy
from tidegate.schemas.scope import edge_scope, service_scope

WARM_S, DROPS_S, END_S = 90, 210, 420
PASSES_WELL_MIN = 0.4
"""Of admitted requests, while the service is shed."""


def _rate(factor: float, *, until_s: float) -> Callable[[float], float]:
    """Half of C, then `factor` times C for a time, then half of it again."""

    def per_s(at_s: float) -> float:
        is_over = WARM_S <= at_s < until_s
        return CAPACITY_PER_S * (factor if is_over else 0.5)

    return per_s


def _overloaded(policy: Policy, *, until_s: float) -> Loop:
    loads = [
        Load(
            service=f"s{factor}{caller}",
            caller=caller and f"{caller}{factor}",
            is_hard=False,
            backend=queue(),
            per_s=_rate(factor, until_s=until_s),
            timeout_ms=1_000.0,
        )
        for factor, caller in ((1.2, ""), (1.5, ""), (2.0, ""), (2.0, "web"), (4.0, ""))
    ]
    return Loop(policy, loads, seed=1)


def _scope(load: Load) -> str:
    return edge_scope(load.caller, load.service) if load.caller else service_scope(load.service)


def _sum(loop: Loop, what: str, load: Load, *, from_s: int, to_s: int) -> int:
    return sum(loop.tally[what, load.service, second] for second in range(from_s, to_s))


@pytest.mark.slow
def test_an_overloaded_service_recovers_once_load_drops() -> None:
    policy = policy_named("default")
    loop = _overloaded(policy, until_s=DROPS_S)
    loop.run(DROPS_S)
    scopes = sorted(loop.levels)
    assert all(len(loop.levels[_scope(load)]) > 1 for load in loop.loads)
    within_s = bound_s(policy, is_worn=True)
    assert problems_of_recovery(loop, scopes, within_s=within_s, may_relapse=True) == []


@pytest.mark.slow
def test_what_is_admitted_under_lasting_overload_is_answered_in_time() -> None:
    loop = _overloaded(policy_named("default"), until_s=END_S)
    loop.run(END_S)
    unprotected = _overloaded(builtin_policy("default"), until_s=END_S)
    unprotected.run(DROPS_S)
    for load in loop.loads:
        # The queue of the first seconds is let run empty: nobody could have known.
        passed, good = (
            _sum(loop, what, load, from_s=WARM_S + 30, to_s=END_S) for what in ("passed", "good")
        )
        assert passed > 0
        assert good >= PASSES_WELL_MIN * passed
        hopeless = _sum(unprotected, "good", load, from_s=WARM_S + 30, to_s=DROPS_S)
        assert hopeless < 0.05 * _sum(unprotected, "passed", load, from_s=WARM_S + 30, to_s=DROPS_S)


def _storm(policy: Policy) -> Loop:
    """A minute of a slow database; everybody tries up to four times, who obeys by its budget."""
    slow = Fault("slow", WARM_S, WARM_S + 60, factor=5.0)
    loads = [
        Load(
            service=f"s{number}",
            caller=caller,
            is_hard=False,
            backend=queue(slow),
            per_s=0.6 * CAPACITY_PER_S,
            timeout_ms=1_000.0,
            retries_max=3,
        )
        for number, caller in enumerate(("", "", "web2", "web3"))
    ]
    return Loop(policy, loads, seed=1)


@pytest.mark.slow
def test_a_retry_storm_ends() -> None:
    policy = policy_named("default")
    loop = _storm(policy)
    loop.run(WARM_S + 60)
    scopes = sorted(loop.levels)
    within_s = bound_s(policy, is_worn=True)
    assert problems_of_recovery(loop, scopes, within_s=within_s, may_relapse=True) == []
    end_s = int(loop.now_ms / 1000.0)
    for load in loop.loads:
        times = {"from_s": end_s - 120, "to_s": end_s}
        assert _sum(loop, "good", load, **times) > 0.99 * _sum(loop, "offered", load, **times)


def test_the_same_storm_lasts_where_nobody_obeys() -> None:
    loop = _storm(builtin_policy("default"))
    loop.run(WARM_S + 180)
    for load in loop.loads:
        times = {"from_s": WARM_S + 120, "to_s": WARM_S + 180}
        assert _sum(loop, "good", load, **times) < 0.1 * _sum(loop, "offered", load, **times)
