"""Incidents that requests show: L1 (jitter), L3 (service fault) and L4 (cascade), for many keys at once.

Each is a condition that holds for a time; silence neither begins nor ends one that evidence doesn't end.
Only keys that can move are looked at: nearly all are well.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from tidegate.rules.policy_columns import IncidentColumns
from tidegate.rules.state_columns import StateColumns

__all__ = [
    "IncidentInputs",
    "IncidentState",
    "active",
    "dependencies",
    "rows_to_look_up",
    "step",
]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class IncidentState(StateColumns):
    """Per slot. since: boundary at which the incident began, -1 while there is none."""

    spec: ClassVar[dict[str, tuple[type, float, int]]] = {
        "l1_since": (np.int64, -1, 0),
        "l1_windows": (np.int32, 0, 0),
        "l1_p95_ms": (np.float64, -1.0, 0),
        "l1_limit_ms": (np.int64, -1, 0),
        "l3_since": (np.int64, -1, 0),
        "l3_is_timing_out": (np.bool_, 0, 0),
        "l3_calls": (np.int64, 0, 0),
        "l3_timeout_ratio": (np.float64, 0.0, 0),
        "l3_stall_windows": (np.int32, 0, 0),
        "l3_fast_qps": (np.float64, 0.0, 0),
        "l3_usual_qps": (np.float64, 0.0, 0),
        "l4_since": (np.int64, -1, 0),
        "l4_gone_since": (np.int64, -1, 0),
    }
    l1_since: Ints
    l1_windows: npt.NDArray[np.int32]
    """Successive fast windows above the limit."""
    l1_p95_ms: Floats
    """Of the newest of them, and the limit it was held against, while L1 stands."""
    l1_limit_ms: Ints
    l3_since: Ints
    l3_is_timing_out: Mask
    l3_calls: Ints
    """Calls and share of time-outs, as they were last seen while they made L3 hold."""
    l3_timeout_ratio: Floats
    l3_stall_windows: npt.NDArray[np.int32]
    """Successive fast windows in which calls hardly ended."""
    l3_fast_qps: Floats
    """Of the newest of them, and what is usual."""
    l3_usual_qps: Floats
    l4_since: Ints
    l4_gone_since: Ints
    """Since when too few dependencies are at L3, while L4 still stands; else -1."""


@dataclass(slots=True)
class IncidentInputs:
    """What a boundary says about m live keys, in the order of their scopes; shapes (m,)."""

    is_edge: Mask
    requests: Ints
    """In the 30 s window, own effects left out."""
    timeout_ratio: Floats
    """Adjusted, of these."""
    fast_requests: Ints
    """In the fast window, own effects left out."""
    is_fast_turn: Mask
    """Whether a fast window of the key ends here: every 10 boundaries, spread by hash."""
    fast_p95_ms: Floats
    """Of all durations in the fast window, for `rows_to_look_up`; -1 elsewhere and where there are none."""
    target_ms: Ints
    """-1 unknown."""
    is_on_evidence: Mask
    fast_qps: Floats
    """What ended in the fast window per second, own effects too: a call turned away doesn't hang."""
    usual_qps: Floats
    """-1 unknown."""
    service_row: Ints
    """Row of the key (service, ""), -1 where that is no live key."""
    is_hard: Mask
    """Edges whose failure fails the request."""


@dataclass(slots=True)
class _Moment:
    """What all rules are told."""

    state: IncidentState
    live: Ints
    inputs: IncidentInputs
    columns: IncidentColumns
    settings: Ints
    boundary: int


def step(
    state: IncidentState,
    live: Ints,
    inputs: IncidentInputs,
    columns: IncidentColumns,
    settings: Ints,
    boundary: int,
) -> Mask:
    """Moves the incidents of the keys at slots `live` by one boundary; True where a key's set of them
    changed. settings: row of `columns` by key, shape (m,)."""
    changed = np.zeros(len(live), np.bool_)
    at = _Moment(state, live, inputs, columns, settings, boundary)
    _jitter(at, changed)
    _service_fault(at, changed)
    _cascade(at, changed)
    return changed


def rows_to_look_up(
    is_fast_turn: Mask, fast_requests: Ints, columns: IncidentColumns, settings: Ints
) -> Ints:
    """Keys whose fast P95 says something at this boundary: reading a sketch is dear."""
    turn = np.flatnonzero(is_fast_turn)
    rows: Ints = turn[fast_requests[turn] >= columns.l1_requests_min[settings[turn]]]
    return rows


def active(state: IncidentState, slot: int) -> tuple[Literal["L1", "L3", "L4"], ...]:
    """Which of these incidents a key has."""
    found: list[Literal["L1", "L3", "L4"]] = []
    if state.l1_since[slot] >= 0:
        found.append("L1")
    if state.l3_since[slot] >= 0:
        found.append("L3")
    if state.l4_since[slot] >= 0:
        found.append("L4")
    return tuple(found)


def dependencies(
    state: IncidentState,
    live: Ints,
    inputs: IncidentInputs,
    columns: IncidentColumns,
    settings: Ints,
    row: int,
) -> Ints:
    """Rows of the edges at L3 that count for the cascade of the service in `row`."""
    mine = np.flatnonzero(inputs.is_edge & (inputs.service_row == row))
    counts = (state.l3_since[live[mine]] >= 0) & (
        inputs.is_hard[mine] | ~columns.l4_is_hard_only[settings[row]]
    )
    counted: Ints = mine[counts]
    return counted


