"""From a stepped boundary to what is published: decisions, tombstones, the lease, health."""

import numpy as np
import numpy.typing as npt

from tidegate.rules import services
from tidegate.rules import window_kernel as kernel
from tidegate.rules.actions import actions_of, backoff_of
from tidegate.rules.judge import WINDOW_SECONDS, JudgedWindow, judged_window, weighted_ratio
from tidegate.rules.level import RULES
from tidegate.rules.outputs import Outputs
from tidegate.rules.partition import Partition, Stepped
from tidegate.rules.reason import reason_of
from tidegate.schemas.bins import BIN_VALUE_NS
from tidegate.schemas.cells import BUCKET_MS, WEIGHT_ONE
from tidegate.schemas.decision import Decision, Lease, Signals
from tidegate.schemas.health import Health
from tidegate.schemas.level import LEVEL_NAMES, Level

__all__ = ["publish"]

Ints = npt.NDArray[np.int64]
P95_EVERY_BOUNDARIES = 10
"""Health shows the P95 of a closed key every 5 s, spread by hash: reading 60,000 sketches at every
boundary costs 50 ms, and no decision needs it."""


def publish(
    state: Partition, stepped: Stepped, boundary: int, *, partition: int, out: Outputs
) -> None:
    """Adds a boundary's outputs. Decisions: on change, at a key's first sight, and for scopes that are
    not closed every `republish_s`, spread by hash of the scope."""
    timing = state.policy.timing
    live, levels = stepped.slots, state.levels.level[stepped.slots]
    turn = (boundary + state.keys.hash[live].astype(np.int64)) % (timing.republish_s * 2) == 0
    due = stepped.changes.changed | ~state.key_state.is_published[live] | (turn & (levels > 0))
    index = np.flatnonzero(due & ~stepped.is_dropped)
    if len(index):
        out.decisions += _decisions(state, stepped, index, boundary, partition)
        state.key_state.is_published[live[index]] = True
    out.tombstones += [(boundary, scope) for scope in stepped.dropped]
    every = timing.lease_every_s * 2
    if (boundary + partition) % every == 0:
        out.leases.append(
            Lease(
                partition=partition,
                boundary=boundary,
                window_end_ms=boundary * BUCKET_MS,
                lease_ms=timing.lease_ms,
            )
        )
    out.health.append(_health(state, stepped, boundary, partition))
    out.counters["shed"] += stepped.shed_count


def _decisions(
    state: Partition, stepped: Stepped, index: Ints, boundary: int, partition: int
) -> list[Decision]:
    slots = stepped.slots[index]
    columns = state.policy.columns
    weights = columns.outcome_weights[state.settings[slots]]
    target_bin, target_ms = state.target_bin(), state.target_ms(slots)
    judged = judged_window(state.windows, slots, weights, target_bin[slots])
    own_ratio = weighted_ratio(judged.counts, weights, own=True)
    self_bins = state.windows.sketches.self_quantile_bins(slots, 950)
    ages = services.age_ms(state.services, state.keys.service_slot[slots])
    callers = state.callers_of(slots)
    out = []
    for i, (place, slot) in enumerate(zip(index.tolist(), slots.tolist(), strict=True)):
        level = Level(int(state.levels.level[slot]))
        settings = state.policy.settings[int(state.settings[slot])]
        score = int(state.key_state.score[slot])
        signals = _signals(
            state,
            judged,
            i,
            slot,
            qps=float(stepped.qps[place]),
            own_ratio=float(own_ratio[i]),
            self_bin=int(self_bins[i]),
            target_ms=int(target_ms[i]),
        )
        rule = int(stepped.changes.rule[place])
        before = LEVEL_NAMES[int(stepped.changes.before[place])]
        until = int(state.levels.until_boundary[slot])
        out.append(
            Decision(
                scope=state.keys.scopes[slot],
                level=LEVEL_NAMES[level],  # type: ignore[arg-type]  # a name of the same closed set
                score=score / 1000 if score >= 0 else None,
                mode=settings.mode,
                actions=actions_of(
                    level,
                    settings=settings,
                    ramp_step=int(state.levels.ramp_step[slot]),
                    slow_over_ms=int(state.levels.slow_over_ms[slot]),
                    is_slow_caused=bool(state.levels.is_slow_caused[slot]),
                    callers=int(callers[i]),
                    remaining_boundaries=until - boundary,
                    jitter=int(state.keys.hash[slot]),
                ),
                reason=reason_of(
                    score=score,
                    signals=signals,
                    rule=RULES[rule],
                    before=before,
                    level=LEVEL_NAMES[level],
                    is_changed=rule > 0,
                ),
                signals=signals,
                exemplars=state.exemplars.trace_ids(slot, boundary),
                window_start_ms=round(boundary * BUCKET_MS - signals.window_s * 1000),
                window_end_ms=boundary * BUCKET_MS,
                since_ms=int(state.levels.since_boundary[slot]) * BUCKET_MS,
                boundary=boundary,
                partition=partition,
                policy=state.policy.label,
                backoff=backoff_of(level, int(state.levels.attempt[slot]), until),
                evidence_age_ms=int(ages[i]),
            )
        )
    return out


