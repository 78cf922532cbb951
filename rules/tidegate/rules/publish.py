"""From a stepped boundary to what is published: decisions, tombstones, the lease, health, the shadow."""

import numpy as np
import numpy.typing as npt

from tidegate.rules.alert_outputs import alerts_of
from tidegate.rules.decisions import Asking, decisions_of
from tidegate.rules.health_of import health_of
from tidegate.rules.judgement import Judgement
from tidegate.rules.outputs import Outputs
from tidegate.rules.partition import Partition, Stepped
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.decision import Lease

__all__ = ["publish"]

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def publish(
    state: Partition, stepped: Stepped, boundary: int, *, partition: int, out: Outputs
) -> None:
    """Adds a boundary's outputs. Decisions: on change, at a key's first sight, and for scopes that are
    not closed every `republish_s`, spread by hash of the scope; after a change of policy those that are
    closed wait for their turn, too."""
    timing = state.policy.timing
    live = stepped.slots
    is_turn = state.traffic.keys.is_turn(live, boundary, timing.republish_s * 2)
    hidden = state.is_hidden(live)
    ended = np.flatnonzero(
        hidden & state.judgement.standing.is_published[live] & ~stepped.is_dropped
    )
    unseen = stepped.is_dropped | hidden
    is_turn &= ~unseen
    asking = Asking(state, stepped, boundary, partition)
    tried = state.candidate
    mine = ~stepped.is_candidates
    due = _due(state.judgement, stepped, stepped.ruling.is_changed, is_turn, asking, unseen)
    rows = np.flatnonzero(due & mine)
    out.decisions += decisions_of(asking, state.judgement, stepped.ruling, rows)
    if tried is not None and stepped.tried is not None:
        due = _due(tried.judgement, stepped, stepped.tried.is_changed, is_turn, asking, unseen)
        due |= is_turn & (tried.judgement.standing.differs[live] != 0)
        is_new = boundary == tried.since_boundary
        chosen = np.flatnonzero(stepped.is_candidates & (due | is_new) & ~unseen)
        out.decisions += decisions_of(asking, tried.judgement, stepped.tried, chosen)
        shown = stepped.tried.is_changed | (is_turn & (tried.judgement.levels.level[live] > 0))
        rows = np.flatnonzero(shown & ~unseen)
        out.shadow += decisions_of(asking, tried.judgement, stepped.tried, rows, is_shadow=True)
        for judgement in (state.judgement, tried.judgement):
            judgement.standing.is_published[live[chosen]] = True
    out.decisions.sort(key=lambda decision: (decision.boundary, decision.scope))
    out.alerts += alerts_of(asking)
    out.tombstones += [(boundary, scope) for scope in stepped.dropped]
    for judgement in state.judgements():
        judgement.standing.is_published[live[ended]] = False
    out.tombstones += [(boundary, state.traffic.keys.scopes[slot]) for slot in live[ended].tolist()]
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
    out.health.append(health_of(state, stepped, boundary, partition))
    out.applied += [(boundary, due) for due in stepped.applied]
    out.counters["shed"] += stepped.shed_count


def _due(
    judgement: Judgement,
    stepped: Stepped,
    is_changed: Mask,
    is_turn: Mask,
    asking: Asking,
    unseen: Mask,
) -> Mask:
    standing, live = judgement.standing, stepped.slots
    is_shut = (judgement.levels.level[live] > 0) | asking.is_overridden
    relabelled = standing.is_relabelled[live]
    due: Mask = (
        is_changed
        | stepped.is_overridden_anew
        | ~standing.is_published[live]
        | (is_turn & (is_shut | relabelled))
        | (relabelled & is_shut)
    ) & ~unseen
    standing.is_published[live[due]] = True
    standing.is_relabelled[live[due]] = False
    return due
