"""Loops over cells. Every one adds integers at places given by the cell, so order never matters.

Measured cost is in `docs/benchmarks.md` (boundary step); cells come sorted by slot within a bucket, so
that a key's rows stay in the cache.
"""

import numpy as np
import numpy.typing as npt

from tidegate.schemas.cells import (
    EFFECT_SHIFT,
    HAS_CALLS,
    HAS_PARENT,
    INHERITED,
    OUTCOME_MASK,
    SELF_TIME,
)
from tidegate.schemas.compiling import kernel
from tidegate.schemas.outcome import FAILED_OUTCOMES, Effect, Outcome

__all__ = [
    "ADMITTED_WEIGHT_SQUARED",
    "COUNTS",
    "CUT",
    "FALLBACK",
    "FAST",
    "INHERITED_BY_OUTCOME",
    "OUTCOMES",
    "PROBES",
    "PROBES_BAD",
    "SHED_WEIGHT",
    "SKETCH_UNIT",
    "WEIGHT_BY_OUTCOME",
    "WINDOW",
    "add_counts",
    "add_self_times",
    "add_sketch",
    "bin_above",
    "gather_sketch",
    "increments",
    "quantile_bins",
    "summaries",
]

OUTCOMES = len(Outcome)
# Columns of a count vector (int64), own effects kept apart:
WEIGHT_BY_OUTCOME = OUTCOMES
"""0..5 requests by outcome, 6..11 the same as adjusted counts (64 = 1)."""
ADMITTED_WEIGHT_SQUARED = 2 * OUTCOMES
"""Sum of squared adjusted counts, for the effective sample size."""
INHERITED_BY_OUTCOME = 2 * OUTCOMES + 1
"""Adjusted counts of inherited failures, by outcome (6 columns)."""
SHED_WEIGHT = 3 * OUTCOMES + 1
"""Adjusted count of what clients turned away (shed, fallback)."""
CUT = SHED_WEIGHT + 1
FALLBACK = SHED_WEIGHT + 2
PROBES = SHED_WEIGHT + 3
PROBES_BAD = SHED_WEIGHT + 4
COUNTS = SHED_WEIGHT + 5

WINDOW, FAST = 0, 1
"""Planes of a sketch row."""
SKETCH_UNIT = 4
"""A sketch counts quarters of a request: adjusted counts are seldom whole."""
_UNIT_SHIFT = 4
"""Weight 64 makes 4 units; shifted before it is multiplied, so that it doesn't matter how cells were
added up before."""

_FAILED = np.array([outcome in FAILED_OUTCOMES for outcome in Outcome] + [False] * 2)
_SHED, _CUT, _FALLBACK, _PROBE = (
    int(Effect.SHED),
    int(Effect.CUT),
    int(Effect.FALLBACK),
    int(Effect.PROBE),
)

Ints = npt.NDArray[np.int64]
Counts32 = npt.NDArray[np.int32]
Small = npt.NDArray[np.uint16]


@kernel
def add_counts(
    sums: Ints, slot: Counts32, code: Small, count: Counts32, weight: Counts32, sign: int
) -> None:
    """Sums (capacity, COUNTS) += sign x cells (n)."""
    for i in range(len(slot)):
        c = np.int64(code[i])
        if c & SELF_TIME:
            continue
        s, n, w = slot[i], sign * np.int64(count[i]), np.int64(weight[i])
        outcome = c & OUTCOME_MASK
        effect = (c >> EFFECT_SHIFT) & 7
        if effect == 0:
            sums[s, outcome] += n
            sums[s, WEIGHT_BY_OUTCOME + outcome] += n * w
            sums[s, ADMITTED_WEIGHT_SQUARED] += n * w * w
            # Beside HAS_PARENT the bit is about the request around a call: no call inherits.
            if c & (INHERITED | HAS_PARENT) == INHERITED:
                sums[s, INHERITED_BY_OUTCOME + outcome] += n * w
        elif effect == _SHED:
            sums[s, SHED_WEIGHT] += n * w
        elif effect == _FALLBACK:
            sums[s, SHED_WEIGHT] += n * w
            sums[s, FALLBACK] += n
        elif effect == _CUT:
            sums[s, CUT] += n
        elif effect == _PROBE:
            sums[s, PROBES] += n
            if _FAILED[outcome]:
                sums[s, PROBES_BAD] += n


@kernel
def summaries(sums: Ints, slots: Ints, out: Ints) -> None:
    """Fills out (m, 4): requests, adjusted count, squared adjusted counts, adjusted count shed, by slot."""
    for i in range(len(slots)):
        row = sums[slots[i]]
        requests, weight = np.int64(0), np.int64(0)
        for k in range(OUTCOMES):
            requests += row[k]
            weight += row[WEIGHT_BY_OUTCOME + k]
        out[i, 0] = requests
        out[i, 1] = weight
        out[i, 2] = row[ADMITTED_WEIGHT_SQUARED]
        out[i, 3] = row[SHED_WEIGHT]


