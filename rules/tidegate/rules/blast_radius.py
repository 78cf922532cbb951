"""How far one decision may reach: ceilings for what a key's score may ask for.

Each rule looks at keys that are about to be worse than degraded_1 and names those that must not, with the
reason. A ceiling never makes a level better: it only keeps it from getting worse.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.rules.policy_types import BlastRadius
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.level import Level

__all__ = ["Ceilings", "Panic", "Suspect", "deepest_first", "shed_share"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Levels = npt.NDArray[np.uint8]


@dataclass(slots=True)
class Ceilings:
    """The worst level that each of k keys may be asked for, and why by row."""

    worst: Levels
    reasons: dict[int, str] = field(default_factory=dict)
    eject: dict[int, str] = field(default_factory=dict)
    """Row to the instance that its decision names."""

    def limit(self, rows: Ints, reason: Callable[[int], str]) -> None:
        """To degraded_1."""
        self.worst[rows] = np.minimum(self.worst[rows], Level.DEGRADED_1)
        for row in rows.tolist():
            self.reasons.setdefault(row, reason(row))


@dataclass(slots=True)
class Suspect:
    """What deepest-first looks at: p services that ask for more than degraded_1, and e edges of theirs that
    are on evidence or turned away. Numbers are requests over 30 s, as effective sample sizes."""

    rows: Ints
    """Of the services among the live keys, (p,) as all below."""
    failed: Floats
    slow: Floats
    inherited: Floats
    """Failed requests that failed calls explain, of all edges together."""
    is_own_evident: Mask
    """Whether what no call explains is evidence by itself."""
    is_self_slow: Mask
    """Whether its slow requests are slow without their calls, too."""
    edges: Ints
    """Of the edges among the live keys, (e,) as all below."""
    parent: Ints
    """Index into `rows`."""
    edge_failed: Floats
    edge_slow: Floats
    edge_level: Levels
    edge_since: Ints


def deepest_first(
    s: Suspect, ceilings: Ceilings, scopes: Callable[[int], str], r: BlastRadius, boundary: int
) -> None:
    """While a worse outgoing edge explains more than half of a service's badness, the service stays at
    most degraded_1, until that edge's own decision has been in force for 15 s and what the service does
    itself is evidence alone."""
    parent = s.parent
    failed = np.minimum(s.edge_failed, s.inherited[parent])
    slow = np.where(s.is_self_slow[parent], 0.0, np.minimum(s.edge_slow, s.slow[parent]))
    share = (failed + slow) / np.maximum(s.failed[parent] + s.slow[parent], 1.0)
    waited = boundary - s.edge_since >= r.deepest_wait_s * 1000 // BUCKET_MS
    is_acting = (s.edge_level >= Level.DEGRADED_2) & waited
    holds = (share > r.explained_share) & ~(is_acting & s.is_own_evident[parent])
    named: dict[int, int] = {}
    # The edge that explains most is named; of equal ones the first by scope.
    for place in np.lexsort((s.edges, -share)).tolist():
        if holds[place]:
            named.setdefault(int(s.rows[parent[place]]), place)
    ceilings.limit(
        np.array(sorted(named), np.int64),
        lambda row: (
            f"held at degraded_1: {scopes(int(s.edges[named[row]]))} explains "
            f"{min(share[named[row]], 1.0):.0%} of it"
        ),
    )


def shed_share(
    ceilings: Ceilings,
    *,
    wanted: Levels,
    level: Levels,
    scores: npt.NDArray[np.int32],
    offered: Floats,
    turned_now: Floats,
    turned_wanted: Floats,
    r: BlastRadius,
) -> int:
    """Keeps what decisions turn away together below `max_shed_share` of what is offered; gives how many
    keys it held. The worst scores go first, of equal ones the first by scope. turned_*: the share of its
    requests that a key's present or wanted level turns away. Keys under 20 are too few for shares."""
    asks = (np.minimum(wanted, ceilings.worst) > level) & (wanted > Level.DEGRADED_1)
    if not asks.any() or int((offered > 0).sum()) < r.shed_keys_min:
        return 0
    total = offered.sum()
    rows = np.flatnonzero(asks & (ceilings.worst > Level.DEGRADED_1))
    more = offered[rows] * np.maximum(turned_wanted[rows] - turned_now[rows], 0.0)
    order = np.argsort(scores[rows], kind="stable")
    spent = (offered * turned_now).sum() + np.cumsum(more[order])
    held = np.sort(rows[order][spent > r.max_shed_share * total])
    ceilings.limit(
        held,
        lambda _: (
            f"held at degraded_1: decisions would turn away more than {r.max_shed_share:.0%} of all "
            "requests together"
        ),
    )
    return len(held)


@dataclass(slots=True)
class Panic:
    """The panic guard: when many keys worsen at once and telemetry itself is odd, levels hold."""

    worsened: list[tuple[int, int]] = field(default_factory=list)
    """(boundary, keys that worsened), of the last seconds."""
    odd: list[tuple[int, int, int]] = field(default_factory=list)
    """(boundary, odd spans, all spans)."""
    since_boundary: int = -1
    until_boundary: int = -1
    is_spent: bool = False
    """It has held as long as it may; the next time begins when telemetry has been in order again."""
    reason: str = ""

    def step(
        self,
        *,
        asking: int,
        active: int,
        odd: tuple[int, int],
        sources_missing: int,
        r: BlastRadius,
        boundary: int,
    ) -> bool:
        """Whether worsening is held at this boundary. asking: keys that were about to worsen now."""
        oldest = boundary - r.panic_within_s * 1000 // BUCKET_MS
        self.worsened = [w for w in self.worsened if w[0] > oldest]
        self.odd = [o for o in (*self.odd, (boundary, *odd)) if o[0] > oldest]
        odd_count = sum(o[1] for o in self.odd)
        spans = odd_count + sum(o[2] for o in self.odd)
        is_odd = sources_missing > 0 or odd_count > r.panic_odd_share * max(spans, 1)
        if self.until_boundary >= 0 and (boundary >= self.until_boundary or not is_odd):
            self.is_spent = is_odd
            self.since_boundary = self.until_boundary = -1
        if not is_odd:
            self.is_spent = False
        many = asking + sum(w[1] for w in self.worsened)
        is_many = active >= r.panic_keys_min and many > r.panic_share * active
        if self.until_boundary < 0 and is_many and is_odd and not self.is_spent:
            self.since_boundary = boundary
            self.until_boundary = boundary + r.panic_hold_s * 1000 // BUCKET_MS
            told = (
                f"{sources_missing} source partitions are missing"
                if sources_missing
                else f"{odd_count} of {spans} spans late, skewed or undecodable"
            )
            self.reason = (
                f"{many} of {active} keys worsen within {r.panic_within_s} s while {told}: levels "
                f"are held for at most {r.panic_hold_s} s"
            )
        return self.until_boundary >= 0

    def note(self, worsened: int, boundary: int) -> None:
        """How many keys got worse at this boundary."""
        if worsened:
            self.worsened.append((boundary, worsened))

    def save(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "worsened": self.worsened,
            "odd": self.odd,
            "since": self.since_boundary,
            "until": self.until_boundary,
            "spent": self.is_spent,
            "reason": self.reason,
        }

    def load(self, saved: dict[str, Any]) -> None:
        """The opposite."""
        self.worsened = [(a, b) for a, b in saved["worsened"]]
        self.odd = [(a, b, c) for a, b, c in saved["odd"]]
        self.since_boundary, self.until_boundary = saved["since"], saved["until"]
        self.is_spent, self.reason = saved["spent"], saved["reason"]
