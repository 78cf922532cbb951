"""Drives the vectorised step for a few keys, and the oracle beside it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.level.protocol import Key, Seen
from tidegate.rules.level import RULES, TRANSITIONS
from tidegate.rules.level_step import LevelChanges, LevelInputs, LevelState, step
from tidegate.rules.policy import Policy, builtin_policy
from tidegate.schemas.level import Level

__all__ = ["DEFAULT", "START", "Driver"]

DEFAULT = builtin_policy("default")
START = 3_600_000_000
ALLOWED = {(t.state, t.guard, t.to) for t in TRANSITIONS}


class Driver:
    """Keys in lockstep; every step is checked against the oracle and the table."""

    def __init__(self, keys: int = 1, policy: Policy = DEFAULT) -> None:
        self.policy = policy
        self.state = LevelState(keys + 2)  # rows that aren't stepped must stay as they are
        self.slots = np.arange(keys) + 1
        self.jitter = np.arange(keys) * 7919
        self.oracles = [Key(policy.settings[0].level, int(j)) for j in self.jitter]
        self.boundary = START

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
                assert (before[i], rules[i], key.level) in ALLOWED
        assert self.state.level[0] == 0
        assert self.state.since_boundary[0] == -1
        return rules

    def hold(self, boundaries: int, seen: Seen) -> list[str]:
        """The same for some boundaries, for one key; returns the guards that moved it."""
        moved = (self.step(seen)[0] for _ in range(boundaries))
        return [rule for rule in moved if rule]

    def _vector(self, seen: Sequence[Seen]) -> LevelChanges:
        def column(name: str, dtype: type) -> Any:
            return np.array([getattr(x, name) for x in seen], dtype)

        return step(
            self.state,
            self.slots,
            LevelInputs(
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
                jitter=self.jitter,
            ),
            self.policy.columns,
            np.zeros(len(seen), np.int64),
            self.boundary,
        )

    def _compare(self, i: int, key: Key) -> None:
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
