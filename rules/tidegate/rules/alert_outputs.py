"""Alerts of a boundary, in words: by scope, then by rule."""

from functools import partial

from tidegate.rules.decisions import Asking
from tidegate.rules.findings import findings_of
from tidegate.schemas.alert import Alert
from tidegate.schemas.level import LEVEL_NAMES

__all__ = ["alerts_of"]


def alerts_of(asking: Asking) -> list[Alert]:
    """What a boundary has to say to people."""
    state, stepped = asking.state, asking.stepped
    judgement = state.judgement
    say = partial(
        judgement.alarms.alert,
        policy=judgement.policy,
        settings=judgement.settings,
        partition=state.number,
        boundary=asking.boundary,
    )
    out: list[Alert] = []
    if not (stepped.events or stepped.telemetry_events or stepped.ended):
        return out
    rows = {slot: row for row, slot in enumerate(stepped.slots.tolist())}
    for event in stepped.events:
        level = LEVEL_NAMES[int(judgement.levels.level[event.slot])]
        reasons = _reasons(asking, rows[event.slot])
        out.append(
            say(
                event,
                scope=state.traffic.keys.scopes[event.slot],
                level=level,
                why=partial(_why, reasons),
                exemplars=state.traffic.exemplars.trace_ids(event.slot, asking.boundary),
            )
        )
    out += [
        say(event, scope=scope, level="closed", why=partial(_why, {event.rule: why}), exemplars=())
        for scope, event, why in stepped.ended
    ]
    out += [
        say(
            event,
            scope=f"partition:{state.number}",
            level="closed",
            why=lambda _: judgement.panic.reason,
            exemplars=(),
        )
        for event in stepped.telemetry_events
    ]
    return sorted(out, key=lambda alert: (alert.scope, alert.rule))


def _why(reasons: dict[str, str], rule: str) -> str:
    return reasons.get(rule, f"{rule}: over")


def _reasons(asking: Asking, row: int) -> dict[str, str]:
    """By rule, of what holds for a key now."""
    state, live = asking.state, asking.stepped.slots
    judgement = state.judgement
    shown = judgement.alarms.shown(state.traffic, judgement.policy, live, judgement.settings, row)
    slot = int(live[row])
    found = findings_of(
        judgement.findings,
        slot,
        p95_us=int(judgement.baselines.p95_us[slot]),
        day_factor=judgement.policy.baseline.drift_factor,
    )
    return {one.rule: one.reason for one in shown.incidents} | {f.name: f.reason for f in found}
