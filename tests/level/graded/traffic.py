"""What the graded protocol's tests send, and keys that stand where they begin."""

from dataclasses import replace

from tests.level.drive import Driver
from tests.level.protocol import Seen
from tidegate.schemas.level import Level

__all__ = [
    "AWFUL",
    "BAD",
    "DEAD",
    "GOOD",
    "POOR",
    "PROBES_BAD",
    "PROBES_GOOD",
    "SILENT",
    "half_open",
    "opened",
    "sleep_on",
]

GOOD = Seen(wanted=Level.CLOSED, score=1000, requests=20, fast_requests=100, qps=40.0)
POOR = Seen(wanted=Level.DEGRADED_1, score=700, requests=20, bad=3, fast_requests=100, qps=40.0)
BAD = Seen(wanted=Level.DEGRADED_2, score=500, requests=20, bad=8, fast_requests=100, qps=40.0)
AWFUL = Seen(wanted=Level.OPEN, score=300, requests=20, bad=16, fast_requests=100, qps=40.0)
DEAD = Seen(wanted=Level.FORCED_OPEN, score=100, requests=20, bad=20, fast_requests=100, qps=40.0)
SILENT = Seen(wanted=Level.OPEN, score=300)
PROBES_GOOD = Seen(wanted=Level.OPEN, score=300, probes=4, fast_requests=4)
PROBES_BAD = replace(PROBES_GOOD, probes_bad=3)


def opened(seen: Seen = AWFUL) -> Driver:
    driver = Driver()
    driver.hold(14, seen)
    assert driver.now() in (Level.OPEN, Level.FORCED_OPEN)
    return driver


def half_open() -> Driver:
    driver = opened()
    driver.until(Level.HALF_OPEN, SILENT)
    return driver


def sleep_on(driver: Driver) -> None:
    """The sleep ends no more, as far as a test goes."""
    driver.oracles[0].until = driver.boundary + 10**6
    driver.state.until_boundary[1] = driver.oracles[0].until
