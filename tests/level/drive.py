"""Drives the vectorised step for a few keys, and the oracle beside it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.level.protocol import GradedKey, LatchedKey, Seen
from tidegate.rules.level import PROTOCOLS, RULES, SWITCHES
from tidegate.rules.level_step import LevelChanges, LevelInputs, LevelState, step
from tidegate.rules.policy import Policy, builtin_policy, load_policy
from tidegate.schemas.level import Level

__all__ = ["DEFAULT", "LATCHED", "ORACLES", "POLICIES", "START", "Driver", "inputs_of"]

DEFAULT = builtin_policy("default")
LATCHED = load_policy("{name: latched, settings: {protocol: latched}}", where="latched.yaml")
POLICIES = {"graded": DEFAULT, "latched": LATCHED}
ORACLES = {"graded": GradedKey, "latched": LatchedKey}
START = 3_600_000_000


class Driver:
    """Keys in lockstep; every step is checked against the oracle and the table."""

    def __init__(self, keys: int = 1, policy: Policy = DEFAULT) -> None:
        self.policy = policy
        self.state = LevelState(keys + 2)  # rows that aren't stepped must stay as they are
        self.slots = np.arange(keys) + 1
        self.jitter = np.arange(keys) * 7919
        settings = policy.settings[0]
        oracle = ORACLES[settings.protocol]
        self.oracles = [oracle(settings, int(j)) for j in self.jitter]
        table = (*PROTOCOLS[settings.protocol], *SWITCHES[settings.protocol])
        self.allowed = {(t.state, t.guard, t.to) for t in table}
        self.boundary = START
        self.refused_count = 0
        self.cleared: list[str | None] = []
        """Guards that cleared the evidence."""

    def now(self) -> Level:
        return Level(int(self.state.level[1]))

    def step(self, *seen: Seen) -> list[str | None]:
        """One boundary; returns what happened to each key."""
        self.boundary += 1
        before = [Level(int(v)) for v in self.state.level[self.slots]]
        changes = self._vector(seen)
        rules = [RULES[r] if r else None for r in changes.rule.tolist()]
        for i, (key, x) in enumerate(zip(self.oracles, seen, strict=True)):
            assert rules[i] == key.step(self.boundary, x)
            self._compare(i, key)
            if rules[i]:
                assert (before[i], rules[i], key.level) in self.allowed
        self.cleared += [rules[i] for i in np.flatnonzero(changes.resets_evidence)]
        self.refused_count += changes.refused_count
        assert self.refused_count == sum(key.refused for key in self.oracles)
        assert self.state.level[0] == 0
        assert self.state.since_boundary[0] == -1
        return rules

    def unchecked(self, *seen: Seen) -> None:
        """One boundary without the oracle, which knows no change of protocol."""
        self.boundary += 1
        self._vector(seen)

    def hold(self, boundaries: int, seen: Seen) -> list[str]:
        """The same for some boundaries, for one key; returns the guards that moved it."""
        moved = (self.step(seen)[0] for _ in range(boundaries))
        return [rule for rule in moved if rule]

    def until(self, level: Level, seen: Seen) -> int:
        """The same until the first key is there; returns how many boundaries that took."""
        began = self.boundary
        while self.now() != level:
            assert self.boundary - began < 2_000
            self.step(*[seen] * len(self.slots))
        return self.boundary - began

    def put(self, level: Level) -> None:
        """The keys stand in a level, however they came there."""
        self.state.level[self.slots] = level
        for key in self.oracles:
            key.level = level

    def _vector(self, seen: Sequence[Seen]) -> LevelChanges:
        return step(
            self.state,
            self.slots,
            inputs_of(seen, self.jitter),
            self.policy.columns,
            np.zeros(len(seen), np.int64),
            self.boundary,
        )

    def _compare(self, i: int, key: GradedKey | LatchedKey) -> None:
        row = {name: c[self.slots[i]] for name, c in self.state.columns().items()}
        assert row["level"] == key.level
        assert row["since_boundary"] == key.since
        assert row["counts_from"] == key.counts_from
        assert row["ramp_step"] == key.ramp
        assert row["hysteresis"] == key.hysteresis
        assert row["sleep"] == key.sleep
        assert row["attempt"] == key.attempt
        assert row["until_boundary"] == key.until
        assert row["slow_over_ms"] == key.slow_over_ms


def inputs_of(seen: Sequence[Seen], jitter: npt.NDArray[np.int64]) -> LevelInputs:
    """One boundary of some keys as columns."""

    def column(name: str, dtype: type) -> Any:
        return np.array([getattr(x, name) for x in seen], dtype)

    return LevelInputs(
        wanted=column("wanted", np.uint8),
        score=column("score", np.int32),
        requests=column("requests", np.int64),
        bad=column("bad", np.int64),
        after_requests=column("after_requests", np.int64),
        after_bad=column("after_bad", np.int64),
        after_probes=column("probes", np.int64),
        after_probes_bad=column("probes_bad", np.int64),
        fast_requests=column("fast_requests", np.int64),
        qps=column("qps", np.float64),
        idle_boundaries=column("idle", np.int64),
        age_boundaries=column("age", np.int64),
        p90_ms=column("p90_ms", np.int64),
        target_ms=column("target_ms", np.int64),
        is_slow_caused=np.zeros(len(seen), np.bool_),
        jitter=jitter,
        window_error_ratio=column("window_error_ratio", np.float64),
        window_requests=column("window_requests", np.float64),
        may_worsen=column("may_worsen", np.bool_),
        is_chronic=column("is_chronic", np.bool_),
        worst=column("worst", np.uint8),
        operator=column("operator", np.int8),
    )
