"""From what was merged to evidence and a score, for every key of a judgement."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tidegate.rules import evidence
from tidegate.rules import window_kernel as kernel
from tidegate.rules.evidence import Increments
from tidegate.rules.judge import JudgedWindow, judged_window, per_second, weighted_ratio
from tidegate.rules.policy import PROFILE_NAMES
from tidegate.rules.ruling import Numbers
from tidegate.rules.score import Judged, score
from tidegate.rules.traffic import Traffic
from tidegate.rules.window import Merged
from tidegate.schemas.bins import BIN_VALUE_NS

if TYPE_CHECKING:
    from tidegate.rules.judgement import Judgement

__all__ = ["count_hollow_as_bad", "increments", "judge", "score_keys", "weigh_evidence"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
_GUARDED = PROFILE_NAMES.index("guarded")


def increments(
    judgement: "Judgement",
    traffic: Traffic,
    merged: Merged,
    live: Ints,
    boundary: int,
    target_bin: Ints,
) -> Floats:
    """What was merged, by live key, shape (k, 10): see `window_kernel.increments`."""
    place = np.full(traffic.keys.capacity, len(live), np.int64)  # a last row for `other`
    place[live] = np.arange(len(live))
    out = np.zeros((len(live) + 1, 10), np.float64)
    kernel.increments(
        merged.slot,
        boundary - 1 - merged.age,
        merged.code,
        merged.bin,
        merged.count,
        merged.weight,
        place,
        judgement.settings,
        judgement.policy.columns.is_failed,
        target_bin,
        judgement.levels.counts_from,
        out,
    )
    return out[:-1]


def count_hollow_as_bad(judgement: "Judgement", live: Ints, found: Floats) -> None:
    """Where the policy says so, all requests of a hollow key are bad."""
    hollow = is_hollow_bad(judgement, live)
    if hollow.any():
        for whole, bad in ((0, 1), (2, 4), (5, 6)):
            found[hollow, bad] = found[hollow, whole]


def is_hollow_bad(judgement: "Judgement", slots: Ints) -> Mask:
    is_bad: Mask = (judgement.findings.hollow_since[slots] >= 0) & (
        judgement.policy.columns.is_hollow_bad[judgement.settings[slots]]
    )
    return is_bad


def weigh_evidence(
    judgement: "Judgement", traffic: Traffic, live: Ints, numbers: Numbers, boundary: int
) -> None:
    """Evidence moves only for keys that merged requests: silence is held."""
    has = numbers.found[:, 0] > 0
    if not has.any():
        return
    slots, mine = live[has], numbers.found[has]
    rules = judgement.policy.evidence
    requests = mine[:, 2] * mine[:, 2] / np.maximum(mine[:, 3], 1.0)
    bad = requests * mine[:, 4] / np.maximum(mine[:, 2], 1.0)
    rate = per_second(numbers.totals.effective[has], numbers.seen[has])
    active = int((numbers.totals.requests > 0).sum())
    h = evidence.threshold(rate, active * judgement.partitions_count, rules)
    increments = Increments(slots, requests, bad, h)
    for rule in evidence.RULES:
        rule(judgement.evidence, increments, rules)
    on = np.flatnonzero(judgement.evidence.on_sharp[slots] | judgement.evidence.on_mild[slots])
    if len(on):
        judged = judge(judgement, traffic, slots[on], numbers.target_bin)
        failed = judgement.policy.columns.is_failed[judgement.settings[slots[on]]]
        bad_share = weighted_ratio(judged.counts, failed.astype(np.float64))
        bad_share = np.where(is_hollow_bad(judgement, slots[on]), 1.0, bad_share)
        evidence.settle(
            judgement.evidence,
            Increments(slots[on], requests[on], bad[on], h[on]),
            judged.requests,
            bad_share * judged.requests + judged.slow,
            rules,
            boundary,
        )


def judge(
    judgement: "Judgement",
    traffic: Traffic,
    slots: Ints,
    target_bin: Ints,
    *,
    may_be_fast: bool = True,
    which: npt.NDArray[np.int8] | None = None,
) -> JudgedWindow:
    """The judged windows of these slots, by the policy's weights; or the windows that are asked for."""
    return judged_window(
        traffic.windows,
        slots,
        judgement.policy.columns.outcome_weights[judgement.settings[slots]],
        target_bin[slots],
        requests_min=judgement.policy.evidence.judged_requests_min,
        may_be_fast=may_be_fast,
        which=which,
    )


def score_keys(judgement: "Judgement", traffic: Traffic, live: Ints, numbers: Numbers) -> None:
    """Scores of keys that merged requests, -1 where a profile can't tell from so few. Quantiles are looked up
    only where they can matter."""
    has = numbers.found[:, 0] > 0
    slots = live[has]
    if not len(slots):
        return
    columns, settings = judgement.policy.columns, judgement.settings[slots]
    on_sharp, on_mild = judgement.evidence.on_sharp[slots], judgement.evidence.on_mild[slots]
    matters = on_sharp | on_mild | (columns.profile[settings] != _GUARDED)
    index = np.flatnonzero(matters)
    zeros, none = np.zeros(len(slots)), np.full(len(slots), -1, np.int64)
    table = Judged(
        error_ratio=zeros.copy(),
        p95_bin=none.copy(),
        target_bin=numbers.target_bin[slots],
        qps=numbers.qps[has],
        expected_qps=columns.expected_qps[settings],
        is_on_evidence=on_sharp | on_mild,
        window_error_ratio=zeros.copy(),
        window_requests=zeros.copy(),
        window_p95_us=none.copy(),
        usual_p95_us=judgement.baselines.p95_us[slots],
        usual_qps=judgement.baselines.qps[slots],
    )
    if len(index):
        chosen = slots[index]
        judged = numbers.judged = judge(judgement, traffic, chosen, numbers.target_bin)
        hollow = is_hollow_bad(judgement, chosen)
        table.error_ratio[index] = np.where(hollow, 1.0, judged.error_ratio)
        table.p95_bin[index] = judged.p95_bin
        ratio = weighted_ratio(
            traffic.windows.window[chosen], columns.outcome_weights[judgement.settings[chosen]]
        )
        table.window_error_ratio[index] = np.where(hollow, 1.0, ratio)
        table.window_requests[index] = numbers.totals.effective[has][index]
        p95 = traffic.windows.sketches.quantile_bins(
            chosen, 950, which=kernel.WINDOW, failed_too=True
        )
        table.window_p95_us[index] = np.where(p95 >= 0, BIN_VALUE_NS[p95] // 1000, -1)
    standing = judgement.standing
    for share in (standing.error, standing.own_error, standing.slow):
        share[slots] = 0
    if len(index):
        on = on_sharp[index] | on_mild[index]
        weights = columns.outcome_weights[judgement.settings[judged.slots]]
        for share, value in (
            (standing.error, judged.error_ratio),
            (standing.own_error, weighted_ratio(judged.counts, weights, own=True)),
            (standing.slow, judged.slow / np.maximum(judged.requests, 1.0)),
        ):
            share[judged.slots] = np.where(on, value * 1000.0 + 0.5, 0.0).astype(np.int16)
    standing.score[slots] = score(table, columns.profile[settings], judgement.policy.profiles)
