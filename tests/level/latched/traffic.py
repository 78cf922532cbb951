"""What the latched protocol's tests send, and keys that stand where they begin."""

from dataclasses import replace

from tests.level.drive import LATCHED, Driver
from tests.level.protocol import Seen
from tidegate.rules.level import OperatorEvent
from tidegate.schemas.level import Level

__all__ = [
    "FAILED",
    "GOOD",
    "LOCK",
    "MIXED",
    "PROBE_BAD",
    "PROBE_GOOD",
    "RESET",
    "SILENT",
    "closed",
    "cooling",
    "half_open",
    "locked",
    "opened",
]

GOOD = Seen(requests=20, fast_requests=100, qps=40.0)
FAILED = Seen(wanted=Level.OPEN, score=300, requests=20, bad=20, fast_requests=100, qps=40.0)
MIXED = replace(FAILED, bad=11, window_error_ratio=0.55, window_requests=1200.0)
"""More than half of the window failed, but no bucket without a good request."""
SILENT = Seen(wanted=Level.OPEN, score=300)
PROBE_GOOD = replace(SILENT, probes=1)
PROBE_BAD = replace(SILENT, probes=1, probes_bad=1)
LOCK = replace(SILENT, operator=OperatorEvent.LOCK)
RESET = replace(SILENT, operator=OperatorEvent.RESET)


def closed(keys: int = 1) -> Driver:
    driver = Driver(keys, LATCHED)
    driver.step(*[GOOD] * keys)
    return driver


def half_open(keys: int = 1) -> Driver:
    driver = closed(keys)
    driver.until(Level.HALF_OPEN, FAILED)
    return driver


def opened(keys: int = 1) -> Driver:
    driver = half_open(keys)
    driver.until(Level.OPEN, PROBE_BAD)
    return driver


def cooling() -> Driver:
    driver = opened()
    driver.until(Level.COOLING, SILENT)
    return driver


def locked() -> Driver:
    driver = closed()
    assert driver.step(LOCK) == ["operator_lock"]
    return driver
