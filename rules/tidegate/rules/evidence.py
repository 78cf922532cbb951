"""When badness counts: a Bernoulli CUSUM per key (`sequential`), sharp and mild.

S = max(0, S + K ln(p1/p0) + (n - K) ln((1-p1)/(1-p0))) over the n requests and K bad ones merged at each
boundary (Page 1954; for Bernoulli data Reynolds & Stoumbos 1999). It needs no minimum of requests and
works from one call in ten seconds to thousands a second. `RULES` is the seam for other rules.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import gcd, isqrt
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from tidegate.rules.logs import half_life_factor, ln, ln_exact
from tidegate.rules.policy import EvidenceSettings
from tidegate.rules.state_columns import StateColumns

__all__ = [
    "RULES",
    "Evidence",
    "Increments",
    "few_bad_max",
    "is_evident",
    "learn",
    "settle",
    "threshold",
]

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class Evidence(StateColumns):
    """Per slot: both sums, whether on evidence and since which boundary, and the learned share p0."""

    spec: ClassVar[dict[str, tuple[type, float, int]]] = {
        "sharp_sum": (np.float64, 0.0, 0),
        "mild_sum": (np.float64, 0.0, 0),
        "on_sharp": (np.bool_, 0, 0),
        "on_mild": (np.bool_, 0, 0),
        "since_boundary": (np.int64, -1, 0),
        "threshold": (np.float64, 0.0, 0),
        "p0_requests": (np.float64, 0.0, 0),
        "p0_bad": (np.float64, 0.0, 0),
    }
    sharp_sum: Floats
    mild_sum: Floats
    on_sharp: Mask
    on_mild: Mask
    since_boundary: npt.NDArray[np.int64]
    threshold: Floats
    """h when requests were last weighed."""
    p0_requests: Floats
    p0_bad: Floats

    def clear(self, slots: npt.NDArray[np.int64]) -> None:
        """Starts from nothing (a level came back to closed): the learned share stays."""
        self.sharp_sum[slots] = 0.0
        self.mild_sum[slots] = 0.0
        self.on_sharp[slots] = False
        self.on_mild[slots] = False
        self.since_boundary[slots] = -1


@dataclass(slots=True)
class Increments:
    """What a boundary merged for m keys, as effective sample sizes (see `effective`)."""

    slots: npt.NDArray[np.int64]
    requests: Floats
    bad: Floats
    threshold: Floats
    """h of each key."""


def threshold(requests_per_s: Floats, active_keys: int, s: EvidenceSettings) -> Floats:
    """H = ln(requests in 30 days at this rate), at least ln 1000, plus ln(active keys / 100) where that
    is positive: about one false onset a month for the whole installation. Shape (m,)."""
    seconds = s.false_alarm_days * 86_400
    h = ln(np.maximum(requests_per_s * seconds, float(s.requests_min)))
    return h + ln_exact(active_keys / s.keys_free) if active_keys > s.keys_free else h


def learned_share(evidence: Evidence, slots: npt.NDArray[np.int64], s: EvidenceSettings) -> Floats:
    """p0: the key's own share of bad requests, within p0_min..p0_max; before it has any, p0_min."""
    requests = evidence.p0_requests[slots] + s.p0_prior_requests
    bad = evidence.p0_bad[slots] + s.p0_prior_requests * s.p0_min
    return np.minimum(np.maximum(bad / requests, s.p0_min), s.p0_max)


def sequential(evidence: Evidence, seen: Increments, s: EvidenceSettings) -> None:
    """One boundary of both CUSUMs; starts evidence where a sum passes its threshold."""
    slots, n, bad = seen.slots, seen.requests, seen.bad
    evidence.threshold[slots] = seen.threshold
    p0 = learned_share(evidence, slots, s)
    for total, on, p1_min, factor, h in (
        (evidence.sharp_sum, evidence.on_sharp, s.sharp_p1_min, s.sharp_factor, seen.threshold),
        (
            evidence.mild_sum,
            evidence.on_mild,
            s.mild_p1_min,
            s.mild_factor,
            seen.threshold + ln_exact(s.mild_rarer),
        ),
    ):
        p1 = np.maximum(p1_min, factor * p0)
        rise = ln(p1 / p0)
        fall = ln((1.0 - p0) / (1.0 - p1))
        moved = np.maximum(0.0, total[slots] + bad * rise - (n - bad) * fall)
        total[slots] = np.minimum(moved, s.cap_factor * h)
        on[slots] |= total[slots] > h


