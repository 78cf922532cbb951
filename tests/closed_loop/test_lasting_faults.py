"""A real fault that stays keeps its level worse than closed.

Proven, for the one seed here: for half of all requests failing and more, as errors or time-outs, at 0.5 and 10 requests a second, 12 minutes: from its onset on the key is never closed, and it is
opened at most as often as the protocol's own probing makes it, each sleep twice as long as the one before.

Not proven: that a service which is a few times too slow never looks well. Who cuts what is slow sees only
what is quick, and own effects are no evidence; it is closed for some seconds then, after waits that double.
"""

import itertools

import pytest

from tests.closed_loop.cases import ERROR_SHARE, policy_named
from tests.closed_loop.loop import Load, Loop
from tests.closed_loop.recovering import closed_share
from tests.closed_loop.shop import SHAPES, Fault, Steady
from tidegate.schemas.scope import service_scope

ONSET_S, END_S = 120.0, 840.0
FAULTS = (("error", 1.0), ("error", 0.7), ("error", 0.5), ("timeout", 1.0), ("timeout", 0.6))


def _broken(per_s: float, *faults: Fault) -> list[Load]:
    return [
        Load(
            service=f"s{number}_{per_s}",
            caller=f"web{number}_{per_s}" if number == 1 else "",
            is_hard=False,
            backend=Steady(SHAPES["jitter"], ERROR_SHARE, (fault,)),
            per_s=per_s,
        )
        for number, fault in enumerate(faults)
    ]


@pytest.mark.slow
def test_a_key_that_stays_broken_is_never_closed_and_probed_less_and_less() -> None:
    faults = [Fault(kind, ONSET_S, END_S, share=share) for kind, share in FAULTS]
    policy = policy_named("default")
    loop = Loop(policy, [*_broken(0.5, *faults), *_broken(10.0, *faults)], seed=1)
    loop.run(END_S)
    level = policy.settings[0].level
    for load in loop.loads:
        scope = service_scope(load.service)
        known = loop.levels[scope]
        onset_s = next(s for s, level in known if level != "closed")
        assert onset_s < ONSET_S + 120.0
        assert closed_share(loop, scope, from_s=onset_s) == 0.0
        opened = [s for s, level in known if level == "open"]
        sleeps = [min(level.sleep_s * 2**n, level.sleep_max_s) for n in range(len(opened))]
        gaps = [later - earlier for earlier, later in itertools.pairwise(opened)]
        assert all(gap >= sleep for gap, sleep in zip(gaps, sleeps, strict=False))


@pytest.mark.slow
def test_a_service_that_stays_slow_is_closed_for_moments_only() -> None:
    faults = [Fault("slow", ONSET_S, END_S, factor=factor) for factor in (5.0, 10.0, 30.0)]
    loop = Loop(policy_named("default"), _broken(10.0, *faults), seed=1)
    loop.run(END_S / 2.0)
    for load in loop.loads:
        known = loop.levels[service_scope(load.service)]
        onset_s = next(s for s, level in known if level != "closed")
        assert onset_s < ONSET_S + 30.0
        assert closed_share(loop, service_scope(load.service), from_s=onset_s) < 0.1
