"""How bad each key's level may get, whatever its score: the blast-radius rules on a judgement's keys."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tidegate.rules import blast_radius, evidence, hardness
from tidegate.rules.assess import judge
from tidegate.rules.blast_radius import Ceilings, Suspect
from tidegate.rules.judge import weighted_ratio
from tidegate.rules.ruling import Numbers, Told
from tidegate.rules.traffic import Traffic
from tidegate.schemas.level import Level

if TYPE_CHECKING:
    from tidegate.rules.judgement import Judgement

__all__ = ["ceilings_of"]

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
    if not (np.minimum(wanted, worst) > Level.DEGRADED_1).any():
        return ceilings
    chronic = np.flatnonzero(judgement.findings.chronic_since[live] >= 0)
    ceilings.limit(chronic, lambda _: "held at degraded_1: it has been bad for long (chronic)")
    suspect = _suspect(judgement, traffic, live, numbers, np.minimum(wanted, ceilings.worst))
    if suspect is not None:
        blast_radius.deepest_first(
            suspect,
            ceilings,
            lambda row: traffic.keys.scopes[int(live[row])],
            r,
            told.boundary,
        )
    _one_instance(judgement, traffic, live, wanted, ceilings)
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


def _one_instance(
    judgement: "Judgement",
    traffic: Traffic,
    live: Ints,
    wanted: npt.NDArray[np.uint8],
    ceilings: Ceilings,
) -> None:
    """Where one instance of several fails, it is named, and nobody else is turned away."""
    r = judgement.policy.file.blast_radius
    asks = (np.minimum(wanted, ceilings.worst) > Level.DEGRADED_1) & ~traffic.keys.is_edge[live]
    for row in np.flatnonzero(asks).tolist():
        name = traffic.instances.dominant(
            int(live[row]),
            share=r.instance_share,
            instances_min=r.instances_min,
            failures_min=r.instance_failures_min,
        )
        if name is not None:
            ceilings.eject[row] = name
            told = f"held at degraded_1: nearly all failures come from instance {name}"
            ceilings.limit(np.array([row], np.int64), lambda _, told=told: told)  # type: ignore[misc]  # bound at once


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
    # Over 30 s: profiles that score the whole window go on about what the fast one has forgotten.
    judged = judge(
        judgement,
        traffic,
        live[np.concatenate((parents, edges))],
        numbers.target_bin,
        may_be_fast=False,
    )
    weights = columns.outcome_weights[judgement.settings[judged.slots]]
    failed = judged.error_ratio * judged.requests
    n, slots = len(parents), live[parents]
    own = weighted_ratio(judged.counts, weights, own=True)[:n] * judged.requests[:n]
    hard = hardness.lower_bound(traffic.hardness, live[edges])
    # Where another record holds the call, only how hard the edge is tells what it explains.
    explained = np.bincount(place, failed[n:] * hard, n)
    inherited = np.minimum(np.maximum(failed[:n] - own, explained), failed[:n])
    share = traffic.windows.sketches.self_slow_share(slots, numbers.target_bin[slots])
    is_self_slow = share > judgement.policy.file.blast_radius.self_slow_share
    own_bad = failed[:n] - inherited + np.where(is_self_slow, judged.slow[:n], 0.0)
    return Suspect(
        rows=parents,
        edges=edges,
        parent=place.astype(np.int64),
        failed=failed[:n],
        slow=judged.slow[:n],
        inherited=inherited,
        is_own_evident=evidence.is_evident(
            judgement.evidence, slots, judged.requests[:n], own_bad, judgement.policy.evidence
        ),
        is_self_slow=is_self_slow,
        edge_failed=failed[n:],
        edge_slow=judged.slow[n:],
        edge_level=judgement.levels.level[live[edges]],
        edge_since=judgement.levels.since_boundary[live[edges]],
    )