def is_evident(
    evidence: Evidence,
    slots: npt.NDArray[np.int64],
    requests: Floats,
    bad: Floats,
    s: EvidenceSettings,
) -> Mask:
    """Whether these requests alone are sharp evidence: their likelihood ratio is above h. Shapes (m,)."""
    p0 = learned_share(evidence, slots, s)
    p1 = np.maximum(s.sharp_p1_min, s.sharp_factor * p0)
    ratio = bad * ln(p1 / p0) - (requests - bad) * ln((1.0 - p0) / (1.0 - p1))
    evident: Mask = ratio > evidence.threshold[slots]
    return evident


RULES: tuple[Callable[[Evidence, Increments, EvidenceSettings], None], ...] = (sequential,)
"""Every rule that can put a key on evidence, by name of the function."""


def settle(
    evidence: Evidence,
    seen: Increments,
    judged_requests: Floats,
    judged_bad: Floats,
    s: EvidenceSettings,
    boundary: int,
) -> None:
    """Ends evidence where the sum fell below 0.3 h, or where the judged window holds so few bad requests
    that a true share of 0.3 (mild: 0.1) would hardly give them; and keeps since when it is on."""
    slots = seen.slots
    enough = judged_requests >= s.end_requests_min
    for total, on, share, extra in (
        (evidence.sharp_sum, evidence.on_sharp, s.sharp_end_share, 0.0),
        (evidence.mild_sum, evidence.on_mild, s.mild_end_share, ln_exact(s.mild_rarer)),
    ):
        faded = total[slots] < s.end_factor * (seen.threshold + extra)
        refuted = enough & (judged_bad <= few_bad_max(judged_requests, share, s.end_probability))
        ends = on[slots] & (faded | refuted)
        total[slots[ends]] = 0.0
        on[slots[ends]] = False
    is_on = evidence.on_sharp[slots] | evidence.on_mild[slots]
    since = evidence.since_boundary[slots]
    evidence.since_boundary[slots] = np.where(is_on, np.where(since < 0, boundary, since), -1)


def learn(evidence: Evidence, slots: npt.NDArray[np.int64], requests: Floats, bad: Floats) -> None:
    """Adds closed time without evidence to the learned share."""
    evidence.p0_requests[slots] += requests
    evidence.p0_bad[slots] += bad


def forget(evidence: Evidence, slots: npt.NDArray[np.int64], s: EvidenceSettings) -> None:
    """One tick (30 s) of the learned share's half-life, for keys whose turn it is."""
    factor = half_life_factor(max(1, s.p0_half_life_s // 30))
    evidence.p0_requests[slots] *= factor
    evidence.p0_bad[slots] *= factor


_EXACT_MAX = 256


@cache
def _few_bad_table(share_per_mille: int, probability_per_million: int) -> npt.NDArray[np.float64]:
    """For n = 0.._EXACT_MAX: the largest k with P(Bin(n, share) <= k) < probability, by exact integers."""
    shared = gcd(share_per_mille, 1000)
    hit, miss, whole = share_per_mille // shared, (1000 - share_per_mille) // shared, 1000 // shared
    out = np.full(_EXACT_MAX + 1, -1.0)
    for n in range(1, _EXACT_MAX + 1):
        limit = probability_per_million * whole**n
        term, below, k = miss**n, 0, 0  # term: P(k) x whole^n, an integer
        while (below + term) * 1_000_000 < limit:
            below += term
            term = term * (n - k) * hit // ((k + 1) * miss)
            k += 1
        out[n] = k - 1
    return out


def few_bad_max(requests: Floats, share: float, probability: float) -> Floats:
    """So few bad ones are improbable under a true share. Shape (m,); beyond 256 requests by the normal
    approximation, with a margin that keeps evidence rather than ends it."""
    per_mille, per_million = round(share * 1000), round(probability * 1e6)
    table = _few_bad_table(per_mille, per_million)
    exact = table[np.minimum(requests, _EXACT_MAX).astype(np.int64)]
    z = isqrt(round(10.0 * 1e12)) / 1e6  # 3.16 standard deviations: P = 0.0008
    wide = np.floor(requests * share - z * np.sqrt(requests * share * (1.0 - share)) - 1.0)
    return np.where(requests > _EXACT_MAX, wide, exact)
