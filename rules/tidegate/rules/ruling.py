"""What a boundary says to a judgement, what is looked up for it, and what comes of it."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tidegate.rules.judge import JudgedWindow, WindowTotals
from tidegate.rules.level_state import LevelChanges
from tidegate.rules.window import Merged

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
class Told:
    """What a boundary says to a judgement, the same for every policy; k live keys in the order of scopes."""

    live: Ints
    merged: Merged
    boundary: int
    operator: npt.NDArray[np.int8]
    """An operator's event of the latched protocol, by key."""
    telemetry: Telemetry


@dataclass(slots=True)
class Ruling:
    """What a judgement found at a boundary. Arrays over the live keys (k)."""

    qps: Floats
    changes: LevelChanges
    is_changed: Mask
    """What a decision shows has changed: level, ceiling, findings."""
    is_panic: bool = False
    counters: dict[str, int] = field(default_factory=dict)


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
