"""Both protocols once more, for one key, one boundary at a time, in plain Python: the oracles.

Written from the description of the protocols, not from the vectorised steps.
"""

from dataclasses import dataclass, field

from tidegate.rules.level import OperatorEvent
from tidegate.rules.policy_types import LatchedSettings, LevelSettings, Settings
from tidegate.schemas.level import Level

__all__ = ["GradedKey", "LatchedKey", "Seen"]

CLOSED, D1, D2, HALF, COOLING, OPEN, FORCED, LOCKED = Level


@dataclass(frozen=True)
class Seen:
    """What one boundary says about the key."""

    wanted: Level = CLOSED
    score: int = 1000
    requests: int = 0
    bad: int = 0
    old_requests: int = 0
    """Of `requests`, those in buckets before the last change; the bad ones among them are the worst."""
    probes: int = 0
    probes_bad: int = 0
    fast_requests: int = 0
    qps: float = 10.0
    idle: int = 0
    age: int = 0
    p90_ms: int = -1
    target_ms: int = -1
    window_error_ratio: float = 0.0
    window_requests: float = 0.0
    may_worsen: bool = True
    is_chronic: bool = False
    worst: Level = LOCKED
    operator: OperatorEvent = OperatorEvent.NONE

    @property
    def after_requests(self) -> int:
        return self.requests - self.old_requests

    @property
    def after_bad(self) -> int:
        return max(0, self.bad - self.old_requests)


@dataclass
class _Key:
    """State of one key; `step` returns the guard that moved it, or None."""

    settings: Settings
    jitter: int = 0
    ttl: int = 7200
    level: Level = CLOSED
    since: int = -1
    counts_from: int = 0
    ramp: int = 0
    hysteresis: int = 0
    sleep: int = 0
    attempt: int = 0
    until: int = -1
    seen_requests: int = 0
    seen_bad: int = 0
    slow_over_ms: int = -1
    refused: int = 0

    def _fall_asleep(self, b: int, first: int) -> None:
        spread = self.sleep // 10 + 1 if self.sleep > first else 1
        self.attempt += 1
        self.until = b + self.sleep + self.jitter % spread


