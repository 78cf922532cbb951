"""Incidents and alerts of one judgement: L1 to L5, the five minutes that alerts look at, what people are
told. Moves no level; decisions show incidents, and ask for what they ask for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.rules import alerts, incidents, slo_window
from tidegate.rules import window_kernel as kernel
from tidegate.rules.alert_texts import alert_of, slo_reason
from tidegate.rules.alerts import AlertEvent, AlertState
from tidegate.rules.evidence import Evidence
from tidegate.rules.findings import Findings
from tidegate.rules.hardness import is_hard
from tidegate.rules.host_incidents import HostIncidents
from tidegate.rules.incident_reasons import reasons
from tidegate.rules.incidents import IncidentInputs, IncidentState
from tidegate.rules.judge import FAST, WINDOW_SECONDS
from tidegate.rules.policy import Policy
from tidegate.rules.slo_window import SloWindow, slo_signals, slo_tiers
from tidegate.rules.state_columns import StateColumns
from tidegate.rules.traffic import Traffic
from tidegate.rules.window import Merged
from tidegate.schemas.alert import Alert, AlertSignals
from tidegate.schemas.bins import BIN_VALUE_NS
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.control import SilenceSet
from tidegate.schemas.decision import Finding, Incident
from tidegate.schemas.outcome import Outcome

__all__ = ["Alarms", "Heard", "Shown"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Heard:
    """What a boundary says about k live keys; by key unless it says otherwise."""

    live: Ints
    merged: Merged
    boundary: int
    settings: Ints
    """By slot."""
    requests: Ints
    weight: Floats
    """Adjusted count of the window's requests, 64 = 1."""
    fast_requests: Ints
    fast_offered: Floats
    """Requests per second that ended in the fast window, turned away ones too."""
    is_fast_turn: Mask
    target_ms: Ints
    usual_qps: Floats


@dataclass(frozen=True, slots=True)
class Shown:
    """What a key's decision shows."""

    incidents: list[Incident]
    findings: list[Finding]
    terminate: Sequence[str]
    """Instances that are asked to end (L5)."""


