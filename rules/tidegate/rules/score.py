"""Score profiles: from signals to a number in thousandths, 1000 is healthy.

A profile is a function in `PROFILES`; its numbers are in the policy. Rounding is half up to whole
thousandths, so that band edges are exact. Only + - x / and comparisons: two CPUs must agree.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tidegate.rules.logs import ln_exact
from tidegate.rules.policy_types import Points, ProfileSettings
from tidegate.schemas.bins import LN_GAMMA

__all__ = ["PROFILES", "Judged", "piecewise", "score", "score_level", "unknown"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class Judged:
    """Signals of m keys that merged requests at this boundary. Shapes (m,)."""

    error_ratio: Floats
    """Weighted, of the judged window."""
    p95_bin: Ints
    """Of not-failed durations in the judged window; -1 without any."""
    target_bin: Ints
    """-1 while no target is known."""
    qps: Floats
    expected_qps: Floats
    """-1: none."""
    is_on_evidence: npt.NDArray[np.bool_]
    window_error_ratio: Floats
    """Of the 30 s window, as the two below."""
    window_requests: Floats
    window_p95_us: Ints
    """Of all durations; -1 without any."""
    usual_p95_us: Ints
    """The baseline's; -1 while it isn't known."""
    usual_qps: Floats
    """The baseline's; -1 while it isn't known."""


def piecewise(x: Floats, points: Points) -> Floats:
    """Linear between points (x ascending), flat beyond them."""
    out = np.full(x.shape, points[0][1], np.float64)
    for (x0, y0), (x1, y1) in pairwise(points):
        inside = x > x0
        out = np.where(inside, y0 + (y1 - y0) * ((x - x0) / (x1 - x0)), out)
        out = np.where(x >= x1, y1, out)
    return out


def reference(judged: Judged, p: ProfileSettings) -> Floats:
    """As published: over the 30 s window, the latency term not bounded, the sum clamped to 0..1.
    NaN (unknown) below 20 requests."""
    r = p.reference
    error = 1.0 - np.minimum(judged.window_error_ratio / r.error_full, 1.0)
    p95_ms = np.maximum(judged.window_p95_us / 1000.0, 1.0)
    latency = r.latency_ms / p95_ms
    traffic = np.minimum(judged.qps / r.qps, 1.0)
    total = r.error_weight * error + r.latency_weight * latency + r.traffic_weight * traffic
    clamped = np.minimum(np.maximum(total, 0.0), 1.0)
    return np.where(judged.window_requests >= r.requests_min, clamped, np.nan)


def guarded(judged: Judged, p: ProfileSettings) -> Floats:
    """Badness counts only on evidence; then the sum and two caps, the least of them."""
    g = p.guarded
    error_ratio = np.where(judged.is_on_evidence, judged.error_ratio, 0.0)
    is_slow = (
        judged.is_on_evidence & (judged.p95_bin > judged.target_bin) & (judged.target_bin >= 0)
    )
    octaves = np.where(is_slow, judged.p95_bin - judged.target_bin, 0) * LN_GAMMA
    # target / p = exp(-octaves), read off a table of exact points: no exp in a decision path.
    latency = np.where(is_slow, 1.0 / _RATIO[np.minimum(_bins(octaves), len(_RATIO) - 1)], 1.0)
    error = 1.0 - np.minimum(error_ratio / g.error_full, 1.0)
    has_expected = judged.expected_qps > 0
    traffic = np.where(
        has_expected,
        np.minimum(judged.qps / np.where(has_expected, judged.expected_qps, 1.0), 1.0),
        1.0,
    )
    total = g.error_weight * error + g.latency_weight * latency + g.traffic_weight * traffic
    error_cap = piecewise(error_ratio, g.error_cap)
    latency_cap = piecewise(octaves, tuple((ln_exact(x), y) for x, y in g.latency_cap))
    return np.minimum(total, np.minimum(error_cap, latency_cap))


def adaptive(judged: Judged, p: ProfileSettings) -> Floats:
    """As published: every key against its own habit, over the 30 s window. NaN (unknown) below 20
    requests. Without a baseline its term is 1: nothing is unusual yet."""
    a = p.adaptive
    error = 1.0 - np.minimum(judged.window_error_ratio / a.error_full, 1.0)
    has_usual = judged.usual_p95_us > 0
    factor = judged.window_p95_us / np.where(has_usual, judged.usual_p95_us, 1)
    slower = (a.latency_zero_factor - factor) / (a.latency_zero_factor - 1.0)
    latency = np.where(has_usual, np.minimum(np.maximum(slower, 0.0), 1.0), 1.0)
    has_rate = judged.usual_qps > 0.0
    away = np.abs(judged.qps / np.where(has_rate, judged.usual_qps, 1.0) - 1.0)
    nearer = (a.traffic_zero - away) / (a.traffic_zero - a.traffic_free)
    traffic = np.where(has_rate, np.minimum(np.maximum(nearer, 0.0), 1.0), 1.0)
    total = a.error_weight * error + a.latency_weight * latency + a.traffic_weight * traffic
    clamped = np.minimum(np.maximum(total, 0.0), 1.0)
    return np.where(judged.window_requests >= a.requests_min, clamped, np.nan)


PROFILES: tuple[Callable[[Judged, ProfileSettings], Floats], ...] = (reference, guarded, adaptive)
"""A new profile is one function here (and its numbers in the policy)."""


def score(judged: Judged, profile: Ints, p: ProfileSettings) -> npt.NDArray[np.int32]:
    """Thousandths by key, -1 where a profile can't say. profile: index into PROFILES, shape (m,)."""
    out = np.full(len(profile), np.nan)
    for number, function in enumerate(PROFILES):
        mine = profile == number
        if mine.any():
            out = np.where(mine, function(judged, p), out)
    known = ~np.isnan(out)
    return np.where(known, np.floor(np.where(known, out, 0.0) * 1000.0 + 0.5), -1).astype(np.int32)


def unknown(scores: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Which scores say nothing: what was before is held."""
    return scores < 0


def score_level(
    scores: npt.NDArray[np.int32], profile: Ints, p: ProfileSettings
) -> npt.NDArray[np.uint8]:
    """Severity by the lower edges of the profile's bands: closed, degraded_1, degraded_2, open,
    forced_open. Unknown scores read as closed; callers hold them. profile: as in `score`."""
    edges = np.array(
        [[round(edge * 1000) for edge in getattr(p, f.__name__).bands] for f in PROFILES]
    )
    place = (scores[:, None] < edges[profile]).sum(axis=1)
    return np.where(scores < 0, np.uint8(0), _SEVERITY[place])


_SEVERITY = np.array([0, 1, 2, 5, 6], np.uint8)
"""Closed, degraded_1, degraded_2, open, forced_open."""


def _bins(octaves: Floats) -> Ints:
    return np.floor(octaves / LN_GAMMA + 0.5).astype(np.int64)


def _powers() -> Floats:
    """Gamma ** i by repeated multiplication: the same everywhere."""
    gamma, out = 1.01 / 0.99, [1.0]
    while len(out) < 1200:
        out.append(out[-1] * gamma)
    return np.array(out)


_RATIO = _powers()