@kernel
def add_sketch(
    counts: Counts32,
    which: int,
    ok_row: Ints,
    failed_row: Ints,
    self_row: Ints,
    slot: Counts32,
    code: Small,
    bin_: Small,
    count: Counts32,
    weight: Counts32,
    sign: int,
) -> None:
    """Counts (rows, 2 planes, bins) += sign x cells, in sketch units. Own effects stay out."""
    for i in range(len(slot)):
        c = np.int64(code[i])
        if (c >> EFFECT_SHIFT) & 7:
            continue
        s, b = slot[i], bin_[i]
        units = sign * np.int64(count[i]) * (np.int64(weight[i]) >> _UNIT_SHIFT)
        is_self = (c & SELF_TIME) != 0
        if not is_self:
            if _FAILED[c & OUTCOME_MASK]:
                counts[failed_row[s], which, b] += units
            else:
                counts[ok_row[s], which, b] += units
        if which == WINDOW and self_row[s] >= 0 and (is_self or (c & HAS_CALLS) == 0):
            counts[self_row[s], which, b] += units


@kernel
def add_self_times(
    counts: Counts32,
    self_row: Ints,
    slot: Counts32,
    code: Small,
    bin_: Small,
    count: Counts32,
    weight: Counts32,
) -> None:
    """The self times among these cells, into the WINDOW plane of the slots that have a row in self_row."""
    for i in range(len(slot)):
        c = np.int64(code[i])
        row = self_row[slot[i]]
        if row < 0 or (c >> EFFECT_SHIFT) & 7:
            continue
        if (c & SELF_TIME) != 0 or (c & HAS_CALLS) == 0:
            counts[row, WINDOW, bin_[i]] += np.int64(count[i]) * (
                np.int64(weight[i]) >> _UNIT_SHIFT
            )


@kernel
def gather_sketch(
    out: Ints,
    place: Ints,
    slot: Counts32,
    code: Small,
    bin_: Small,
    count: Counts32,
    weight: Counts32,
) -> None:
    """Out (m, 2, bins) += cells of slots with place[slot] >= 0."""
    for i in range(len(slot)):
        p = place[slot[i]]
        c = np.int64(code[i])
        if p < 0 or c & SELF_TIME or (c >> EFFECT_SHIFT) & 7:
            continue
        failed = 1 if _FAILED[c & OUTCOME_MASK] else 0
        out[p, failed, bin_[i]] += np.int64(count[i]) * (np.int64(weight[i]) >> _UNIT_SHIFT)


@kernel
def quantile_bins(
    counts: Counts32, which: int, first_row: Ints, second_row: Ints, per_mille: int, out: Counts32
) -> None:
    """out[i] = bin of the quantile of rows first_row[i] and second_row[i] taken together (-1: no such
    row), or -1 where they are empty. The smallest bin whose cumulative count reaches ceil(q x total)."""
    bins = counts.shape[2]
    for i in range(len(out)):
        a, b = first_row[i], second_row[i]
        total = np.int64(0)
        for k in range(bins):
            if a >= 0:
                total += counts[a, which, k]
            if b >= 0:
                total += counts[b, which, k]
        out[i] = -1
        if total <= 0:
            continue
        # From the top: more than (1 - q) of the total must lie at or above the bin.
        above_max = total - (total * per_mille + 999) // 1000
        above = np.int64(0)
        k = bins - 1
        while k >= 0:
            if a >= 0:
                above += counts[a, which, k]
            if b >= 0:
                above += counts[b, which, k]
            if above > above_max:
                out[i] = k
                break
            k -= 1


@kernel
def bin_above(counts: Counts32, which: int, row: Ints, threshold_bin: Ints, out: Ints) -> None:
    """out[i] = units in row[i] beyond threshold_bin[i]; 0 without row or threshold (-1)."""
    bins = counts.shape[2]
    for i in range(len(row)):
        out[i] = 0
        if row[i] >= 0 and threshold_bin[i] >= 0:
            for k in range(threshold_bin[i] + 1, bins):
                out[i] += counts[row[i], which, k]


@kernel
def increments(
    slot: Ints,
    bucket: Ints,
    code: Ints,
    bin_: Ints,
    count: Ints,
    weight: Ints,
    place: Ints,
    settings: Ints,
    is_failed: npt.NDArray[np.bool_],
    target_bin: Ints,
    since: Ints,
    out: npt.NDArray[np.float64],
) -> None:
    """What a boundary merged, per key. out (m, 10) at row place[slot]: requests, bad, their adjusted
    counts, squared adjusted counts, adjusted bad; requests and bad in buckets from `since` on; probes
    and bad probes from `since` on; requests and probes of any age are 0 and 9.

    is_failed (settings, 8): whether an outcome weighs at least 0.5 under the key's policy.
    target_bin, since: by slot (-1: nothing is slow).
    """
    for i in range(len(slot)):
        c = code[i]
        if c & SELF_TIME:
            continue
        s = slot[i]
        row = place[s]
        effect = (c >> EFFECT_SHIFT) & 7
        n = np.float64(count[i])
        bad = is_failed[settings[s], c & OUTCOME_MASK] or (
            target_bin[s] >= 0 and bin_[i] > target_bin[s]
        )
        if effect == 0:
            w = np.float64(weight[i])
            out[row, 0] += n
            out[row, 2] += n * w
            out[row, 3] += n * w * w
            if bad:
                out[row, 1] += n
                out[row, 4] += n * w
            if bucket[i] >= since[s]:
                out[row, 5] += n
                if bad:
                    out[row, 6] += n
        elif effect == _PROBE:
            out[row, 9] += n
            if bucket[i] >= since[s]:
                out[row, 7] += n
                if bad:
                    out[row, 8] += n