def _signals(
    state: Partition,
    judged: JudgedWindow,
    i: int,
    slot: int,
    *,
    qps: float,
    own_ratio: float,
    self_bin: int,
    target_ms: int,
) -> Signals:
    is_edge = bool((state.keys.names[slot] or ("", ""))[1])
    on_sharp, on_mild = bool(state.evidence.on_sharp[slot]), bool(state.evidence.on_mild[slot])
    since = int(state.evidence.since_boundary[slot])
    shed = int(state.windows.window[slot, kernel.SHED_WEIGHT])
    return Signals(
        requests=int(judged.counts[i, : kernel.OUTCOMES].sum()),
        window_s=WINDOW_SECONDS[int(judged.which[i])],
        error_ratio=_thousandths(float(judged.error_ratio[i])),
        own_error_ratio=_thousandths(own_ratio),
        p50_ms=_ms(int(judged.p50_all_bin[i])),
        p95_ms=_ms(int(judged.p95_all_bin[i])),
        self_p95_ms=None if is_edge else _ms(self_bin),
        target_ms=float(target_ms) if target_ms >= 0 else None,
        qps=_thousandths(qps),
        shed=shed // WEIGHT_ONE,
        evidence="sharp" if on_sharp else "mild" if on_mild else "none",
        evidence_since_ms=since * BUCKET_MS if since >= 0 else None,
    )


def _health(state: Partition, stepped: Stepped, boundary: int, partition: int) -> Health:
    live, merged = stepped.slots, stepped.merged
    shown = (stepped.touched | (state.levels.level[live] > 0)) & ~stepped.is_dropped
    slots = live[shown]
    p95 = np.full(len(slots), -1, np.int64)
    turn = (boundary + state.keys.hash[slots].astype(np.int64)) % P95_EVERY_BOUNDARIES == 0
    wanted = np.flatnonzero(turn | (state.levels.level[slots] > 0))
    p95[wanted] = state.windows.sketches.quantile_bins(
        slots[wanted], 950, which=kernel.WINDOW, failed_too=True
    )
    place = np.full(state.keys.capacity, -1, np.int64)
    place[slots] = np.arange(len(slots))
    key = place[merged.slot]
    kept = key >= 0  # cells of `other` have no row
    return Health(
        partition=partition,
        boundary=boundary,
        policy=state.policy.label,
        keys=[state.keys.names[slot] or ("", "") for slot in slots.tolist()],
        score=state.key_state.score[slots],
        level=state.levels.level[slots],
        p95_us=np.where(p95 >= 0, BIN_VALUE_NS[p95] // 1000, -1),
        key=key[kept].astype(np.uint32),
        age=merged.age[kept].astype(np.uint16),
        code=merged.code[kept].astype(np.uint16),
        bin=merged.bin[kept].astype(np.uint16),
        count=merged.count[kept].astype(np.int32),
        weight=merged.weight[kept].astype(np.int32),
    )


def _ms(duration_bin: int) -> float | None:
    return round(int(BIN_VALUE_NS[duration_bin]) / 1e6, 3) if duration_bin >= 0 else None


def _thousandths(value: float) -> float:
    return int(value * 1000.0 + 0.5) / 1000.0