@dataclass
class GradedKey(_Key):
    """By score. Worse is confirmed, better stands, what turns everything away sleeps and is probed."""

    asked_at: int = -1
    worse: list[Level] = field(default_factory=list)
    open_since: int | None = None
    open_requests: int = 0
    bad_run: int = 0
    better_since: int | None = None
    bettered_at: int | None = None

    @property
    def s(self) -> LevelSettings:
        return self.settings.level

    def step(self, b: int, x: Seen) -> str | None:
        if self.since < 0:
            self.since = b
        if x.requests:
            self.asked_at = b
        self.refused += x.operator != OperatorEvent.NONE
        to = self._watch(b, x)
        better = self._stood(b, x)
        moved: tuple[str, Level] | None = None
        minute = self.s.idle_step_s * 2
        degraded = self.level in (D1, D2)
        if self.level in (COOLING, LOCKED):
            moved = ("protocol_changed", HALF if self.level == COOLING else OPEN)
        elif x.is_chronic and self.level > D1:
            moved = ("chronic", D1)
        elif to is not None and self.level in (CLOSED, D1, D2, OPEN):
            moved = ("worse_confirmed", to)
        elif degraded and better:
            moved = ("better_stood", Level(self.level - 1))
        elif degraded and min(b - self.asked_at, b - self.since) >= minute:
            moved = ("idle_minute", Level(self.level - 1))
        elif self.level in (OPEN, FORCED) and b >= self.until:
            if x.score > round(self.s.wake_score * 1000) or x.fast_requests == 0:
                moved = ("slept", HALF)
        elif self.level == HALF:
            moved = self._probe(b, x)
        if moved is None and self.level != CLOSED and x.idle > self.ttl:
            moved = ("idle_out", CLOSED)
        if moved is not None and moved[1] == LOCKED:
            moved = None
            self.refused += 1
        if moved is None:
            if self.level == CLOSED and b - self.since >= self.s.calm_reset_s * 2:
                self.hysteresis = self.sleep = self.attempt = 0
            return None
        self._move(b, x, *moved)
        return moved[0]

    def _watch(self, b: int, x: Seen) -> Level | None:
        """The level that worse scores have confirmed."""
        if not x.after_requests:
            return None
        all_bad = x.after_bad == x.after_requests
        self.bad_run = self.bad_run + x.after_requests if all_bad else 0
        wanted = min(x.wanted, x.worst)
        if wanted in (HALF, COOLING):
            wanted = D2
        if wanted >= OPEN:
            self.open_since = b if self.open_since is None else self.open_since
            self.open_requests += x.after_requests
        else:
            self.open_since, self.open_requests = None, 0
        if wanted <= self.level:
            self.worse = []
            return None
        self.worse.append(wanted)
        once = x.qps < self.s.confirm_once_below_rps
        if len(self.worse) < (1 if once else self.s.confirm_boundaries) or not x.may_worsen:
            return None
        to = min(self.worse)
        stood = (
            self.open_since is not None
            and b - self.open_since >= self.s.open_stand_s * 2
            and self.open_requests >= self.s.open_requests_min
        )
        in_a_row = x.qps < self.s.open_bad_run_below_rps and self.bad_run >= self.s.open_bad_run
        if to >= OPEN and not stood and not in_a_row:
            to = D2
        return to if to > self.level else None

    def _stood(self, b: int, x: Seen) -> bool:
        if not x.after_requests:
            return False
        if x.wanted >= self.level:
            self.better_since = None
            return False
        self.better_since = b if self.better_since is None else self.better_since
        return b - self.better_since >= (self.hysteresis or self.s.hysteresis_s * 2)

    def _probe(self, b: int, x: Seen) -> tuple[str, Level] | None:
        self.seen_requests += x.after_requests + x.probes
        self.seen_bad += x.after_bad + x.probes_bad
        n, since = self.seen_requests, b - self.counts_from
        share = self.seen_bad / max(n, 1)
        enough = n >= self.s.probe_requests_min
        good = 1.0 - share > self.s.probe_good_share
        if enough and share > self.s.probe_bad_share:
            return "probes_bad", OPEN
        if self.ramp == 0:
            if enough and good:
                return "probes_good", HALF
            if n >= self.s.probe_patience_requests:
                return "undecided", D2
        else:
            answered = n >= self.s.ramp_requests_min or since >= self.s.ramp_patience_s * 2
            if good and answered and since >= self.s.ramp_step_s * 2 + x.age:
                last = self.ramp >= len(self.s.ramp)
                return ("ramp_done", CLOSED) if last else ("ramp_held", HALF)
        if n and since >= self.s.probe_patience_s * 2:
            return "undecided", D2
        return None

    def _move(self, b: int, x: Seen, guard: str, to: Level) -> None:
        before, base = self.level, self.s.hysteresis_s * 2
        bettered_at = -(10**9) if self.bettered_at is None else self.bettered_at
        relapse = guard == "worse_confirmed" and before < OPEN
        if relapse and b - bettered_at <= self.s.relapse_within_s * 2:
            self.bettered_at = None
            doubled = 2 * (self.hysteresis or base)
            self.hysteresis = min(doubled, self.s.hysteresis_max_s * 2)
        if guard in ("better_stood", "ramp_done"):
            self.bettered_at = b
        if before == CLOSED:
            self.slow_over_ms = max(x.target_ms, x.p90_ms)
        if to >= OPEN and (before < OPEN or before == LOCKED):
            first = self.s.sleep_s * 2
            self.sleep = self.sleep or first
            if guard == "probes_bad":
                self.sleep = min(2 * self.sleep, self.s.sleep_max_s * 2)
            self._fall_asleep(b, first)
        elif to < OPEN:
            self.until = -1
        self.ramp = {"probes_good": 1, "ramp_held": self.ramp + 1}.get(guard, 0)
        self.counts_from, self.seen_requests, self.seen_bad = b, 0, 0
        self.worse, self.open_since, self.open_requests = [], None, 0
        self.bad_run, self.better_since = 0, None
        if to != before:
            self.since = b
        self.level = to
        if to == CLOSED:
            self.slow_over_ms = -1