class Alarms:
    """State by slot, and by instance for what hosts say of themselves."""

    def __init__(self, capacity: int) -> None:
        self.incidents = IncidentState(capacity)
        self.host = HostIncidents()
        self.slo = SloWindow(capacity)
        self.alerts = AlertState(capacity)
        self.telemetry = AlertState(1)
        """Of the partition as a whole."""
        self._inputs: IncidentInputs | None = None

    def take_alerts(self, other: "Alarms") -> None:
        """Goes on with what people were told by another judgement of the same traffic."""
        self.alerts, self.telemetry = other.alerts, other.telemetry

    def columns(self) -> tuple[StateColumns, ...]:
        """All state with one row per key."""
        return (self.incidents, self.slo, self.alerts)

    # ---- incidents ----

    def step(self, traffic: Traffic, heard: Heard, evidence: Evidence, policy: Policy) -> Mask:
        """Moves all incidents by one boundary; where a key's set of them changed, by key."""
        live, columns, boundary = heard.live, policy.columns, heard.boundary
        settings = heard.settings[live]
        slo_window.turn(self.slo, boundary)
        slo_window.feed(
            self.slo,
            heard.merged,
            ~traffic.keys.is_edge,
            columns.outcome_weights,
            columns.alerts,
            heard.settings,
            boundary,
        )
        inputs = self._inputs = self._inputs_of(traffic, heard, evidence, policy)
        changed = incidents.step(
            self.incidents, live, inputs, columns.incidents, settings, boundary
        )
        self.host.step(
            traffic.metrics,
            lambda service: policy.settings[policy.settings_for(service, "")],
            boundary,
        )
        if self.host.changed:
            own = [traffic.keys.by_key.get((name, ""), -1) for name in sorted(self.host.changed)]
            changed |= np.isin(live, [slot for slot in own if slot >= 0])
        return changed

    def _inputs_of(
        self, traffic: Traffic, heard: Heard, evidence: Evidence, policy: Policy
    ) -> IncidentInputs:
        live, columns = heard.live, policy.columns.incidents
        settings, windows = heard.settings[live], traffic.windows
        p95_ms = np.full(len(live), -1.0)
        rows = incidents.rows_to_look_up(heard.is_fast_turn, heard.fast_requests, columns, settings)
        if len(rows):
            bins = windows.sketches.quantile_bins(
                live[rows], 950, which=kernel.FAST, failed_too=True
            )
            p95_ms[rows] = np.where(bins >= 0, BIN_VALUE_NS[bins] / 1e6, -1.0)
        timeouts = windows.window[live, kernel.WEIGHT_BY_OUTCOME + Outcome.TIMEOUT]
        is_edge = traffic.keys.is_edge[live]
        hard = np.zeros(len(live), np.bool_)
        edges = np.flatnonzero(is_edge & (timeouts > 0))
        hard[edges] = is_hard(traffic.hardness, live[edges], columns.l4_hard_share[settings[edges]])
        effects = windows.fast[live, kernel.CUT] + windows.fast[live, kernel.PROBES]
        return IncidentInputs(
            is_edge=is_edge,
            requests=heard.requests,
            timeout_ratio=timeouts / np.maximum(heard.weight, 1.0),
            fast_requests=heard.fast_requests,
            is_fast_turn=heard.is_fast_turn,
            fast_p95_ms=p95_ms,
            target_ms=heard.target_ms,
            is_on_evidence=evidence.on_sharp[live] | evidence.on_mild[live],
            fast_qps=heard.fast_offered + effects / WINDOW_SECONDS[FAST],
            usual_qps=heard.usual_qps,
            service_row=traffic.keys.service_rows(live),
            is_hard=hard,
        )

    def shown(
        self, traffic: Traffic, policy: Policy, live: Ints, settings: Ints, row: int
    ) -> Shown:
        """Of the key in `row` of `live`. settings: by slot."""
        slot = int(live[row])
        service, target = traffic.keys.names[slot] or ("", "")
        own = policy.settings[int(settings[slot])]
        names: list[str] = []
        if self.incidents.l4_since[slot] >= 0 and self._inputs is not None:
            rows = incidents.dependencies(
                self.incidents, live, self._inputs, policy.columns.incidents, settings[live], row
            )
            names = [(traffic.keys.names[int(live[r])] or ("", ""))[1] for r in rows.tolist()]
        found = reasons(self.incidents, slot, own.incidents, dependencies=names)
        terminate: Sequence[str] = ()
        unknown = []
        if not target:
            for one in self.host.active(service):
                found.append(
                    Incident(
                        rule=one.rule,
                        since_ms=one.since_boundary * BUCKET_MS,
                        reason=f"{one.rule}: {one.reason}",
                    )
                )
                if one.rule == "L5":
                    terminate = one.instances[: own.incidents.l5.terminate_max]
            told = self.host.unknown(service)
            if told is not None:
                unknown.append(Finding(name="unknown_overload", since_ms=0, reason=told))
        found.sort(key=lambda incident: incident.rule)
        return Shown(found, unknown, terminate)

    # ---- alerts ----

    def events(
        self,
        traffic: Traffic,
        policy: Policy,
        findings: Findings,
        live: Ints,
        settings: Ints,
        silences: Sequence[SilenceSet],
        boundary: int,
    ) -> list[AlertEvent]:
        """What is to be said of the live keys at this boundary. settings: by slot."""
        columns = policy.columns.alerts
        tiers = slo_tiers(self.slo, live, columns, settings[live])
        conditions = np.zeros((len(live), len(alerts.RULES)), np.bool_)
        for name, since in (
            ("L3", self.incidents.l3_since),
            ("L4", self.incidents.l4_since),
            ("chronic", findings.chronic_since),
            ("drift", findings.drift_since),
            ("hollow", findings.hollow_since),
        ):
            conditions[:, alerts.RULES.index(name)] = since[live] >= 0
        rows: dict[int, int] = {}
        for service in self.host.services():
            slot = traffic.keys.by_key.get((service, ""), -1)
            if slot >= 0:
                rows = rows or {s: r for r, s in enumerate(live.tolist())}
                for one in self.host.active(service):
                    if slot in rows:
                        conditions[rows[slot], alerts.RULES.index(one.rule)] = True
        return alerts.step(
            self.alerts,
            live,
            tiers,
            conditions,
            columns,
            settings[live],
            boundary,
            scopes=traffic.keys.scopes,
            silences=silences,
        )

    def telemetry_events(
        self,
        policy: Policy,
        is_panic: bool,
        partition: int,
        silences: Sequence[SilenceSet],
        boundary: int,
    ) -> list[AlertEvent]:
        """The same of the partition's telemetry."""
        conditions = np.zeros((1, len(alerts.RULES)), np.bool_)
        conditions[0, alerts.RULES.index("telemetry")] = is_panic
        return alerts.step(
            self.telemetry,
            np.zeros(1, np.int64),
            np.zeros(1, np.uint8),
            conditions,
            policy.columns.alerts,
            np.zeros(1, np.int64),
            boundary,
            scopes=[f"partition:{partition}"],
            silences=silences,
        )

    def ended(
        self, traffic: Traffic, slots: Ints, silences: Sequence[SilenceSet], boundary: int
    ) -> list[AlertEvent]:
        """Resolves what stands for keys that end here, while their scopes are still known."""
        return alerts.end(
            self.alerts, slots, boundary, scopes=traffic.keys.scopes, silences=silences
        )

    def alert(
        self,
        event: AlertEvent,
        policy: Policy,
        settings: Ints,
        *,
        scope: str,
        partition: int,
        boundary: int,
        level: str,
        why: Callable[[str], str],
        exemplars: Sequence[str],
    ) -> Alert:
        """In words. why: the reason of an incident or finding by name."""
        signals = AlertSignals()
        if event.rule == "slo" and settings[event.slot] >= 0:
            own = policy.settings[int(settings[event.slot])].alerts
            limit = own.p1 if event.tier == "P1" else own.p2
            signals = slo_signals(self.slo, event.slot, event.tier, limit.p95_over_ms)
            reason = slo_reason(signals, event.tier, own)
        else:
            reason = why(event.rule)
        return alert_of(
            event,
            scope=scope,
            boundary=boundary,
            partition=partition,
            level=level,
            policy=policy.label,
            reason=reason,
            signals=signals,
            exemplars=exemplars,
        )

    # ---- snapshots ----

    def save(self) -> dict[str, Any]:
        """What isn't in columns by key."""
        return {
            "host": self.host.state(),
            "telemetry": {n: c.tobytes() for n, c in self.telemetry.columns().items()},
        }

    def load(self, saved: dict[str, Any]) -> None:
        """The opposite."""
        self.host.load(saved["host"])
        for name, column in self.telemetry.columns().items():
            column[:] = np.frombuffer(saved["telemetry"][name], column.dtype).reshape(column.shape)
