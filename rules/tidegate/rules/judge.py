"""The numbers that are judged: which window, its error ratio, its quantiles, for many keys at once."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidegate.rules import window_kernel as kernel
from tidegate.rules.window import Windows
from tidegate.rules.window_kernel import (
    ADMITTED_WEIGHT_SQUARED,
    INHERITED_BY_OUTCOME,
    OUTCOMES,
    SKETCH_UNIT,
    WEIGHT_BY_OUTCOME,
)
from tidegate.schemas.bins import BINS_COUNT
from tidegate.schemas.cells import BUCKET_MS, WEIGHT_ONE

__all__ = [
    "FAST",
    "LONG",
    "WINDOW",
    "WINDOW_SECONDS",
    "JudgedWindow",
    "WindowTotals",
    "effective",
    "judged_window",
    "per_second",
    "weighted_ratio",
    "window_totals",
]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FAST, WINDOW, LONG = 0, 1, 2
WINDOW_SECONDS = (5.0, 30.0, 300.0)


@dataclass(slots=True)
class JudgedWindow:
    """m keys, in the order of `slots`."""

    slots: Ints
    which: npt.NDArray[np.int8]
    """FAST, WINDOW or LONG."""
    counts: Ints
    """Count vectors of the judged window, shape (m, COUNTS)."""
    requests: Floats
    """Effective sample size."""
    error_ratio: Floats
    slow: Floats
    """Requests that did not fail and were slower than the target, as effective sample size."""
    p50_bin: Ints
    p90_bin: Ints
    p95_bin: Ints
    """Of not-failed durations; -1 without any."""
    p50_all_bin: Ints
    p95_all_bin: Ints
    """Of all durations."""


def effective(counts: Ints) -> Floats:
    """n_eff = (sum of w)^2 / sum of w^2 (Kish, 1965): the plain count for unsampled spans. Shape (m,)."""
    weight = _total(counts, WEIGHT_BY_OUTCOME)
    squared = counts[:, ADMITTED_WEIGHT_SQUARED].astype(np.float64)
    return weight * weight / np.maximum(squared, 1.0)


def weighted_ratio(counts: Ints, outcome_weights: Floats, *, own: bool = False) -> Floats:
    """Sum of weight(outcome) x adjusted count / adjusted count; with `own` without inherited failures.
    outcome_weights: shape (m, 6 or more)."""
    total = _total(counts, WEIGHT_BY_OUTCOME)
    bad = np.zeros(len(counts), np.float64)
    for outcome in range(OUTCOMES):
        here = counts[:, WEIGHT_BY_OUTCOME + outcome]
        if own:
            here = here - counts[:, INHERITED_BY_OUTCOME + outcome]
        bad += outcome_weights[:, outcome] * here
    return bad / np.maximum(total, 1.0)


@dataclass(slots=True)
class WindowTotals:
    """Of the 30 s window, by key; and how many requests the fast window holds."""

    requests: Ints
    effective: Floats
    offered: Floats
    """Admitted and shed, adjusted."""
    weight: Floats
    """Adjusted count, 64 = 1."""
    fast_requests: Ints
    fast_offered: Floats
    """Admitted and shed, adjusted, in the fast window."""


def window_totals(windows: Windows, slots: Ints) -> WindowTotals:
    """Looks them up in one pass over the count vectors."""
    out = np.empty((len(slots), 4), np.int64)
    kernel.summaries(windows.window, slots, out)
    weight, squared = out[:, 1].astype(np.float64), out[:, 2].astype(np.float64)
    fast = np.empty((len(slots), 4), np.int64)
    kernel.summaries(windows.fast, slots, fast)
    return WindowTotals(
        out[:, 0],
        weight * weight / np.maximum(squared, 1.0),
        (out[:, 1] + out[:, 3]) / WEIGHT_ONE,
        weight,
        fast[:, 0],
        (fast[:, 1] + fast[:, 3]) / WEIGHT_ONE,
    )


def per_second(counts: Floats, seen_buckets: Ints) -> Floats:
    """By the part of the window in which the service was seen, at least 1 s. Shape kept."""
    return counts / (np.maximum(seen_buckets, 2) * (BUCKET_MS / 1000.0))


def judged_window(
    windows: Windows,
    slots: Ints,
    outcome_weights: Floats,
    target_bin: Ints,
    *,
    requests_min: int,
    may_be_fast: bool = True,
    which: npt.NDArray[np.int8] | None = None,
) -> JudgedWindow:
    """Looks the judged windows of these slots up: the smallest that holds `requests_min`, else the long
    one; or those that are asked for. outcome_weights (m, outcomes), target_bin (m,), which (m,)."""
    fast, window, long = windows.fast[slots], windows.window[slots], windows.long[slots]
    if which is None:
        has_fast = may_be_fast & (effective(fast) >= requests_min)
        has_window = effective(window) >= requests_min
        which = np.where(has_fast, FAST, np.where(has_window, WINDOW, LONG)).astype(np.int8)
    is_fast, is_window = (which == FAST)[:, None], (which == WINDOW)[:, None]
    counts = np.where(is_fast, fast, np.where(is_window, window, long))
    judged = JudgedWindow(
        slots=slots,
        which=which,
        counts=counts,
        requests=effective(counts),
        error_ratio=weighted_ratio(counts, outcome_weights),
        slow=np.zeros(len(slots)),
        **{
            name: np.full(len(slots), -1, np.int64)
            for name in ("p50_bin", "p90_bin", "p95_bin", "p50_all_bin", "p95_all_bin")
        },
    )
    for plane, chosen in ((kernel.FAST, which == FAST), (kernel.WINDOW, which == WINDOW)):
        index = np.flatnonzero(chosen)
        if len(index):
            _dense_quantiles(windows, judged, index, target_bin, plane)
    index = np.flatnonzero(which == LONG)
    if len(index):
        _long_quantiles(windows, judged, index, target_bin)
    return judged


def _dense_quantiles(
    windows: Windows, judged: JudgedWindow, index: npt.NDArray[np.intp], target: Ints, plane: int
) -> None:
    slots, pool = judged.slots[index], windows.sketches
    for per_mille, name in ((500, "p50"), (900, "p90"), (950, "p95")):
        getattr(judged, f"{name}_bin")[index] = pool.quantile_bins(
            slots, per_mille, which=plane, failed_too=False
        )
        if name != "p90":
            getattr(judged, f"{name}_all_bin")[index] = pool.quantile_bins(
                slots, per_mille, which=plane, failed_too=True
            )
    units = pool.slow_units(slots, target[index], which=plane)
    judged.slow[index] = _slow_requests(units, judged.counts[index], judged.requests[index])


def _long_quantiles(
    windows: Windows, judged: JudgedWindow, index: npt.NDArray[np.intp], target: Ints
) -> None:
    sketches = windows.long_durations(judged.slots[index])
    ok, whole = sketches[:, 0], sketches.sum(axis=1)
    for per_mille, name in ((500, "p50"), (900, "p90"), (950, "p95")):
        getattr(judged, f"{name}_bin")[index] = _quantile(ok, per_mille)
        if name != "p90":
            getattr(judged, f"{name}_all_bin")[index] = _quantile(whole, per_mille)
    beyond = np.arange(BINS_COUNT)[None, :] > target[index][:, None]
    units = np.where(beyond & (target[index] >= 0)[:, None], ok, 0).sum(axis=1)
    judged.slow[index] = _slow_requests(units, judged.counts[index], judged.requests[index])


def _quantile(counts: Ints, per_mille: int) -> Ints:
    """The smallest bin whose cumulative count reaches ceil(q x total), by row; -1 where empty."""
    total = counts.sum(axis=1)
    wanted = (total * per_mille + 999) // 1000
    reached = np.cumsum(counts, axis=1) >= np.maximum(wanted, 1)[:, None]
    return np.where(total > 0, reached.argmax(axis=1), -1)


def _slow_requests(units: Ints, counts: Ints, requests: Floats) -> Floats:
    """Sketch units to effective requests: the share of the adjusted count, times n_eff."""
    total = _total(counts, WEIGHT_BY_OUTCOME) / WEIGHT_ONE * SKETCH_UNIT
    return units / np.maximum(total, 1.0) * requests


def _total(counts: Ints, first: int) -> Floats:
    out: Floats = counts[:, first : first + OUTCOMES].sum(axis=1).astype(np.float64)
    return out
