"""Five minutes of what alerts judge, and the tier that they ask for: ten sums of 30 s for every service.

Independent of levels and evidence: people are called by what was promised, not by what is usual. All sums
are integers, so what leaves is exactly what came.
"""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from tidegate.rules.policy_columns import TIER_NAMES, AlertColumns
from tidegate.rules.state_columns import StateColumns
from tidegate.rules.window import LONG_SUMS, WINDOW_BUCKETS, Merged
from tidegate.schemas.alert import AlertSignals
from tidegate.schemas.bins import bin_of_ns
from tidegate.schemas.cells import EFFECT_SHIFT, OUTCOME_MASK, SELF_TIME, WEIGHT_ONE
from tidegate.schemas.compiling import kernel

__all__ = ["SLOW_SHARE", "SloWindow", "feed", "slo_signals", "slo_tiers", "turn"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SLOW_SHARE = 0.05
"""P95 is above a limit where more than this share is slower than it: what a P95 is."""
P1, P2 = TIER_NAMES.index("P1"), TIER_NAMES.index("P2")

# Numbers of one sum, own effects left out: adjusted counts (64 = 1), their squares (for the effective
# sample size), adjusted counts x thousandths of the outcome's weight, and those slower than each limit.
WEIGHT, WEIGHT_SQUARED, BAD, SLOW_P2, SLOW_P1 = range(5)
NUMBERS = 5
BAD_UNIT = 1000


class SloWindow(StateColumns):
    """Per slot. sums: ten times NUMBERS, the newest still growing; total: these added up."""

    spec: ClassVar[dict[str, tuple[type, float, int]]] = {
        "sums": (np.int64, 0, LONG_SUMS * NUMBERS),
        "total": (np.int64, 0, NUMBERS),
    }
    sums: Ints
    total: Ints


def turn(slo: SloWindow, boundary: int) -> None:
    """Call at every boundary, before `feed`: where a new sum begins, the one ten turns ago leaves."""
    if (boundary - 1) % WINDOW_BUCKETS:
        return
    first = (boundary - 1) // WINDOW_BUCKETS % LONG_SUMS * NUMBERS
    leaving = slo.sums[:, first : first + NUMBERS]
    slo.total -= leaving
    leaving[:] = 0


def feed(
    slo: SloWindow,
    merged: Merged,
    is_fed: Mask,
    outcome_weights: Floats,
    columns: AlertColumns,
    settings: Ints,
    boundary: int,
) -> None:
    """Adds what a boundary merged. is_fed, settings: by slot; outcome_weights: shape (settings, 8)."""
    _feed(
        slo.sums,
        slo.total,
        merged.slot,
        boundary - 1 - merged.age,
        merged.code,
        merged.bin,
        merged.count,
        merged.weight,
        is_fed,
        settings,
        np.floor(outcome_weights * BAD_UNIT + 0.5).astype(np.int64),
        bin_of_ns(columns.p2_p95_over_ms * 1_000_000),
        bin_of_ns(columns.p1_p95_over_ms * 1_000_000),
    )


@kernel
def _feed(
    sums: Ints,
    total: Ints,
    slot: Ints,
    bucket: Ints,
    code: Ints,
    bin_: Ints,
    count: Ints,
    weight: Ints,
    is_fed: Mask,
    settings: Ints,
    bad_units: Ints,
    p2_bin: Ints,
    p1_bin: Ints,
) -> None:
    """bad_units (settings, 8), p2_bin and p1_bin (settings,): a longer duration's bin lies above."""
    for i in range(len(slot)):
        s, c = slot[i], code[i]
        if not is_fed[s] or c & SELF_TIME or (c >> EFFECT_SHIFT) & 7:
            continue
        kind = settings[s]
        first = bucket[i] // WINDOW_BUCKETS % LONG_SUMS * NUMBERS
        adjusted = count[i] * weight[i]
        squared = adjusted * weight[i]
        bad = adjusted * bad_units[kind, c & OUTCOME_MASK]
        sums[s, first + WEIGHT] += adjusted
        total[s, WEIGHT] += adjusted
        sums[s, first + WEIGHT_SQUARED] += squared
        total[s, WEIGHT_SQUARED] += squared
        sums[s, first + BAD] += bad
        total[s, BAD] += bad
        if bin_[i] > p2_bin[kind]:
            sums[s, first + SLOW_P2] += adjusted
            total[s, SLOW_P2] += adjusted
        if bin_[i] > p1_bin[kind]:
            sums[s, first + SLOW_P1] += adjusted
            total[s, SLOW_P1] += adjusted


def slo_tiers(
    slo: SloWindow, live: Ints, columns: AlertColumns, settings: Ints
) -> npt.NDArray[np.uint8]:
    """The tier (index into TIER_NAMES) that each key's five minutes ask for. settings: by key, (m,)."""
    tiers = np.zeros(len(live), np.uint8)
    is_stirred = (slo.total[:, BAD] > 0) | (slo.total[:, SLOW_P2] > 0) | (slo.total[:, SLOW_P1] > 0)
    rows = np.flatnonzero(is_stirred[live])
    if not len(rows):
        return tiers
    total, kind = slo.total[live[rows]].astype(np.float64), settings[rows]
    for tier, slow, limit in (
        (P2, total[:, SLOW_P2], columns.p2_error_ratio_over[kind]),
        (P1, total[:, SLOW_P1], columns.p1_error_ratio_over[kind]),
    ):
        z, least = columns.z[kind], columns.bad_min[kind]
        is_over = _is_over(total, total[:, BAD], BAD_UNIT, limit, z, least)
        is_over |= _is_over(total, slow, 1, np.full(len(rows), SLOW_SHARE), z, least)
        tiers[rows[is_over]] = tier
    return tiers


def _is_over(
    total: Floats, bad: Floats, unit: int, limit: Floats, z: Floats, bad_min: Ints
) -> Mask:
    """Whether Wilson's lower bound of a share lies above its limit, with enough bad ones.

    The bound is what a score test inverts (Wilson 1927), so it lies above L just where the share p does and
    n (p - L)^2 > z^2 L (1 - L): no root is taken, and z = 0 is the share itself. n is the effective sample
    size (Kish 1965), and so is the number of bad ones; a minimum of 1 is none, since a throttled request
    alone is half a bad one.
    """
    weight, squared = total[:, WEIGHT], total[:, WEIGHT_SQUARED]
    share = bad / (unit * weight)
    n = weight * weight / squared
    is_above = (share > limit) & (
        n * (share - limit) * (share - limit) > z * z * limit * (1 - limit)
    )
    is_enough = (bad_min <= 1) | (weight * bad >= bad_min * unit * squared)
    return is_above & is_enough


def slo_signals(slo: SloWindow, slot: int, tier: str, p95_over_ms: int) -> AlertSignals:
    """The numbers of one service over five minutes. p95_over_ms: the tier's limit."""
    total = slo.total[slot].tolist()
    weight = total[WEIGHT]
    if not weight:
        return AlertSignals(requests=0, p95_over_ms=p95_over_ms)
    slow = total[SLOW_P1 if tier == "P1" else SLOW_P2]
    return AlertSignals(
        requests=(weight + WEIGHT_ONE // 2) // WEIGHT_ONE,
        error_ratio=_ten_thousandths(total[BAD], BAD_UNIT * weight),
        slow_ratio=_ten_thousandths(slow, weight),
        p95_over_ms=p95_over_ms,
    )


def _ten_thousandths(part: int, whole: int) -> float:
    """Rounded: finer than 0.3 %, the smallest limit that is published."""
    return (part * 20_000 + whole) // (2 * whole) / 10_000
