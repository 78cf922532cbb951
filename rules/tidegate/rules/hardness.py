"""Which edges are *hard*: their failed calls fail the request that made them.

P(request fails given the call fails), from failed calls whose request stands in the same record, with
older ones fading. A cascade counts hard dependencies only: a service that falls back bears the loss of one.
"""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from tidegate.rules.logs import half_life_factor
from tidegate.rules.state_columns import StateColumns
from tidegate.rules.window import Merged
from tidegate.schemas.cells import HAS_PARENT, PARENT_FAILED

__all__ = ["TICK_S", "Hardness", "feed", "is_hard", "lower_bound", "tick"]

TICK_S = 30
"""How often `tick` is called for a key."""
_Z = 1.645
"""5 % on one side."""

Floats = npt.NDArray[np.float64]


class Hardness(StateColumns):
    """Per slot, fading: failed calls whose request is known, and those of them whose request failed too."""

    spec: ClassVar[dict[str, tuple[type, float, int]]] = {
        "calls": (np.float64, 0.0, 0),
        "requests_failed": (np.float64, 0.0, 0),
    }
    calls: Floats
    requests_failed: Floats


def feed(state: Hardness, merged: Merged) -> None:
    """What a boundary merged. As seen, without adjusting for sampling: that is how much is known."""
    index = np.flatnonzero(merged.code & HAS_PARENT)
    if not len(index):
        return
    # Whole numbers are added up first: so neither order nor cutting into cells leaves a trace in a last bit.
    slots, place = np.unique(merged.slot[index], return_inverse=True)
    count = merged.count[index]
    failed = np.where(merged.code[index] & PARENT_FAILED, count, 0)
    state.calls[slots] += np.bincount(place, count)
    state.requests_failed[slots] += np.bincount(place, failed)


def tick(state: Hardness, slots: npt.NDArray[np.int64], half_life_s: int) -> None:
    """Lets TICK_S seconds pass, for keys whose turn it is."""
    factor = half_life_factor(max(1, half_life_s // TICK_S))
    state.calls[slots] *= factor
    state.requests_failed[slots] *= factor


def is_hard(
    state: Hardness, slots: npt.NDArray[np.int64], share: float | Floats
) -> npt.NDArray[np.bool_]:
    """Whether more than this share of the edge's failed calls fail the request. Shape (m,)."""
    hard: npt.NDArray[np.bool_] = lower_bound(state, slots) > share
    return hard


def lower_bound(state: Hardness, slots: npt.NDArray[np.int64]) -> Floats:
    """P(request fails given the call fails), Wilson's lower bound (Wilson, JASA 1927): few calls prove
    nothing, none at all less. Shape (m,)."""
    n, k = state.calls[slots], state.requests_failed[slots]
    squared = _Z * _Z
    spread = _Z * np.sqrt(k * (n - k) / np.where(n > 0.0, n, 1.0) + squared / 4.0)
    bound: Floats = (k + squared / 2.0 - spread) / (n + squared)
    return np.where(k > 0.0, bound, 0.0)
