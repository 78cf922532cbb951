"""What is usual for a key: decayed sketches of its requests over closed time, and the target from them.

Slower than the target is bad. The P95 of single windows swings 5- to 8-fold in healthy low traffic, since
routes mix, while P50 is steady: so the target leans on both. Before a baseline is known nothing is slow.
"""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from tidegate.rules.logs import half_life_factor
from tidegate.rules.policy import BaselineSettings
from tidegate.rules.state_columns import StateColumns
from tidegate.rules.window import Merged
from tidegate.schemas.bins import BINS_COUNT, EDGES_NS, bin_of_ns
from tidegate.schemas.cells import EFFECT_SHIFT, SELF_TIME, WEIGHT_ONE
from tidegate.schemas.compiling import kernel

__all__ = ["TICK_BOUNDARIES", "Baselines", "feed", "tick", "tick_qps"]

BINS_PER_GROUP = 8
"""Baselines use coarser bins (17 % wide, interpolated): a target need not be known to 1 %."""
GROUPS = (BINS_COUNT + BINS_PER_GROUP - 1) // BINS_PER_GROUP
TICK_BOUNDARIES = 60
"""Every 30 s a key's baseline decays and its target is computed anew, spread over scopes by hash."""
GOOD_UNITS = 10
"""A good request counts ten units, a bad one `bad_units`: an incident can't teach itself as normal."""

_EDGES_US = np.concatenate(
    ([0.0], EDGES_NS[BINS_PER_GROUP - 1 :: BINS_PER_GROUP].astype(np.float64) / 1000.0)
)
_GROUP_EDGES_US = np.concatenate(
    (_EDGES_US, np.full(max(0, GROUPS + 1 - len(_EDGES_US)), float(EDGES_NS[-1]) / 1000.0))
)[: GROUPS + 1]


class Baselines(StateColumns):
    """Per slot. short and day: decayed units by group; fresh: units since the last tick."""

    spec: ClassVar[dict[str, tuple[type, float, int]]] = {
        "short": (np.float32, 0.0, GROUPS),
        "day": (np.float32, 0.0, GROUPS),
        "fresh": (np.int32, 0, GROUPS),
        "requests": (np.int64, 0, 0),
        "first_boundary": (np.int64, -1, 0),
        "last_boundary": (np.int64, -1, 0),
        "target_us": (np.int64, -1, 0),
        "target_bin": (np.int64, -1, 0),
        "p05_us": (np.int64, -1, 0),
        "p50_us": (np.int64, -1, 0),
        "p95_us": (np.int64, -1, 0),
        "is_drifting": (np.bool_, 0, 0),
        "qps": (np.float64, -1.0, 0),
    }
    short: npt.NDArray[np.float32]
    day: npt.NDArray[np.float32]
    fresh: npt.NDArray[np.int32]
    requests: npt.NDArray[np.int64]
    first_boundary: npt.NDArray[np.int64]
    """The first and the last one that taught it anything."""
    last_boundary: npt.NDArray[np.int64]
    target_us: npt.NDArray[np.int64]
    target_bin: npt.NDArray[np.int64]
    p05_us: npt.NDArray[np.int64]
    p50_us: npt.NDArray[np.int64]
    p95_us: npt.NDArray[np.int64]
    is_drifting: npt.NDArray[np.bool_]
    qps: npt.NDArray[np.float64]
    """Usual offered requests per second; -1 before it is known."""


def feed(
    baselines: Baselines,
    merged: Merged,
    is_learning: npt.NDArray[np.bool_],
    settings: npt.NDArray[np.int64],
    is_failed: npt.NDArray[np.bool_],
    bad_units: int,
    boundary: int,
) -> None:
    """Adds requests of keys that are closed and without evidence. is_learning, settings: by slot;
    is_failed: (settings, 8)."""
    _feed(
        baselines.fresh,
        baselines.requests,
        baselines.first_boundary,
        baselines.last_boundary,
        baselines.target_bin,
        merged.slot,
        merged.code,
        merged.bin,
        merged.count,
        merged.weight,
        is_learning,
        settings,
        is_failed,
        bad_units,
        boundary,
    )


