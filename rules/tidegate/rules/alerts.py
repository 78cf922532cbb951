"""When people are called: per key and rule what stands, since when, and what was said of it.

A start is followed by exactly one resolve. Worse is said at once, milder and gone only after they stood for
`resolve_after`; what lasts is said again after `repeat_s`, and louder. L1 is no rule here: it calls nobody.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from tidegate.rules.in_force import is_match
from tidegate.rules.policy_columns import TIER_NAMES, AlertColumns
from tidegate.rules.state_columns import StateColumns
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.control import SilenceSet

__all__ = ["RULES", "AlertEvent", "AlertState", "end", "silenced", "step"]

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

RULES = ("slo", "L2", "L3", "L4", "L5", "chronic", "drift", "hollow", "telemetry")
"""Rules by number. A new one is a name here, its tier in the policy, its title in `alert_texts`."""
SLO = RULES.index("slo")
P1, P2 = TIER_NAMES.index("P1"), TIER_NAMES.index("P2")
_EVENTS: tuple[Literal["start", "change", "repeat", "resolve"], ...] = (
    "start",
    "change",
    "repeat",
    "resolve",
)
_START, _CHANGE, _REPEAT, _RESOLVE = range(4)
_UNTOLD = "silenced while it lasted"
"""Of the end of what nobody was told about."""


class AlertState(StateColumns):
    """Per slot and rule, shapes (capacity, rules). Boundaries are absolute, -1 none."""

    spec: ClassVar[dict[str, tuple[type, float, int]]] = {
        "tier": (np.uint8, 0, len(RULES)),
        "since": (np.int64, -1, len(RULES)),
        "number": (np.int32, 0, len(RULES)),
        "sent_at": (np.int64, -1, len(RULES)),
        "milder_since": (np.int64, -1, len(RULES)),
        "gone_since": (np.int64, -1, len(RULES)),
        "is_escalated": (np.bool_, 0, len(RULES)),
        "is_silenced": (np.bool_, 0, len(RULES)),
        "is_told": (np.bool_, 0, len(RULES)),
    }
    tier: npt.NDArray[np.uint8]
    """As it was said: index into TIER_NAMES, 0 while there is no alert."""
    since: Ints
    number: npt.NDArray[np.int32]
    """Events so far."""
    sent_at: Ints
    """The last event."""
    milder_since: Ints
    """Since when the condition asks for less than `tier`, or for nothing."""
    gone_since: Ints
    is_escalated: Mask
    """A repeat made it P1, whatever the condition asks for."""
    is_silenced: Mask
    """Whether the last event called nobody."""
    is_told: Mask
    """Whether any event called people: then, and only then, they are told of the end."""


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """One event of one alert, ready to be put into words."""

    slot: int
    rule: str
    event: Literal["start", "change", "repeat", "resolve"]
    tier: Literal["P1", "P2"]
    since_boundary: int
    number: int
    silenced: str | None


@dataclass(slots=True)
class _Asked:
    """Pairs of key and rule that a boundary may move, by scope and rule; shapes (k,)."""

    slots: Ints
    rules: Ints
    tiers: Ints
    """What the condition asks for, 0 nothing."""
    resolve_after: Ints
    repeat: Ints


def step(
    state: AlertState,
    live: Ints,
    slo_tiers: npt.NDArray[np.uint8],
    conditions: Mask,
    columns: AlertColumns,
    settings: Ints,
    boundary: int,
    *,
    scopes: Sequence[str],
    silences: Sequence[SilenceSet],
) -> list[AlertEvent]:
    """What is to be said at a boundary of the keys at slots `live`, in their order.

    slo_tiers: by key, (m,). conditions: (m, rules), whether a rule's condition holds; the column of `slo`
    is not read. settings: row of `columns` by key, (m,). scopes: by slot. Only pairs that hold or stand are
    looked at.
    """
    width = len(RULES)
    holding = np.flatnonzero(conditions)
    rows, rules = holding // width, holding % width
    tiers = _tier_table(columns)[rules, settings[rows]]
    slo_rows = np.flatnonzero(slo_tiers)
    standing = np.flatnonzero(state.tier != 0)
    if not len(slo_rows) and not len(standing) and not tiers.any():
        return []
    row_of_slot = np.full(len(state.tier), -1, np.int64)
    row_of_slot[live] = np.arange(len(live))
    pairs = np.concatenate(
        (
            holding[tiers > 0],
            slo_rows * width + SLO,
            row_of_slot[standing // width] * width + standing % width,
        )
    )
    found = np.unique(pairs[pairs >= 0])
    wanted = np.zeros(len(found), np.int64)
    wanted[np.searchsorted(found, holding[tiers > 0])] = tiers[tiers > 0]
    wanted[np.searchsorted(found, slo_rows * width + SLO)] = slo_tiers[slo_rows]
    rows = found // width
    kind = settings[rows]
    asked = _Asked(
        live[rows],
        found % width,
        wanted,
        columns.resolve_after_boundaries[kind],
        columns.repeat_boundaries[kind],
    )
    return _advance(state, asked, boundary, scopes, silences)


def end(
    state: AlertState,
    slots: Ints,
    boundary: int,
    *,
    scopes: Sequence[str],
    silences: Sequence[SilenceSet],
) -> list[AlertEvent]:
    """Resolves whatever stands for keys that end here, in the order of `slots`. Call before their rows are
    reset and their scopes forgotten."""
    places, rules = np.nonzero(state.tier[slots])
    nothing = np.zeros(len(places), np.int64)
    asked = _Asked(slots[places], rules.astype(np.int64), nothing, nothing, nothing)
    return _advance(state, asked, boundary, scopes, silences)


def silenced(scope: str, at_ms: int, silences: Sequence[SilenceSet]) -> str | None:
    """Who silenced a scope at this time and why; None where nobody did."""
    for silence in silences:
        if silence.from_ms <= at_ms < silence.until_ms and is_match(scope, silence.scope):
            return f"{silence.by}: {silence.reason}"
    return None


def _tier_table(columns: AlertColumns) -> Ints:
    """Shape (rules, settings). A condition of `slo` has no tier of its own."""
    by_rule = [getattr(columns, name.lower()) for name in RULES[1:]]
    return np.stack([np.zeros_like(by_rule[0]), *by_rule])


def _advance(
    state: AlertState,
    asked: _Asked,
    boundary: int,
    scopes: Sequence[str],
    silences: Sequence[SilenceSet],
) -> list[AlertEvent]:
    at = (asked.slots, asked.rules)
    tier, was_silenced = state.tier[at].astype(np.int64), state.is_silenced[at]
    stands, holds = tier > 0, asked.tiers > 0
    wanted = np.where(holds & state.is_escalated[at], P1, asked.tiers)
    gone = _since(stands & ~holds, state.gone_since[at], boundary)
    milder = _since(stands & (wanted < tier), state.milder_since[at], boundary)

    ends = stands & ~holds & (boundary - gone >= asked.resolve_after)
    has_stood = (milder >= 0) & (boundary - milder >= asked.resolve_after)
    changes = stands & holds & ((wanted > tier) | has_stood)
    lasts = stands & holds & ~changes
    repeats = lasts & (boundary - state.sent_at[at] >= asked.repeat)
    event = np.select(
        (~stands & holds, changes, repeats, ends), (_START, _CHANGE, _REPEAT, _RESOLVE), -1
    )
    by = _silences_of(asked, (event >= 0) | (lasts & was_silenced), boundary, scopes, silences)
    is_silenced = np.array([text is not None for text in by], np.bool_)
    # A silence ended: whoever it spared hears of it now. Nobody left a silenced call unanswered, so it
    # doesn't grow louder.
    event[lasts & was_silenced & ~is_silenced] = _REPEAT
    louder = (event == _REPEAT) & (tier == P2) & ~was_silenced & ~is_silenced

    starts, sent = event == _START, event >= 0
    is_new = starts | (event == _CHANGE)
    state.tier[at] = np.where(is_new, wanted, np.where(louder, P1, tier))
    state.since[at] = np.where(starts, boundary, state.since[at])
    state.number[at] += sent
    state.sent_at[at] = np.where(sent, boundary, state.sent_at[at])
    state.milder_since[at] = np.where(is_new, -1, milder)
    state.gone_since[at] = gone
    state.is_escalated[at] |= louder
    state.is_silenced[at] = np.where(sent, is_silenced, was_silenced)
    out = _events(state, asked, event, by)
    state.is_told[at] |= sent & ~is_silenced
    over = event == _RESOLVE
    for name, (_, unused, _) in AlertState.spec.items():
        getattr(state, name)[asked.slots[over], asked.rules[over]] = unused
    return out


def _events(
    state: AlertState, asked: _Asked, event: Ints, by: Sequence[str | None]
) -> list[AlertEvent]:
    """What happened, from the state after it; `is_told` is still that of before."""
    out = []
    for i in np.flatnonzero(event >= 0).tolist():
        slot, rule, silence = int(asked.slots[i]), int(asked.rules[i]), by[i]
        if event[i] == _RESOLVE:
            silence = None if state.is_told[slot, rule] else silence or _UNTOLD
        out.append(
            AlertEvent(
                slot=slot,
                rule=RULES[rule],
                event=_EVENTS[event[i]],
                tier=TIER_NAMES[state.tier[slot, rule]],  # type: ignore[arg-type]  # never "none"
                since_boundary=int(state.since[slot, rule]),
                number=int(state.number[slot, rule]),
                silenced=silence,
            )
        )
    return out


def _since(holds: Mask, before: Ints, boundary: int) -> Ints:
    """Since when something holds, -1 where it doesn't."""
    return np.where(holds, np.where(before < 0, boundary, before), -1)


def _silences_of(
    asked: _Asked,
    matters: Mask,
    boundary: int,
    scopes: Sequence[str],
    silences: Sequence[SilenceSet],
) -> list[str | None]:
    """By pair; looked up only where it matters."""
    by: list[str | None] = [None] * len(matters)
    if silences:
        for i in np.flatnonzero(matters).tolist():
            by[i] = silenced(scopes[int(asked.slots[i])], boundary * BUCKET_MS, silences)
    return by
