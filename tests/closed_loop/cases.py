"""Shops that the properties are tried on: which services, how busy, from where they start."""

from collections.abc import Callable, Sequence
from random import Random

from tests.closed_loop.loop import Load, Loop, enforcing
from tests.closed_loop.recovering import problems_of_recovery
from tests.closed_loop.shop import SHAPES, Fault, Queue, Steady
from tests.closed_loop.starts import Start, bound_s, put
from tidegate.rules.policy import Policy
from tidegate.schemas.scope import edge_scope, service_scope

__all__ = [
    "CAPACITY_PER_S",
    "ERROR_SHARE",
    "KEYS_MAX",
    "SURE_SHAPES",
    "WARM_S",
    "after_faults",
    "after_starts",
    "after_starts_of_pairs",
    "after_warming",
    "policy_named",
    "queue",
]

KEYS_MAX = 18
"""In one shop: under the 20 from which on keys are looked at together (max_shed_share, panic guard)."""
ERROR_SHARE = 0.003
"""Nobody is perfect."""
SURE_SHAPES = tuple(name for name in SHAPES if name != "edge_of_tail")
WARM_S, WARM_PER_S = 80.0, 3.0
CAPACITY_PER_S = 20.0
"""Of a queue: two workers, 100 ms of work."""


def policy_named(name: str) -> Policy:
    """A pack that is obeyed; `latched`: `default` with the other protocol."""
    if name == "latched":
        return enforcing("default", settings="protocol: latched")
    return enforcing(name)


def after_warming(per_s: float) -> Callable[[float], float]:
    """Busy until what is usual is known, then so many a second."""
    return lambda at_s: per_s if at_s >= WARM_S else max(per_s, WARM_PER_S)


def after_starts(
    policy: Policy, starts: Sequence[Start], *, per_s: float, shapes: Sequence[str], seed: int
) -> tuple[Loop, list[str]]:
    """Healthy services that obey for themselves, each put where it starts from."""
    loads = [
        Load(
            service=f"s{number:02d}_{start}_{shape}",
            backend=Steady(SHAPES[shape], ERROR_SHARE),
            per_s=after_warming(per_s),
        )
        for number, start in enumerate(starts)
        for shape in [shapes[(5 * number + seed) % len(shapes)]]
    ]
    loop = Loop(policy, loads, seed=seed)
    loop.run(WARM_S + 35.0)  # by then the window knows the new rate only
    scopes = [service_scope(load.service) for load in loads]
    for scope, start in zip(scopes, starts, strict=True):
        put(loop, scope, start, policy)
    is_worn = any(start.is_worn for start in starts)
    within_s = bound_s(policy, is_worn=is_worn, per_s=per_s)
    return loop, problems_of_recovery(loop, scopes, within_s=within_s)


def after_starts_of_pairs(
    policy: Policy, starts: Sequence[tuple[Start, Start]], *, per_s: float, seed: int
) -> tuple[Loop, list[str]]:
    """Callers and callees, with the start of each edge and of the service behind it: a caller obeys the
    stricter of both, so one may have to wait for the other."""
    loads = [
        Load(
            service=f"pay{number}",
            caller=f"web{number}",
            is_hard=False,
            backend=Steady(SHAPES[SURE_SHAPES[number % len(SURE_SHAPES)]], ERROR_SHARE),
            per_s=after_warming(per_s),
        )
        for number in range(len(starts))
    ]
    loop = Loop(policy, loads, seed=seed)
    loop.run(WARM_S + 35.0)  # by then the window knows the new rate only
    scopes = []
    for load, (edge, service) in zip(loads, starts, strict=True):
        put(loop, edge_scope(load.caller, load.service), edge, policy)
        put(loop, service_scope(load.service), service, policy)
        scopes += [edge_scope(load.caller, load.service), service_scope(load.service)]
    within_s = 2 * bound_s(policy, is_worn=True)
    # A service that its edge silences is closed in time, but on the evidence that it was given: silence
    # holds that, and the first requests may bring the level back.
    return loop, problems_of_recovery(loop, scopes, within_s=within_s, may_relapse=True)


def after_faults(
    policy: Policy, *, shapes: Sequence[str], seed: int
) -> tuple[Loop, list[str], int]:
    """Services and pairs with real faults of all kinds, which are then removed. Also how many scopes
    were worse than closed by then."""
    draw = Random(f"faults/{seed}")
    loads = []
    for number in range(10):
        shape = SHAPES[shapes[number % len(shapes)]]
        is_pair = number % 5 < 2
        loads.append(
            Load(
                service=f"s{number}",
                caller=f"web{number}" if is_pair else "",
                is_hard=number % 5 == 0,
                backend=Steady(shape, ERROR_SHARE, _faults(draw)),
                per_s=draw.choice((1.0, 3.0, 8.0)),
                can_set_deadline=draw.random() < 0.7,
                export_every_ms=draw.choice((500, 500, 5_000)),
            )
        )
    loop = Loop(policy, loads, seed=seed)
    loop.run(FAULTS_END_S)
    worse = sum(level != "closed" for known in loop.levels.values() for _, level in known[1:])
    scopes = sorted(loop.levels)
    within_s = bound_s(policy, is_worn=True)
    problems = problems_of_recovery(loop, scopes, within_s=within_s, may_relapse=True)
    return loop, problems, worse


FAULTS_END_S = 200.0


def _faults(draw: Random) -> tuple[Fault, ...]:
    out = []
    for _ in range(draw.randint(1, 3)):
        start_s = draw.uniform(85.0, 190.0)
        end_s = min(FAULTS_END_S, start_s + draw.uniform(5.0, 90.0))
        kind = draw.choice(("error", "timeout", "slow"))
        factor = draw.uniform(3.0, 30.0) if kind == "slow" else 1.0
        out.append(Fault(kind, start_s, end_s, share=draw.uniform(0.15, 1.0), factor=factor))
    return tuple(out)


def queue(*faults: Fault) -> Queue:
    return Queue(2, lambda draw, at_s: 80.0 + 40.0 * draw.random(), faults=faults)
