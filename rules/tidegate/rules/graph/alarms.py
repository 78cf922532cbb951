"""Incidents of the graph stage: cascades of whole graphs. All others are evaluate's, who sees them first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tidegate.rules.alarms import Alarms, Heard, Shown
from tidegate.rules.alerts import AlertEvent
from tidegate.rules.findings import Findings
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.control import SilenceSet
from tidegate.schemas.decision import Incident

if TYPE_CHECKING:
    from tidegate.rules.evidence import Evidence
    from tidegate.rules.policy import Policy
    from tidegate.rules.traffic import Traffic

__all__ = ["Cascade", "GraphAlarms"]

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Cascade:
    """Why a whole graph is turned away."""

    service: str
    """Whose dependencies fail."""
    dependencies: tuple[str, ...]


class GraphAlarms(Alarms):
    """Told of cascades before each step."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self.cascades: dict[int, Cascade] = {}
        """By slot of a whole graph's key."""

    def step(
        self,
        traffic: "Traffic",  # noqa: ARG002 - as the base class
        heard: Heard,
        evidence: "Evidence",  # noqa: ARG002 - as the base class
        policy: "Policy",  # noqa: ARG002 - as the base class
    ) -> Mask:
        """A graph's L4 stands as long as the cascade does: its exit is damped already."""
        since = self.incidents.l4_since
        before = since[heard.live] >= 0
        now = np.isin(heard.live, np.array(sorted(self.cascades), np.int64))
        started = np.where(before, since[heard.live], heard.boundary)
        since[heard.live] = np.where(now, started, -1)
        changed: Mask = before != now
        return changed

    def events(
        self,
        traffic: "Traffic",
        policy: "Policy",
        findings: Findings,
        live: Ints,
        settings: Ints,
        silences: Sequence[SilenceSet],
        boundary: int,
    ) -> list[AlertEvent]:
        """Of cascades only: what all callers find chronic, their edges and the service were called out for."""
        nothing = Findings(len(findings.chronic_since))
        return super().events(traffic, policy, nothing, live, settings, silences, boundary)

    def shown(
        self,
        traffic: "Traffic",  # noqa: ARG002 - as the base class
        policy: "Policy",  # noqa: ARG002 - as the base class
        live: Ints,
        settings: Ints,  # noqa: ARG002 - as the base class
        row: int,
    ) -> Shown:
        """Of the key in `row` of `live`."""
        slot = int(live[row])
        cascade = self.cascades.get(slot)
        if cascade is None or self.incidents.l4_since[slot] < 0:
            return Shown([], [], ())
        failing = ", ".join(cascade.dependencies)
        incident = Incident(
            rule="L4",
            since_ms=int(self.incidents.l4_since[slot]) * BUCKET_MS,
            reason=f"L4: dependencies of {cascade.service} are at L3 at the same time: {failing}",
        )
        return Shown([incident], [], ())
