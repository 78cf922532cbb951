"""From a stepped boundary to its health: what was merged, and what is known of every key that counts."""

import numpy as np
import numpy.typing as npt

from tidegate.rules import hardness
from tidegate.rules import window_kernel as kernel
from tidegate.rules.partition import Partition, Stepped
from tidegate.schemas.bins import BIN_VALUE_NS
from tidegate.schemas.health import (
    IN_L3,
    IN_L4,
    IS_ANSWERED,
    IS_STALLED,
    ON_EVIDENCE,
    Health,
)
from tidegate.schemas.outcome import Outcome
from tidegate.schemas.scope import key_of_scope

__all__ = ["health_of"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
QUANTILES_EVERY_BOUNDARIES = 10
"""Quantiles of a closed key are shown every 5 s, spread by hash: reading 60,000 sketches at every
boundary costs 50 ms, and no decision needs it."""
_HARD_CALLS_MIN = 5
"""Of fewer failed calls nobody can say what they do to requests."""


def health_of(state: Partition, stepped: Stepped, boundary: int, partition: int) -> Health:
    """Of the keys that merged something or aren't closed."""
    traffic, judgement = state.traffic, state.judgement
    live, merged = stepped.slots, stepped.merged
    levels = judgement.levels.level
    shown = (stepped.touched | (levels[live] > 0)) & ~stepped.is_dropped
    rows = np.flatnonzero(shown)
    slots = live[rows]
    place = np.full(traffic.keys.capacity, -1, np.int64)
    place[slots] = np.arange(len(slots))
    key = place[merged.slot]
    kept = key >= 0  # cells of `other` have no row
    turn = traffic.keys.is_turn(slots, boundary, QUANTILES_EVERY_BOUNDARIES)
    wanted = np.flatnonzero(turn | (levels[slots] > 0))
    not_closed = np.flatnonzero(levels[slots] > 0).tolist()
    return Health(
        partition=partition,
        boundary=boundary,
        policy=state.policy.label,
        keys=[traffic.keys.names[slot] or ("", "") for slot in slots.tolist()],
        score=judgement.standing.score[slots],
        level=levels[slots],
        findings=_findings(state, slots),
        p95_us=_quantile_us(state, slots, wanted, 950),
        key=key[kept].astype(np.uint32),
        age=merged.age[kept].astype(np.uint16),
        code=merged.code[kept].astype(np.uint16),
        bin=merged.bin[kept].astype(np.uint16),
        count=merged.count[kept].astype(np.int32),
        weight=merged.weight[kept].astype(np.int32),
        numbers=_numbers(state, stepped, rows, wanted),
        partitions=state.partitions_count,
        exemplars={
            number: traces
            for number in not_closed
            if (traces := traffic.exemplars.trace_ids(int(slots[number]), boundary))
        },
        facts=stepped.facts,
        loops=stepped.loops,
        ended=sorted(key_of_scope(scope) for scope in stepped.dropped),
    )


def _numbers(
    state: Partition, stepped: Stepped, rows: Ints, wanted: Ints
) -> dict[str, npt.NDArray[np.generic]]:
    """The columns of `schemas.health.NUMBERS`. wanted: rows of the keys whose quantiles are looked up."""
    traffic, judgement, numbers = state.traffic, state.judgement, stepped.ruling.numbers
    slots, totals = stepped.slots[rows], numbers.totals
    on = judgement.evidence.on_sharp[slots] | judgement.evidence.on_mild[slots]
    standing = judgement.standing
    timeouts = traffic.windows.window[slots, kernel.WEIGHT_BY_OUTCOME + Outcome.TIMEOUT]
    usual = judgement.baselines.qps[slots]
    hard = np.full(len(slots), -1.0)
    told = np.flatnonzero(traffic.hardness.calls[slots] >= _HARD_CALLS_MIN)
    hard[told] = hardness.lower_bound(traffic.hardness, slots[told])
    return {
        "since": judgement.levels.since_boundary[slots],
        "requests": totals.requests[rows],
        "qps": _thousandths(numbers.qps[rows]),
        "usual_qps": np.where(usual < 0, -1, _thousandths(usual)),
        "error": standing.error[slots],
        "own_error": standing.own_error[slots],
        "slow": standing.slow[slots],
        "timeout": _thousandths(timeouts / np.maximum(totals.weight[rows], 1.0)),
        "p99_us": _quantile_us(state, slots, wanted, 990),
        "target_ms": judgement.target_ms(slots),
        "hard": np.where(hard < 0, -1, _thousandths(hard)),
        "marks": _marks(state, slots, on),
    }


def _marks(state: Partition, slots: Ints, on: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint16]:
    incidents = state.judgement.alarms.incidents
    is_l3 = incidents.l3_since[slots] >= 0
    marks = np.zeros(len(slots), np.uint16)
    for bit, is_set in (
        (ON_EVIDENCE, on),
        (IN_L3, is_l3),
        (IS_STALLED, is_l3 & ~incidents.l3_is_timing_out[slots]),
        (IN_L4, incidents.l4_since[slots] >= 0),
        (IS_ANSWERED, state.is_answered(slots)),
    ):
        marks[is_set] |= np.uint16(bit)
    return marks


def _quantile_us(state: Partition, slots: Ints, wanted: Ints, thousandths: int) -> Ints:
    """Of all durations in the 30 s window; -1 where unknown or not wanted."""
    bins = np.full(len(slots), -1, np.int64)
    bins[wanted] = state.traffic.windows.sketches.quantile_bins(
        slots[wanted], thousandths, which=kernel.WINDOW, failed_too=True
    )
    return np.where(bins >= 0, BIN_VALUE_NS[bins] // 1000, -1)


def _findings(state: Partition, slots: Ints) -> npt.NDArray[np.uint8]:
    f = state.judgement.findings
    bits = np.zeros(len(slots), np.uint8)
    for number, since in enumerate((f.chronic_since, f.drift_since, f.hollow_since)):
        bits[since[slots] >= 0] |= np.uint8(1 << number)
    return bits


def _thousandths(values: Floats) -> Ints:
    whole: Ints = (values * 1000.0 + 0.5).astype(np.int64)
    return whole
