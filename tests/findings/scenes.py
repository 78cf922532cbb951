"""What happens in each run, made once."""

from collections.abc import Callable
from functools import cache

from tests.blast_radius.driving import Call, Load, Run
from tidegate.rules.policy import load_policy

__all__ = ["DRIFT", "HOLLOW_BAD", "SCENES", "WELL", "scene"]

WELL = 300
HOLLOW_BAD = "name: t\nsettings: {is_hollow_bad: true}\n"
DRIFT = """
name: t
baseline: {half_life_s: 60, day_half_life_s: 7200}
settings: {alerts: {drift: P2}}
"""
"""Hours in minutes."""


def _run(text: str = "name: t\n") -> Run:
    return Run(load_policy(text, where="t"))


def chronic() -> Run:
    """`dead`, half of `half` and an optional dependency of `web` have failed since ever, for 35 minutes; then
    they are well. `ill` fails as long, but was well for a minute and a half."""

    def seen(share: float, *, ill: float = 0.0) -> list[Load]:
        gone = Call("gone", bad=share, is_hard=False)
        return [
            Load("dead", 2, bad=share),
            Load("half", 4, bad=share / 2),
            Load("ill", 2, bad=ill),
            Load("web", 1, calls=(gone,)),
        ]

    run = _run().hold(100, *seen(1.0)).hold(2_000, *seen(1.0, ill=1.0))
    return run.hold(180, *seen(0.0))


def drift() -> Run:
    """Durations grow 25-fold within six minutes, after ten that were alike; then they are as before."""
    run = _run(DRIFT).hold(600, Load("web", 2, ms=40))
    for step in range(18):
        run.hold(20, Load("web", 2, ms=40 * 1.2**step))
    return run.hold(60, Load("web", 2, ms=40 * 1.2**18)).hold(240, Load("web", 2, ms=40))


def hollow(text: str = "name: t\n") -> Run:
    """Answers take a twentieth of their time for 40 s, without an error."""
    run = _run(text).hold(WELL, Load("web", 8, ms=40))
    return run.hold(40, Load("web", 8, ms=2)).hold(120, Load("web", 8, ms=40))


def hollow_is_bad() -> Run:
    """The same where a policy takes it for a failure."""
    return hollow(HOLLOW_BAD)


def quick_but_not_hollow() -> Run:
    """A third of the time."""
    run = _run().hold(WELL, Load("web", 8, ms=40))
    return run.hold(60, Load("web", 8, ms=13)).hold(30, Load("web", 8, ms=40))


def jitter() -> Run:
    """Three routes that mix, now this, now that one; and the quickest alone, but seldom."""
    run = _run()
    for turn in range(40):
        loads = [Load("web", 1 + turn % 3, ms=30), Load("web", 1 + turn % 4, ms=90)]
        loads.append(Load("web", 0.5 * (turn % 5), ms=350))
        run.hold(5 + turn % 7, *loads)
    return run.hold(20, Load("web", 0.5, ms=2))


def adaptive() -> Run:
    """Twice as slow, a third fails, and more and more requests; then as before."""
    run = _run("name: t\nextends: adaptive\n").hold(WELL, Load("web", 6, ms=40))
    run.hold(40, Load("web", 6, ms=100, bad=0.3)).hold(40, Load("web", 12, ms=100, bad=0.3))
    return run.hold(100, Load("web", 6, ms=40))


SCENES: dict[str, Callable[[], Run]] = {
    made.__name__: made
    for made in (
        chronic,
        drift,
        hollow,
        hollow_is_bad,
        quick_but_not_hollow,
        jitter,
        adaptive,
    )
}


@cache
def scene(name: str) -> Run:
    """One of them."""
    return SCENES[name]()