def tick(baselines: Baselines, slots: npt.NDArray[np.int64], s: BaselineSettings) -> None:
    """Decay by 30 s and new targets, for the slots whose turn it is."""
    fresh = baselines.fresh[slots].astype(np.float32)
    short = baselines.short[slots] * np.float32(half_life_factor(s.half_life_s // 30)) + fresh
    day = baselines.day[slots] * np.float32(half_life_factor(s.day_half_life_s // 30)) + fresh
    baselines.short[slots], baselines.day[slots], baselines.fresh[slots] = short, day, 0
    # Time in which nothing was learnt teaches nothing: what is frozen doesn't become known by waiting.
    seen = baselines.last_boundary[slots] - baselines.first_boundary[slots]
    is_known = (
        (baselines.requests[slots] >= s.known_requests_min)
        & (baselines.first_boundary[slots] >= 0)
        & (seen >= s.known_after_s * 2)
    )
    p50, p95 = _quantile_us(short, 0.5), _quantile_us(short, 0.95)
    now = _target_us(p50, p95, s)
    usual = _target_us(_quantile_us(day, 0.5), _quantile_us(day, 0.95), s)
    target = np.minimum(now, s.drift_factor * usual)
    baselines.is_drifting[slots] = is_known & (now > s.drift_factor * usual)
    p05 = _quantile_us(short, 0.05)
    baselines.p05_us[slots] = np.where(is_known, p05, -1).astype(np.int64)
    baselines.p50_us[slots] = np.where(is_known, p50, -1).astype(np.int64)
    baselines.p95_us[slots] = np.where(is_known, p95, -1).astype(np.int64)
    baselines.target_us[slots] = np.where(is_known, target, -1).astype(np.int64)
    ns = np.maximum(baselines.target_us[slots], 0) * 1000
    baselines.target_bin[slots] = np.where(is_known, bin_of_ns(ns), -1)


def tick_qps(
    baselines: Baselines,
    slots: npt.NDArray[np.int64],
    qps: npt.NDArray[np.float64],
    s: BaselineSettings,
) -> None:
    """The same for the usual load, of those of the slots that are calm: a decayed mean of the window's
    QPS. Begins where the rest of the baseline is known."""
    known = baselines.p50_us[slots] >= 0
    slots, qps = slots[known], qps[known]
    old = baselines.qps[slots]
    part = 1.0 - half_life_factor(max(1, s.qps_half_life_s // 30))
    baselines.qps[slots] = np.where(old < 0.0, qps, old + (qps - old) * part)


def _target_us(
    p50: npt.NDArray[np.float64], p95: npt.NDArray[np.float64], s: BaselineSettings
) -> npt.NDArray[np.float64]:
    floor = s.target_floor_ms * 1000.0
    return np.maximum(floor, np.maximum(s.p50_factor * p50, s.p95_factor * p95))


def _quantile_us(units: npt.NDArray[np.float32], q: float) -> npt.NDArray[np.float64]:
    out = np.zeros(len(units), np.float64)
    _quantiles(units, q, _GROUP_EDGES_US, out)
    return out


@kernel
def _quantiles(
    units: npt.NDArray[np.float32],
    q: float,
    edges_us: npt.NDArray[np.float64],
    out: npt.NDArray[np.float64],
) -> None:
    """Linear within a group. A row without units gives 0."""
    for i in range(units.shape[0]):
        total = 0.0
        for g in range(units.shape[1]):
            total += np.float64(units[i, g])
        wanted, below = q * total, 0.0
        for g in range(units.shape[1]):
            here = np.float64(units[i, g])
            if here > 0.0 and below + here >= wanted:
                share = (wanted - below) / here
                out[i] = edges_us[g] + (edges_us[g + 1] - edges_us[g]) * share
                break
            below += here


@kernel
def _feed(
    fresh: npt.NDArray[np.int32],
    requests: npt.NDArray[np.int64],
    first_boundary: npt.NDArray[np.int64],
    last_boundary: npt.NDArray[np.int64],
    target_bin: npt.NDArray[np.int64],
    slot: npt.NDArray[np.int64],
    code: npt.NDArray[np.int64],
    bin_: npt.NDArray[np.int64],
    count: npt.NDArray[np.int64],
    weight: npt.NDArray[np.int64],
    is_learning: npt.NDArray[np.bool_],
    settings: npt.NDArray[np.int64],
    is_failed: npt.NDArray[np.bool_],
    bad_units: int,
    boundary: int,
) -> None:
    for i in range(len(slot)):
        s, c = slot[i], code[i]
        if not is_learning[s] or c & SELF_TIME or (c >> EFFECT_SHIFT) & 7:
            continue
        bad = is_failed[settings[s], c & 7] or (target_bin[s] >= 0 and bin_[i] > target_bin[s])
        units = bad_units if bad else GOOD_UNITS
        fresh[s, bin_[i] // BINS_PER_GROUP] += count[i] * (weight[i] // WEIGHT_ONE) * units
        requests[s] += count[i]
        last_boundary[s] = boundary
        if first_boundary[s] < 0:
            first_boundary[s] = boundary
