"""From the graph stage's state to what people and programs are shown of it."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.rules.graph.findings import RULES, Seen, deadlines_of
from tidegate.rules.graph.partition import GraphPartition
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.decision import LevelName
from tidegate.schemas.graph import EdgeView, EntryView, GraphFinding, GraphView, NodeView
from tidegate.schemas.health import IN_L3
from tidegate.schemas.level import LEVEL_NAMES
from tidegate.schemas.scope import ALL_CALLERS, WHOLE_GRAPH

__all__ = ["view_of"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def view_of(state: GraphPartition, boundary: int) -> GraphView:
    """The graph at a boundary, everything in the order of names."""
    deadlines = deadlines_of(state.structure, state.policy.file.graph.timeouts_min)
    return GraphView(
        version=state.structure.version,
        boundary=boundary,
        window_end_ms=boundary * BUCKET_MS,
        nodes=_nodes(state, boundary),
        edges=_edges(state, boundary, deadlines),
        entries=_entries(state),
        findings=_findings(state, deadlines),
    )


def _findings(state: GraphPartition, deadlines: dict[int, float]) -> list[GraphFinding]:
    """Worst waste first."""
    seen = Seen(state.structure, state.observed, state.policy.file.graph, deadlines)
    found = [one for rule in RULES for one in rule(seen)]
    return sorted(found, key=lambda one: (-one.waste_s_per_min, one.name, one.path))


def _nodes(state: GraphPartition, boundary: int) -> list[NodeView]:
    structure, rows = state.structure, state.structure.rows
    slots = structure.nodes()
    is_live = structure.is_live(slots, boundary)
    level, score, since = rows.level[slots].copy(), rows.score[slots].copy(), rows.since[slots]
    since = since.copy()
    inbound = state.judgement
    for place in np.flatnonzero(~rows.is_service[slots]).tolist():
        key = state.traffic.keys.by_key.get((structure.name(int(slots[place])), ALL_CALLERS))
        if key is not None:
            level[place] = inbound.levels.level[key]
            score[place] = inbound.standing.score[key]
            since[place] = inbound.levels.since_boundary[key]
    columns = zip(
        slots.tolist(),
        rows.is_service[slots].tolist(),
        rows.is_entry[slots].tolist(),
        level.tolist(),
        _unless(score >= 0, score / 1000),
        _unless(since > 0, since * BUCKET_MS),
        np.where(is_live, rows.qps[slots] / 1000, 0.0).tolist(),
        np.where(is_live, rows.error[slots] / 1000, 0.0).tolist(),
        _unless(
            is_live & rows.is_service[slots] & (rows.p95_us[slots] >= 0), rows.p95_us[slots] / 1000
        ),
        strict=True,
    )
    return [
        NodeView(
            name=structure.name(slot),
            kind="service" if is_service else "virtual",
            is_entry=is_entry,
            level=_level(level),
            score=score,
            since_ms=since_ms,
            qps=qps,
            error_ratio=error_ratio,
            p95_ms=p95_ms,
            answered_by=[] if is_service else structure.answered_by(structure.name(slot)),
        )
        for slot, is_service, is_entry, level, score, since_ms, qps, error_ratio, p95_ms in columns
    ]


def _edges(state: GraphPartition, boundary: int, deadlines: dict[int, float]) -> list[EdgeView]:
    structure, rows = state.structure, state.structure.rows
    slots = structure.edges()
    callers, callees = rows.caller[slots], rows.callee[slots]
    is_live = structure.is_live(slots, boundary)
    is_heard = rows.is_service[callees] & structure.is_live(callees, boundary)
    theirs = rows.p95_us[slots]
    own = np.where(is_heard, rows.p95_us[callees], -1)
    caller_qps, usual = rows.qps[callers], rows.requests_usual[slots]
    fan_out = rows.qps[slots] / np.maximum(caller_qps, 1)
    columns = zip(
        slots.tolist(),
        rows.level[slots].tolist(),
        _unless(rows.score[slots] >= 0, rows.score[slots] / 1000),
        _unless(rows.since[slots] > 0, rows.since[slots] * BUCKET_MS),
        np.where(is_live, rows.qps[slots] / 1000, 0.0).tolist(),
        np.where(is_live, rows.error[slots] / 1000, 0.0).tolist(),
        np.where(is_live, rows.timeout[slots] / 1000, 0.0).tolist(),
        _unless(theirs >= 0, theirs / 1000),
        _unless(own >= 0, own / 1000),
        _unless((theirs >= 0) & (own >= 0), (theirs - own) / 1000),
        _unless(is_live & (caller_qps > 0), _rounded(fan_out)),
        _unless(usual > 0, _rounded(rows.calls_usual[slots] / np.maximum(usual, 1e-9))),
        _unless(rows.hard[slots] >= 0, rows.hard[slots] / 1000),
        (is_live & ((rows.marks[slots] & IN_L3) > 0)).tolist(),
        strict=True,
    )
    return [
        EdgeView(
            caller=structure.names[slot][0],
            callee=structure.names[slot][1],
            level=_level(level),
            score=score,
            since_ms=since_ms,
            calls_per_s=calls_per_s,
            error_ratio=error_ratio,
            timeout_ratio=timeout_ratio,
            p95_ms=p95_ms,
            server_p95_ms=server_p95_ms,
            network_ms=network_ms,
            fan_out=fan_out,
            usual_fan_out=usual_fan_out,
            hard=hard,
            deadline_ms=deadlines.get(slot),
            incidents=["L3"] if is_l3 else [],
        )
        for (
            slot,
            level,
            score,
            since_ms,
            calls_per_s,
            error_ratio,
            timeout_ratio,
            p95_ms,
            server_p95_ms,
            network_ms,
            fan_out,
            usual_fan_out,
            hard,
            is_l3,
        ) in columns
    ]


def _entries(state: GraphPartition) -> list[EntryView]:
    structure, rows = state.structure, state.structure.rows
    nodes = structure.nodes()
    found = []
    for slot in nodes[rows.is_entry[nodes]].tolist():
        name = structure.name(slot)
        key = state.traffic.keys.by_key.get((name, WHOLE_GRAPH))
        level = int(state.judgement.levels.level[key]) if key is not None else 0
        found.append(
            EntryView(
                entry=name,
                level=_level(level),
                score=state.causes.served(slot),
                nodes_count=len(structure.reached(slot)),
                root_causes=state.causes.suspects.get(key, []) if key is not None else [],
            )
        )
    return found


def _level(level: int) -> LevelName:
    return LEVEL_NAMES[level]  # type: ignore[return-value]  # a name of the same closed set


def _unless(is_known: npt.NDArray[np.bool_], values: npt.NDArray[Any]) -> list[Any]:
    """Values, None where nothing is known."""
    return [v if k else None for k, v in zip(is_known.tolist(), values.tolist(), strict=True)]


def _rounded(values: Floats) -> Floats:
    """To thousandths."""
    return (values * 1000.0 + 0.5).astype(np.int64) / 1000.0
