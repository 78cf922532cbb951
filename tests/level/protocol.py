"""The graded protocol once more, for one key, one boundary at a time, in plain Python: the oracle.

Written from the description of the protocol, not from the vectorised step.
"""

from dataclasses import dataclass, field

from tidegate.rules.policy_types import LevelSettings
from tidegate.schemas.level import Level

__all__ = ["Key", "Seen"]

CLOSED, D1, D2, HALF, OPEN, FORCED = (
    Level.CLOSED,
    Level.DEGRADED_1,
    Level.DEGRADED_2,
    Level.HALF_OPEN,
    Level.OPEN,
    Level.FORCED_OPEN,
)


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

    @property
    def after_requests(self) -> int:
        return self.requests - self.old_requests

    @property
    def after_bad(self) -> int:
        return max(0, self.bad - self.old_requests)


@dataclass
class Key:
    """State of one key; `step` returns the guard that moved it, or None."""

    s: LevelSettings
    jitter: int = 0
    ttl: int = 7200
    level: Level = CLOSED
    since: int = -1
    counts_from: int = 0
    asked_at: int = -1
    ramp: int = 0
    worse: list[Level] = field(default_factory=list)
    open_since: int | None = None
    open_requests: int = 0
    bad_run: int = 0
    better_since: int | None = None
    bettered_at: int | None = None
    hysteresis: int = 0
    sleep: int = 0
    attempt: int = 0
    until: int = -1
    seen_requests: int = 0
    seen_bad: int = 0
    slow_over_ms: int = -1

    def step(self, b: int, x: Seen) -> str | None:
        if self.since < 0:
            self.since = b
        if x.requests:
            self.asked_at = b
        to = self._watch(b, x)
        better = self._stood(b, x)
        moved: tuple[str, Level] | None = None
        minute = self.s.idle_step_s * 2
        degraded = self.level in (D1, D2)
        if to is not None and self.level in (CLOSED, D1, D2, OPEN):
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
        if x.wanted >= OPEN:
            self.open_since = b if self.open_since is None else self.open_since
            self.open_requests += x.after_requests
        else:
            self.open_since, self.open_requests = None, 0
        if x.wanted <= self.level:
            self.worse = []
            return None
        self.worse.append(x.wanted)
        once = x.qps < self.s.confirm_once_below_rps
        if len(self.worse) < (1 if once else self.s.confirm_boundaries):
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
        if to >= OPEN and before < OPEN:
            first = self.s.sleep_s * 2
            if guard == "probes_bad":
                self.sleep = min(2 * self.sleep, self.s.sleep_max_s * 2)
            else:
                self.sleep = self.sleep or first
            spread = self.sleep // 10 + 1 if self.sleep > first else 1
            self.attempt += 1
            self.until = b + self.sleep + self.jitter % spread
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
