"""From a stepped boundary to what is published: decisions, tombstones, the lease, health, the shadow."""

import numpy as np
import numpy.typing as npt

from tidegate.rules import window_kernel as kernel
from tidegate.rules.alert_outputs import alerts_of
from tidegate.rules.decisions import Asking, decisions_of
from tidegate.rules.judgement import Judgement
from tidegate.rules.outputs import Outputs
from tidegate.rules.partition import Partition, Stepped
from tidegate.schemas.bins import BIN_VALUE_NS
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.decision import Lease
from tidegate.schemas.health import Health

__all__ = ["publish"]

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
P95_EVERY_BOUNDARIES = 10
"""Health shows the P95 of a closed key every 5 s, spread by hash: reading 60,000 sketches at every
boundary costs 50 ms, and no decision needs it."""


def publish(
    state: Partition, stepped: Stepped, boundary: int, *, partition: int, out: Outputs
) -> None:
    """Adds a boundary's outputs. Decisions: on change, at a key's first sight, and for scopes that are
    not closed every `republish_s`, spread by hash of the scope; after a change of policy those that are
    closed wait for their turn, too."""
    timing = state.policy.timing
    live = stepped.slots
    is_turn = state.traffic.keys.is_turn(live, boundary, timing.republish_s * 2)
    is_turn &= ~stepped.is_dropped
    asking = Asking(state, stepped, boundary, partition)
    tried = state.candidate
    mine = ~stepped.is_candidates
    due = _due(state.judgement, stepped, stepped.ruling.is_changed, is_turn, asking.is_overridden)
    rows = np.flatnonzero(due & mine)
    out.decisions += decisions_of(asking, state.judgement, stepped.ruling, rows)
    if tried is not None and stepped.tried is not None:
        due = _due(
            tried.judgement, stepped, stepped.tried.is_changed, is_turn, asking.is_overridden
        )
        due |= is_turn & (tried.judgement.standing.differs[live] != 0)
        is_new = boundary == tried.since_boundary
        chosen = np.flatnonzero(stepped.is_candidates & (due | is_new) & ~stepped.is_dropped)
        out.decisions += decisions_of(asking, tried.judgement, stepped.tried, chosen)
        shown = stepped.tried.is_changed | (is_turn & (tried.judgement.levels.level[live] > 0))
        rows = np.flatnonzero(shown & ~stepped.is_dropped)
        out.shadow += decisions_of(asking, tried.judgement, stepped.tried, rows, is_shadow=True)
        for judgement in (state.judgement, tried.judgement):
            judgement.standing.is_published[live[chosen]] = True
    out.decisions.sort(key=lambda decision: (decision.boundary, decision.scope))
    out.alerts += alerts_of(asking)
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
    out.applied += [(boundary, due) for due in stepped.applied]
    out.counters["shed"] += stepped.shed_count


def _due(
    judgement: Judgement, stepped: Stepped, is_changed: Mask, is_turn: Mask, is_overridden: Mask
) -> Mask:
    standing, live = judgement.standing, stepped.slots
    is_shut = (judgement.levels.level[live] > 0) | is_overridden
    relabelled = standing.is_relabelled[live]
    due: Mask = (
        is_changed
        | stepped.is_overridden_anew
        | ~standing.is_published[live]
        | (is_turn & (is_shut | relabelled))
        | (relabelled & is_shut)
    ) & ~stepped.is_dropped
    standing.is_published[live[due]] = True
    standing.is_relabelled[live[due]] = False
    return due


def _health(state: Partition, stepped: Stepped, boundary: int, partition: int) -> Health:
    traffic, judgement = state.traffic, state.judgement
    live, merged = stepped.slots, stepped.merged
    levels = judgement.levels.level
    shown = (stepped.touched | (levels[live] > 0)) & ~stepped.is_dropped
    slots = live[shown]
    p95 = np.full(len(slots), -1, np.int64)
    turn = traffic.keys.is_turn(slots, boundary, P95_EVERY_BOUNDARIES)
    wanted = np.flatnonzero(turn | (levels[slots] > 0))
    p95[wanted] = traffic.windows.sketches.quantile_bins(
        slots[wanted], 950, which=kernel.WINDOW, failed_too=True
    )
    place = np.full(traffic.keys.capacity, -1, np.int64)
    place[slots] = np.arange(len(slots))
    key = place[merged.slot]
    kept = key >= 0  # cells of `other` have no row
    return Health(
        partition=partition,
        boundary=boundary,
        policy=state.policy.label,
        keys=[traffic.keys.names[slot] or ("", "") for slot in slots.tolist()],
        score=judgement.standing.score[slots],
        level=levels[slots],
        findings=_findings(judgement, slots),
        p95_us=np.where(p95 >= 0, BIN_VALUE_NS[p95] // 1000, -1),
        key=key[kept].astype(np.uint32),
        age=merged.age[kept].astype(np.uint16),
        code=merged.code[kept].astype(np.uint16),
        bin=merged.bin[kept].astype(np.uint16),
        count=merged.count[kept].astype(np.int32),
        weight=merged.weight[kept].astype(np.int32),
    )


def _findings(judgement: Judgement, slots: Ints) -> npt.NDArray[np.uint8]:
    f = judgement.findings
    bits = np.zeros(len(slots), np.uint8)
    for number, since in enumerate((f.chronic_since, f.drift_since, f.hollow_since)):
        bits[since[slots] >= 0] |= np.uint8(1 << number)
    return bits
