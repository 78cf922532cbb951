"""What answers in the closed loop: services with their latency shapes, faults and queues, in virtual time.

Seeded: all chance comes from the generator that is passed in. Nothing here knows of Tidegate.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple, Protocol

from tidegate.schemas.outcome import Outcome

__all__ = ["SHAPES", "Answer", "Backend", "Fault", "Queue", "Shape", "Steady"]

Shape = Callable[[Random, float], float]
"""(chance, seconds since the start) -> how long an answer takes, in ms."""


class Answer(NamedTuple):
    """What a request gets, if its caller waits for it."""

    took_ms: float
    outcome: Outcome


class Backend(Protocol):
    """What serves requests, each told in the order in which they arrive."""

    def serve(self, draw: Random, at_s: float) -> Answer:
        """The answer to a request that arrives now."""
        ...


def _quick(draw: Random, at_s: float) -> float:
    return 2.0 + 6.0 * draw.random()


def _steady(draw: Random, at_s: float) -> float:
    return 18.0 + 4.0 * draw.random()


def _slow(draw: Random, at_s: float) -> float:
    return min(9_000.0, draw.lognormvariate(7.6, 0.25))  # median 2 s


def _jitter(draw: Random, at_s: float) -> float:
    return draw.lognormvariate(3.7, 0.8)  # P50 40 ms, P95 150 ms


def _heavy_tail(draw: Random, at_s: float) -> float:
    return min(9_000.0, 20.0 * draw.paretovariate(1.5))  # P50 32 ms, P95 147 ms, P99.9 2 s


def _two_kinds(draw: Random, at_s: float) -> float:
    return (300.0 if draw.random() < 0.1 else 4.0) * (0.8 + 0.4 * draw.random())


def _edge_of_tail(draw: Random, at_s: float) -> float:
    """As many are slow as P95 lets pass: it jumps between both kinds."""
    return (400.0 if draw.random() < 0.05 else 5.0) * (0.8 + 0.4 * draw.random())


def _pauses(draw: Random, at_s: float) -> float:
    """Stands still for 300 ms every 20 s; who comes then waits for its end."""
    into_s = at_s % 20.0
    return 10.0 + 30.0 * draw.random() + (300.0 - 1000.0 * into_s if into_s < 0.3 else 0.0)


def _wave(draw: Random, at_s: float) -> float:
    """A cache that fills and is emptied: up to twice as slow, in the course of five minutes."""
    away = abs(at_s % 300.0 - 150.0) / 150.0
    return (30.0 + 30.0 * draw.random()) * (1.0 + away)


SHAPES: dict[str, Shape] = {
    "quick": _quick,
    "steady": _steady,
    "slow": _slow,
    "jitter": _jitter,
    "heavy_tail": _heavy_tail,
    "two_kinds": _two_kinds,
    "edge_of_tail": _edge_of_tail,
    "pauses": _pauses,
    "wave": _wave,
}
"""How healthy services answer."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Seconds since the start. Of the requests in this time `share` fail (of kind `error` at once with
    a 500, of kind `timeout` after 5 s), or all take `factor` times as long."""

    kind: str
    start_s: float
    end_s: float
    share: float = 1.0
    factor: float = 1.0


@dataclass(slots=True)
class Steady:
    """Answers however many there are. `error_share` of them always fail: nobody is perfect."""

    shape: Shape
    error_share: float = 0.0
    faults: tuple[Fault, ...] = ()

    def serve(self, draw: Random, at_s: float) -> Answer:
        took_ms, outcome = self.shape(draw, at_s), Outcome.OK
        if self.error_share and draw.random() < self.error_share:
            outcome = Outcome.SERVER_ERROR
        for fault in self.faults:
            if fault.start_s <= at_s < fault.end_s:
                took_ms *= fault.factor
                if fault.kind == "error" and draw.random() < fault.share:
                    took_ms, outcome = 2.0, Outcome.SERVER_ERROR
                elif fault.kind == "timeout" and draw.random() < fault.share:
                    took_ms, outcome = 5_000.0, Outcome.TIMEOUT
        return Answer(took_ms, outcome)


@dataclass(slots=True)
class Queue:
    """Workers behind a queue, first come first served: work / workers is its capacity. Who would wait
    longer than `wait_max_ms` is answered 503 at once. It doesn't learn that a caller gave up: what is
    queued is worked on. That is how overload ends useful work altogether."""

    workers: int
    work_ms: Shape
    wait_max_ms: float = 4_000.0
    faults: tuple[Fault, ...] = ()
    """Of kind `slow`: work takes `factor` times as long."""
    _free_at_ms: list[float] = field(default_factory=list)

    def serve(self, draw: Random, at_s: float) -> Answer:
        if not self._free_at_ms:
            self._free_at_ms = [0.0] * self.workers
        at_ms = at_s * 1000.0
        begins_ms = max(at_ms, self._free_at_ms[0])
        if begins_ms - at_ms > self.wait_max_ms:
            return Answer(1.0, Outcome.SERVER_ERROR)
        work_ms = self.work_ms(draw, at_s)
        for fault in self.faults:
            if fault.start_s <= at_s < fault.end_s:
                work_ms *= fault.factor
        heapq.heapreplace(self._free_at_ms, begins_ms + work_ms)
        return Answer(begins_ms + work_ms - at_ms, Outcome.OK)
