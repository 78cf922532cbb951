"""What happens in each run, made once. `WELL` seconds of calm come first: a baseline is known by then."""

from collections.abc import Callable
from functools import cache

from tests.blast_radius.driving import Call, Load, Run
from tidegate.rules.policy import load_policy

__all__ = ["MANY", "SCENES", "WELL", "all_fail", "late", "many", "scene"]

WELL = 95
MANY = 30
"""Keys, where many are needed."""
_SEVERAL = ("i-1", "i-2", "i-3", "i-4")


def many(count: int = MANY, *, bad: float = 0.0) -> list[Load]:
    """So many services of their own, of `MANY`; the others are well."""
    return [Load(f"s{n:02d}", bad=bad if n < count else 0.0) for n in range(MANY)]


def late() -> Load:
    """One span in nine comes too late to count."""
    return Load("elsewhere", per_s=15, age_ms=40_000)


def _web(*, bad: float = 0.0, dead: float = 0.0, ms: float = 20.0, call_ms: float = 5.0) -> Load:
    return Load("web", 6, ms=ms, bad=bad, calls=(Call("pay", bad=dead, ms=call_ms),))


def dead_dependency() -> Run:
    """`pay` fails 60 % of its calls; 40 s later its caller fails too, by itself."""
    return Run().hold(WELL, _web()).hold(40, _web(dead=0.6)).hold(40, _web(dead=0.6, bad=0.9))


def both_at_once() -> Run:
    """The dependency and, by itself, its caller."""
    return Run().hold(WELL, _web()).hold(40, _web(dead=0.6, bad=0.9))


def slow_dependency() -> Run:
    """`pay` takes two seconds; 40 s later its caller is slow by itself, too."""
    run = Run().hold(WELL, _web()).hold(40, _web(call_ms=2_000))
    return run.hold(40, _web(call_ms=2_000, ms=3_000))


def own_failure() -> Run:
    """The caller fails, its dependency is well."""
    return Run().hold(WELL, _web()).hold(40, _web(bad=0.9))


def _instances(names: tuple[str, ...], bad: tuple[str, ...]) -> Run:
    well = Load("web", 12, instances=names)
    run = Run().hold(WELL, well).hold(40, Load("web", 12, instances=names, bad_instances=bad))
    return run.hold(60, well)


def one_of_three() -> Run:
    """One instance of three fails all its requests."""
    return _instances(_SEVERAL[:3], _SEVERAL[1:2])


def two_of_four() -> Run:
    """Two of four."""
    return _instances(_SEVERAL, _SEVERAL[1:3])


def the_only_one() -> Run:
    """The only one there is."""
    return _instances(_SEVERAL[:1], _SEVERAL[:1])


def unnamed() -> Run:
    """Nobody says which instance it is."""
    return Run().hold(WELL, Load("web", 12)).hold(40, Load("web", 12, bad=0.4))


def suspect() -> Run:
    """All fail while spans come late; a minute later they are well, still late; then not even that."""
    run = Run().hold(WELL - 5, *many()).hold(5, *many(), late())
    run.hold(60, *many(MANY, bad=0.9), late())
    return run.hold(20, *many(), late()).hold(70, *many())


def suspect_for_a_moment() -> Run:
    """All fail; telemetry is odd for the first 10 s only."""
    run = Run().hold(WELL - 5, *many()).hold(5, *many(), late())
    return run.hold(10, *many(MANY, bad=0.9), late()).hold(20, *many(MANY, bad=0.9))


def unheard() -> Run:
    """A source partition falls silent; half a minute later all fail."""
    run = Run(sources_count=2).hold(WELL, *many())
    run.silent.add(1)
    run.hold(30, *many()).hold(45, *many(MANY, bad=0.9))
    run.silent.clear()
    return run.hold(60, *many(MANY, bad=0.9))


def well_while_suspect() -> Run:
    """Eight have failed for long; then all others fail and spans come late, while the eight recover."""
    run = Run().hold(WELL, *many()).hold(45, *many(8, bad=0.4))
    others = [Load(load.service, bad=0.0 if n < 8 else 0.9) for n, load in enumerate(many())]
    return run.hold(30, *others, late())


def all_fail() -> Run:
    """All keys, in good telemetry; then they are well."""
    return Run().hold(WELL, *many()).hold(60, *many(MANY, bad=0.9)).hold(90, *many())


def quarter_may() -> Run:
    """The same where a quarter may be turned away."""
    policy = load_policy("name: t\nblast_radius: {max_shed_share: 0.25}\n", where="t")
    return Run(policy).hold(WELL, *many()).hold(30, *many(MANY, bad=0.9))


SCENES: dict[str, Callable[[], Run]] = {
    made.__name__: made
    for made in (
        dead_dependency,
        both_at_once,
        slow_dependency,
        own_failure,
        one_of_three,
        two_of_four,
        the_only_one,
        unnamed,
        suspect,
        suspect_for_a_moment,
        unheard,
        well_while_suspect,
        all_fail,
        quarter_may,
    )
}


@cache
def scene(name: str) -> Run:
    """One of them."""
    return SCENES[name]()
