"""What a boundary says to a judgement, what is looked up for it, and what comes of it."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tidegate.rules.judge import JudgedWindow, WindowTotals
from tidegate.rules.level_state import LevelChanges
from tidegate.rules.window import Merged
from tidegate.schemas.level import Level

__all__ = ["Numbers", "Ruling", "Telemetry", "Told"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What is known of telemetry itself at a boundary."""

    odd: int = 0
    """Spans that came late, skewed or in a record of partials that could not be read."""
    spans: int = 0
    """All others."""
    sources_missing: int = 0


@dataclass(slots=True)
class Guidance:
    """What a stage knows of k live keys beside what was merged of them. Arrays of shape (k,)."""

    scores: npt.NDArray[np.int32]
    """Thousandths that take the place of a key's own; -1 for none."""
    floor: npt.NDArray[np.uint8]
    """The level that is asked for at least, and at most."""
    worst: npt.NDArray[np.uint8]
    is_changed: Mask
    """What a decision shows of it has changed."""
    raised: str = ""
    """Why levels are raised to the floor."""
    reasons: list[tuple[Mask, str]] = field(default_factory=list)
    """Why levels are held, the first one counts."""

    @classmethod
    def nothing(cls, count: int) -> "Guidance":
        """Of which nothing follows."""
        return cls(
            np.full(count, -1, np.int32),
            np.zeros(count, np.uint8),
            np.full(count, int(Level.LOCKED), np.uint8),
            np.zeros(count, np.bool_),
        )

    def limit(self, rows: Mask, reason: str) -> None:
        """To degraded_1."""
        self.worst[rows] = np.minimum(self.worst[rows], np.uint8(Level.DEGRADED_1))
        self.reasons.append((rows, reason))

    def reason(self, row: int) -> str:
        """Why the level in a row is held; empty where nothing is."""
        return next((reason for rows, reason in self.reasons if rows[row]), "")


@dataclass(slots=True)
class Told:
    """What a boundary says to a judgement, the same for every policy; k live keys in the order of scopes."""

    live: Ints
    merged: Merged
    boundary: int
    operator: npt.NDArray[np.int8]
    """An operator's event of the latched protocol, by key."""
    telemetry: Telemetry
    guidance: Guidance | None = None


@dataclass(slots=True)
class Numbers:
    """What was looked up of k live keys at a boundary."""

    found: Floats
    """What was merged, shape (k, 10); see `window_kernel.increments`."""
    totals: WindowTotals
    seen: Ints
    qps: Floats
    target_bin: Ints
    """By slot."""
    judged: JudgedWindow | None = None
    """Of the keys for which quantiles matter."""


@dataclass(slots=True)
class Ruling:
    """What a judgement found at a boundary. Arrays over the live keys (k)."""

    numbers: Numbers
    changes: LevelChanges
    is_changed: Mask
    """What a decision shows has changed: level, ceiling, findings."""
    is_panic: bool = False
    counters: dict[str, int] = field(default_factory=dict)