def _jitter(at: _Moment, changed: Mask) -> None:
    """L1. A window with too few requests neither counts nor ends a run: it says nothing."""
    state, inputs, columns = at.state, at.inputs, at.columns
    rows = rows_to_look_up(inputs.is_fast_turn, inputs.fast_requests, columns, at.settings)
    rows = rows[inputs.fast_p95_ms[rows] >= 0]
    slots, kind, p95 = at.live[rows], at.settings[rows], inputs.fast_p95_ms[rows]
    limit = columns.l1_p95_over_ms[kind]
    slower = np.maximum(limit, inputs.target_ms[rows])
    limit = np.where(columns.l1_is_over_target[kind], slower, limit)
    is_above = p95 > limit
    run = np.where(is_above, state.l1_windows[slots] + 1, 0)
    is_on = is_above & ((state.l1_since[slots] >= 0) | (run >= columns.l1_windows[kind]))
    state.l1_windows[slots] = run
    state.l1_p95_ms[slots] = np.where(is_on, p95, -1.0)
    state.l1_limit_ms[slots] = np.where(is_on, limit, -1)
    changed[rows] |= _settle(state.l1_since, slots, is_on, at.boundary)


def _service_fault(at: _Moment, changed: Mask) -> None:
    """L3: calls that time out, or that don't end."""
    state, inputs, columns = at.state, at.inputs, at.columns
    stalled = _stalled_rows(at)
    suspect = inputs.timeout_ratio > columns.l3_timeout_ratio.min()
    suspect |= state.l3_since[at.live] >= 0
    suspect[stalled] = True
    rows = np.flatnonzero(suspect & inputs.is_edge)
    if not len(rows):
        return
    slots, kind = at.live[rows], at.settings[rows]
    ratio, calls = inputs.timeout_ratio[rows], inputs.requests[rows]
    may = inputs.is_on_evidence[rows] | ~columns.l3_is_on_evidence[kind]
    is_over = np.where(
        calls > 0, ratio > columns.l3_timeout_ratio[kind], state.l3_is_timing_out[slots]
    )
    is_timing_out = may & is_over
    is_stalled = state.l3_stall_windows[slots] >= columns.l3_stall_windows[kind]
    state.l3_is_timing_out[slots] = is_timing_out
    state.l3_calls[slots] = np.where(
        is_timing_out, np.where(calls > 0, calls, state.l3_calls[slots]), 0
    )
    state.l3_timeout_ratio[slots] = np.where(
        is_timing_out, np.where(calls > 0, ratio, state.l3_timeout_ratio[slots]), 0.0
    )
    changed[rows] |= _settle(state.l3_since, slots, is_timing_out | is_stalled, at.boundary)


def _stalled_rows(at: _Moment) -> Ints:
    """Counts fast windows in which an edge's calls hardly ended although its caller got requests (hung
    calls send no spans until they end). Returns the rows that have stalled by now."""
    state, inputs, columns = at.state, at.inputs, at.columns
    rows = np.flatnonzero(inputs.is_fast_turn & inputs.is_edge)
    slots, kind = at.live[rows], at.settings[rows]
    usual, now = inputs.usual_qps[rows], inputs.fast_qps[rows]
    share = columns.l3_stall_share[kind]
    is_quiet = (share > 0) & (usual >= columns.l3_stall_qps_min[kind]) & (now < share * usual)
    caller = inputs.service_row[rows]
    caller_usual = inputs.usual_qps[caller]  # row -1 is any: masked below
    caller_gets = (inputs.fast_requests[caller] > 0) & (
        (caller_usual < 0)
        | (inputs.fast_qps[caller] >= columns.l3_stall_caller_share[kind] * caller_usual)
    )
    # A caller that fails before it calls leaves its callees in peace: nothing hangs there.
    fails_itself = inputs.is_on_evidence[caller] & (
        inputs.timeout_ratio[caller] <= columns.l3_timeout_ratio[kind]
    )
    is_hung = is_quiet & (caller >= 0) & caller_gets & ~fails_itself
    run = np.where(is_hung, state.l3_stall_windows[slots] + 1, 0)
    state.l3_stall_windows[slots] = run
    state.l3_fast_qps[slots] = np.where(is_hung, now, 0.0)
    state.l3_usual_qps[slots] = np.where(is_hung, usual, 0.0)
    return rows[run >= columns.l3_stall_windows[kind]]


def _cascade(at: _Moment, changed: Mask) -> None:
    """L4, with a damped exit: what turns everyone away must not flap."""
    state, inputs, columns = at.state, at.inputs, at.columns
    stands = state.l4_since[at.live] >= 0
    edges = np.flatnonzero(
        (state.l3_since[at.live] >= 0) & inputs.is_edge & (inputs.service_row >= 0)
    )
    if not len(edges) and not stands.any():
        return
    owner = inputs.service_row[edges]
    counts = inputs.is_hard[edges] | ~columns.l4_is_hard_only[at.settings[owner]]
    faults = np.zeros(len(at.live), np.int64)
    np.add.at(faults, owner[counts], 1)
    rows = np.flatnonzero(stands | (faults > 0))
    slots, kind = at.live[rows], at.settings[rows]
    is_met = faults[rows] >= columns.l4_dependencies_min[kind]
    gone = state.l4_gone_since[slots]
    gone = np.where(is_met, -1, np.where(gone < 0, at.boundary, gone))
    is_held = stands[rows] & (at.boundary - gone < columns.l4_exit_stand_boundaries[kind])
    is_on = is_met | is_held
    state.l4_gone_since[slots] = np.where(is_on, gone, -1)
    changed[rows] |= _settle(state.l4_since, slots, is_on, at.boundary)


def _settle(since: Ints, slots: Ints, is_on: Mask, boundary: int) -> Mask:
    """Keeps since when an incident stands; True where it began or ended."""
    before = since[slots]
    since[slots] = np.where(is_on, np.where(before < 0, boundary, before), -1)
    moved: Mask = is_on != (before >= 0)
    return moved