@dataclass
class LatchedKey(_Key):
    """By failures. What they open backs off, then passes a health check; locks are an operator's."""

    failed_buckets: int = 0
    good_in_row: int = 0

    @property
    def s(self) -> LatchedSettings:
        return self.settings.latched

    def step(self, b: int, x: Seen) -> str | None:
        if self.since < 0:
            self.since = b
        moved = self._asked_by_operator(x)
        if self.level != LOCKED and x.wanted == LOCKED:
            self.refused += 1
        said = self._judge(b, x)
        moved = moved or said
        if moved is None and self.level not in (CLOSED, LOCKED) and x.idle > self.ttl:
            moved = ("idle_out", CLOSED)
        if moved is None:
            if self.level == CLOSED and b - self.since >= self.settings.level.calm_reset_s * 2:
                self.sleep = self.attempt = 0
            return None
        self._move(b, *moved)
        return moved[0]

    def _asked_by_operator(self, x: Seen) -> tuple[str, Level] | None:
        if x.operator == OperatorEvent.NONE:
            return None
        if x.operator == OperatorEvent.LOCK and self.level != LOCKED:
            return "operator_lock", LOCKED
        if x.operator == OperatorEvent.RESET and self.level == LOCKED:
            return "operator_reset", CLOSED
        self.refused += 1
        return None

    def _judge(self, b: int, x: Seen) -> tuple[str, Level] | None:
        match self.level:
            case Level.CLOSED:
                return self._closed(b, x)
            case Level.HALF_OPEN:
                return self._half_open(x)
            case Level.OPEN:
                return ("backoff_over", COOLING) if b >= self.until else None
            case Level.COOLING:
                return self._cooling(x)
            case Level.FORCED_OPEN:
                return "protocol_changed", OPEN
            case Level.DEGRADED_1 | Level.DEGRADED_2:
                return "protocol_changed", CLOSED
        return None

    def _closed(self, b: int, x: Seen) -> tuple[str, Level] | None:
        if x.after_requests:
            nothing_good = x.after_bad == x.after_requests
            self.failed_buckets = self.failed_buckets + 1 if nothing_good else 0
        if not x.after_bad or not x.may_worsen or x.worst < HALF:
            return None
        if self.failed_buckets >= self.s.failed_buckets:
            return "failures_in_row", HALF
        window_is_own = self.counts_from <= b - 60
        enough = x.window_requests >= self.s.requests_min
        if window_is_own and enough and x.window_error_ratio > self.s.error_ratio:
            return "error_ratio_high", HALF
        return None

    def _half_open(self, x: Seen) -> tuple[str, Level] | None:
        self.seen_requests += x.after_requests + x.probes
        self.seen_bad += x.after_bad + x.probes_bad
        if self.seen_requests < self.s.half_open_requests:
            return None
        if self.seen_bad / max(1, self.seen_requests) > self.s.error_ratio:
            return "answer_bad", OPEN
        return "answer_good", CLOSED

    def _cooling(self, x: Seen) -> tuple[str, Level] | None:
        answers = [False] * x.probes_bad + [True] * (x.probes - x.probes_bad)
        if x.after_requests:  # callers that don't obey
            answers.append(x.after_bad / x.after_requests <= self.s.error_ratio)
        self.good_in_row = self.good_in_row + len(answers) if all(answers) else 0
        return ("health_check_good", CLOSED) if self.good_in_row >= self.s.cooling_probes else None

    def _move(self, b: int, guard: str, to: Level) -> None:
        if guard == "answer_bad":
            longest = self.s.backoff_max_s * 2
            self.sleep = min(2 * self.sleep, longest) if self.sleep else self.s.backoff_s * 2
            self._fall_asleep(b, self.s.backoff_s * 2)
        elif to != OPEN:
            self.until = -1
        if guard == "operator_reset":
            self.sleep = self.attempt = 0
        self.counts_from = b
        self.seen_requests = self.seen_bad = self.failed_buckets = self.good_in_row = 0
        self.since, self.level = b, to
