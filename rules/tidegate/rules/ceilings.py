"""How bad each key's level may get, whatever its score: the blast-radius rules on a judgement's keys."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tidegate.rules import blast_radius, evidence, hardness
from tidegate.rules.assess import judge
from tidegate.rules.blast_radius import Ceilings, Suspect
from tidegate.rules.judge import weighted_ratio
from tidegate.rules.ruling import Guidance, Numbers, Told
from tidegate.rules.traffic import Traffic
from tidegate.schemas.level import LEVEL_NAMES, Level

if TYPE_CHECKING:
    from tidegate.rules.judgement import Judgement

__all__ = ["ceilings_of", "guide"]

Ints = npt.NDArray[np.int64]


def ceilings_of(
    judgement: "Judgement",
    traffic: Traffic,
    told: Told,
    numbers: Numbers,
    wanted: npt.NDArray[np.uint8],
) -> Ceilings:
    """How bad each key's level may get, whatever its score."""
    live, r = told.live, judgement.policy.file.blast_radius
    worst = np.full(len(live), int(Level.LOCKED), np.uint8)
    ceilings = Ceilings(worst)
    if not (wanted > Level.CLOSED).any() and not judgement.is_any_ejected():
        return ceilings
    suspect = _suspect(judgement, traffic, live, numbers, wanted)
    if suspect is not None:
        blast_radius.deepest_first(
            suspect,
            ceilings,
            lambda row: traffic.keys.scopes[int(live[row])],
            r,
            told.boundary,
        )
    _one_instance(judgement, traffic, live, wanted, ceilings)
    is_chronic = judgement.findings.chronic_since[live] >= 0
    chronic = np.flatnonzero(is_chronic & (wanted > Level.DEGRADED_1))
    ceilings.limit(chronic, lambda _: "held at degraded_1: it has been bad for long (chronic)")
    columns = judgement.policy.columns
    settings, level = judgement.settings[live], judgement.levels.level[live]
    blast_radius.shed_share(
        ceilings,
        wanted=wanted,
        level=level,
        scores=judgement.standing.score[live],
        offered=numbers.totals.offered,
        turned_now=1.0 - judgement.admit_ratio(live),
        turned_wanted=1.0 - columns.admit_ratio[settings, wanted],
        r=r,
    )
    return ceilings


def guide(
    ceilings: Ceilings, wanted: npt.NDArray[np.uint8], guidance: Guidance
) -> npt.NDArray[np.uint8]:
    """What the stage knows beside the numbers: levels that are asked for at least (returned), and at most."""
    asked = np.maximum(wanted, guidance.floor)
    for row in np.flatnonzero(asked > wanted).tolist():
        ceilings.reasons.setdefault(
            row, f"at least {LEVEL_NAMES[int(asked[row])]}: {guidance.raised}"
        )
    for row in np.flatnonzero(asked > guidance.worst).tolist():
        ceilings.reasons.setdefault(row, guidance.reason(row))
    ceilings.worst = np.minimum(ceilings.worst, guidance.worst)
    return asked


def _one_instance(
    judgement: "Judgement",
    traffic: Traffic,
    live: Ints,
    wanted: npt.NDArray[np.uint8],
    ceilings: Ceilings,
) -> None:
    """Where one instance of several fails, it is named, and nobody else is turned away. It stays named
    until the level is closed: callers that spare it see nothing bad any more, and would be back at once."""
    r, level = judgement.policy.file.blast_radius, judgement.levels.level[live]
    looks = ((wanted > Level.CLOSED) | (level > Level.CLOSED)) & ~traffic.keys.is_edge[live]
    looks &= ceilings.worst > Level.DEGRADED_1  # an edge of it is the deeper cause
    for row in np.flatnonzero(looks).tolist():
        slot, name = int(live[row]), None
        if wanted[row] > Level.CLOSED:
            name = traffic.instances.dominant(
                slot,
                share=r.instance_share,
                instances_min=r.instances_min,
                failures_min=r.instance_failures_min,
            )
        if name is None and level[row] > Level.CLOSED:
            name = judgement.limit_of(slot)[1] or None
            if name is not None and wanted[row] > Level.DEGRADED_1:
                name = None  # others fail as well
        if name is None:
            continue
        ceilings.eject[row] = name
        told = f"nearly all failures come from instance {name}"
        if wanted[row] > Level.DEGRADED_1:
            reason = f"held at degraded_1: {told}"
            ceilings.limit(np.array([row], np.int64), lambda _, reason=reason: reason)  # type: ignore[misc]  # bound at once
        else:
            ceilings.reasons[row] = told


def _suspect(
    judgement: "Judgement",
    traffic: Traffic,
    live: Ints,
    numbers: Numbers,
    wanted: npt.NDArray[np.uint8],
) -> Suspect | None:
    """What deepest-first looks at: the services that ask for more than degraded_1 and their edges on
    evidence (or turned away already), whether they merged anything just now or not. None where no edge comes into question."""
    columns, keys = judgement.policy.columns, traffic.keys
    is_edge, service_row = keys.is_edge[live], keys.service_rows(live)
    asks = ~is_edge & (wanted > Level.DEGRADED_1)
    is_worse = judgement.evidence.on_sharp[live] | (
        judgement.levels.level[live] >= Level.DEGRADED_2
    )
    edges = np.flatnonzero(is_edge & (service_row >= 0) & is_worse)
    edges = edges[asks[service_row[edges]]]
    if not len(edges):
        return None
    parents, place = np.unique(service_row[edges], return_inverse=True)
    n, slots = len(parents), live[parents]
    # Over 30 s: profiles that score the whole window go on about what the fast one has forgotten.
    judged = judge(judgement, traffic, slots, numbers.target_bin, may_be_fast=False)
    # Edges over their parent's window: a quiet edge's own is ten times as long.
    of_edges = judge(judgement, traffic, live[edges], numbers.target_bin, which=judged.which[place])
    weights = columns.outcome_weights[judgement.settings[slots]]
    failed = judged.error_ratio * judged.requests
    edge_failed = of_edges.error_ratio * of_edges.requests
    own = weighted_ratio(judged.counts, weights, own=True) * judged.requests
    hard = hardness.lower_bound(traffic.hardness, live[edges])
    # Where another record holds the call, only how hard the edge is tells what it explains.
    explained = np.bincount(place, edge_failed * hard, n)
    inherited = np.minimum(np.maximum(failed - own, explained), failed)
    share = traffic.windows.sketches.self_slow_share(slots, numbers.target_bin[slots])
    is_self_slow = share > judgement.policy.file.blast_radius.self_slow_share
    own_bad = failed - inherited + np.where(is_self_slow, judged.slow, 0.0)
    return Suspect(
        rows=parents,
        edges=edges,
        parent=place.astype(np.int64),
        failed=failed,
        slow=judged.slow,
        inherited=inherited,
        is_own_evident=evidence.is_evident(
            judgement.evidence, slots, judged.requests, own_bad, judgement.policy.evidence
        ),
        is_self_slow=is_self_slow,
        edge_failed=edge_failed,
        edge_slow=of_edges.slow,
        edge_level=judgement.levels.level[live[edges]],
        edge_since=judgement.levels.since_boundary[live[edges]],
    )
