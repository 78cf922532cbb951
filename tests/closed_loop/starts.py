"""Where a key may stand when its service is well again: every level and step of both protocols, each fresh
and worn (the longest sleep, the longest hysteresis), with the evidence and counters that hold it there.

`put` sets the columns as a snapshot would restore them.
"""

from dataclasses import dataclass
from typing import Literal

from tests.closed_loop.loop import Loop
from tidegate.rules.judge import LONG, WINDOW_SECONDS
from tidegate.rules.policy import Policy
from tidegate.schemas.level import LEVEL_NAMES, Level

__all__ = ["GRADED_STARTS", "LATCHED_STARTS", "Start", "bound_s", "put"]

Counting = Literal["", "about_to_worsen", "nearly_failed", "half_good"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One place to start from."""

    level: Level
    ramp_step: int = 0
    is_worn: bool = False
    """The longest sleep and hysteresis, many attempts, and a recovery a moment ago: a relapse doubles."""
    evidence: Literal["none", "mild", "sharp"] = "sharp"
    score: int = 0
    """Thousandths; what was last known."""
    counting: Counting = ""
    """What its counters are at: one boundary before it gets worse; one answer before it fails its probes;
    answers of which half were bad."""
    cut_ms: int = -1
    """`slow_over_ms`, where slowness was the cause."""

    def __str__(self) -> str:
        step = f"_step_{self.ramp_step}" if self.ramp_step else ""
        cut = "_cut" if self.cut_ms > 0 else ""
        worn = "_worn" if self.is_worn else ""
        return (
            f"{LEVEL_NAMES[self.level]}{step}_{self.counting or 'quiet'}_{self.evidence}{cut}{worn}"
        )


def _graded() -> list[Start]:
    out = []
    for worn in (False, True):
        out += [
            Start(level=Level.CLOSED, evidence="none", score=1000, is_worn=worn),
            Start(level=Level.CLOSED, counting="about_to_worsen", is_worn=worn),
            Start(level=Level.DEGRADED_1, evidence="mild", score=700, is_worn=worn),
            Start(level=Level.DEGRADED_1, evidence="none", score=700, cut_ms=100, is_worn=worn),
            Start(level=Level.DEGRADED_1, counting="about_to_worsen", is_worn=worn),
            Start(level=Level.DEGRADED_2, score=500, is_worn=worn),
            Start(level=Level.DEGRADED_2, score=500, cut_ms=100, is_worn=worn),
            Start(level=Level.DEGRADED_2, counting="about_to_worsen", is_worn=worn),
            Start(level=Level.HALF_OPEN, is_worn=worn),
            Start(level=Level.HALF_OPEN, counting="half_good", is_worn=worn),
            Start(level=Level.HALF_OPEN, counting="nearly_failed", is_worn=worn),
            *(Start(level=Level.HALF_OPEN, ramp_step=step, is_worn=worn) for step in (1, 2, 3)),
            Start(level=Level.HALF_OPEN, ramp_step=3, counting="nearly_failed", is_worn=worn),
            Start(level=Level.OPEN, score=300, is_worn=worn),
            Start(level=Level.OPEN, score=300, evidence="none", is_worn=worn),
            Start(level=Level.FORCED_OPEN, is_worn=worn),
        ]
    return out


def _latched() -> list[Start]:
    out = []
    for worn in (False, True):
        out += [
            Start(level=Level.CLOSED, evidence="none", score=1000, is_worn=worn),
            Start(level=Level.CLOSED, counting="about_to_worsen", is_worn=worn),
            Start(level=Level.HALF_OPEN, is_worn=worn),
            Start(level=Level.OPEN, is_worn=worn),
            Start(level=Level.COOLING, is_worn=worn),
            Start(level=Level.COOLING, evidence="none", counting="half_good", is_worn=worn),
        ]
    return out


GRADED_STARTS = tuple(_graded())
LATCHED_STARTS = tuple(_latched())


def put(loop: Loop, scope: str, start: Start, policy: Policy) -> None:
    """The key stands there from now on; its decision is published at the next boundary."""
    judgement, slot, now = loop.judgement, loop.slot(scope), loop.boundary()
    s = policy.settings[int(judgement.settings[slot])]
    is_latched = s.protocol == "latched"
    first_s, longest_s = (
        (s.latched.backoff_s, s.latched.backoff_max_s)
        if is_latched
        else (s.level.sleep_s, s.level.sleep_max_s)
    )
    sleep = 2 * (longest_s if start.is_worn else first_s)
    was_open = start.level >= Level.HALF_OPEN
    sleeps = start.level in (Level.OPEN, Level.FORCED_OPEN)
    late = int(sleep * s.level.sleep_jitter) if start.is_worn else 0
    levels = judgement.levels
    levels.level[slot] = start.level
    levels.ramp_step[slot] = start.ramp_step
    levels.since_boundary[slot] = levels.counts_from[slot] = now
    levels.sleep[slot] = sleep if start.is_worn or was_open else 0
    levels.attempt[slot] = 9 if start.is_worn else int(was_open)
    levels.until_boundary[slot] = now + sleep + late if sleeps else -1
    levels.bettered_at[slot] = now if start.is_worn else -1
    levels.hysteresis[slot] = 2 * s.level.hysteresis_max_s if start.is_worn else 0
    levels.slow_over_ms[slot] = start.cut_ms
    levels.is_slow_caused[slot] = start.cut_ms > 0
    levels.is_stirred[slot] = True
    _count(loop, slot, start, now, is_latched=is_latched)
    _remember(loop, slot, start, now)


def bound_s(policy: Policy, *, is_worn: bool, per_s: float = 1.0) -> float:
    """How long the way back may take from the worst place, by the policy's own numbers: everything that
    the protocol can ask for, once each. Doublings that are behind a fresh key count: one opening too many,
    one relapse.

    graded: the sleep and its jitter; the probes' patience (a key under 1/s gives ten answers in about
    that time); then whatever is longer: each step of the ramp with its patience, or, where probes left
    it open, both steps down from degraded_2, each after the hysteresis, once the last bad request has
    left the long window. latched: the backoff; then probes in a row, as far as `per_s` offers any, begun
    anew three times.
    """
    s = policy.settings[0]
    if s.protocol == "latched":
        backoff_s = s.latched.backoff_max_s if is_worn else 2 * s.latched.backoff_s
        in_row_s = s.latched.cooling_probes / min(per_s, s.latched.cooling_probe_per_s)
        return backoff_s * (1.0 + s.level.sleep_jitter) + 4 * in_row_s
    sleep_s = s.level.sleep_max_s if is_worn else 2 * s.level.sleep_s
    hysteresis_s = s.level.hysteresis_max_s if is_worn else 2 * s.level.hysteresis_s
    ramp_s = len(s.level.ramp) * s.level.ramp_patience_s
    down_s = 2 * hysteresis_s + WINDOW_SECONDS[LONG]
    asleep_s = sleep_s * (1.0 + s.level.sleep_jitter)
    return asleep_s + s.level.probe_patience_s + max(ramp_s, down_s)


def _count(loop: Loop, slot: int, start: Start, now: int, *, is_latched: bool) -> None:
    levels = loop.judgement.levels
    if start.counting == "about_to_worsen":
        levels.worse_run[slot], levels.worse_least[slot] = 1, Level.FORCED_OPEN
        levels.open_since[slot], levels.open_requests[slot] = now - 20, 100
        levels.bad_run[slot] = 4
    elif start.counting == "nearly_failed":
        levels.seen_requests[slot] = levels.seen_bad[slot] = 9
    elif start.counting == "half_good":
        levels.seen_requests[slot], levels.seen_bad[slot] = 9, 0 if is_latched else 2


def _remember(loop: Loop, slot: int, start: Start, now: int) -> None:
    evidence, standing = loop.judgement.evidence, loop.judgement.standing
    is_on = start.evidence != "none"
    evidence.on_mild[slot] = is_on
    evidence.on_sharp[slot] = start.evidence == "sharp"
    # Beyond the cap, whatever the rate: the next boundary takes it down to 1.3 h.
    evidence.mild_sum[slot] = 100.0 if is_on else 0.0
    evidence.sharp_sum[slot] = 100.0 if start.evidence == "sharp" else 0.0
    evidence.since_boundary[slot] = now - 20 if is_on else -1
    standing.score[slot] = start.score
    standing.is_published[slot] = False
