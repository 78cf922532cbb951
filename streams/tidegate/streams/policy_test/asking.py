"""What an operator does during a case: `at 30s: override service:payments open for 20s`.

Each line becomes a record of the control topic, in force from that moment on: what a live installation
needs to hear of it (`timing.switch_lead_ms`) is no part of a case.
"""

import re
from collections.abc import Callable

from tidegate.rules.policy_yaml import nearest, shown
from tidegate.schemas.control import (
    Abort,
    ControlRecord,
    LatchReset,
    OverrideClear,
    OverrideSet,
    PolicyPush,
    Promote,
    Relearn,
    SilenceClear,
    SilenceSet,
)
from tidegate.schemas.level import LEVEL_NAMES
from tidegate.streams.policy_test.traffic import BASE_MS
from tidegate.streams.policy_test.values import steps_ms

__all__ = ["FORMS", "PolicyText", "parse_action"]

PolicyText = Callable[[str], str]
"""Name of a pack or file -> the policy's YAML, which extends no file. Raises ValueError."""
Tell = Callable[[str], None]

FORMS = (
    "override SCOPE LEVEL for TIME",
    "override clear SCOPE",
    "lock SCOPE",
    "reset SCOPE",
    "relearn SCOPE",
    "silence SCOPE for TIME",
    "silence clear SCOPE",
    "policy push NAME [full|shadow|grey PERCENT|grey SERVICE]",
    "policy promote",
    "policy abort",
)
"""SCOPE may be a pattern: `service:*`."""
_VERBS = ("override", "lock", "reset", "relearn", "silence", "policy")
_PERCENT = re.compile(r"(\d{1,3})%")


def parse_action(
    text: str, at_ms: int, tell: Tell, *, policy_text: PolicyText
) -> ControlRecord | None:
    """The record, or None and what is wrong."""
    words = text.split()
    said = {"by": "case", "reason": text, "asked_ms": BASE_MS + at_ms}
    try:
        match words:
            case ["override", "clear", scope]:
                return OverrideClear(scope=scope, **said)  # type: ignore[arg-type] # three fields of their own types
            case ["override", scope, level, "for", lasting]:
                if level not in LEVEL_NAMES:
                    _tell_near(level, LEVEL_NAMES, "level", tell)
                    return None
                until_ms = BASE_MS + at_ms + steps_ms(lasting)
                return OverrideSet(scope=scope, level=level, until_ms=until_ms, **said)  # type: ignore[arg-type] # as above
            case ["lock" | "reset" as action, scope]:
                return LatchReset(scope=scope, action=action, **said)  # type: ignore[arg-type] # as above
            case ["relearn", scope]:
                return Relearn(scope=scope, **said)  # type: ignore[arg-type] # as above
            case ["silence", "clear", scope]:
                return SilenceClear(scope=scope, **said)  # type: ignore[arg-type] # as above
            case ["silence", scope, "for", lasting]:
                from_ms = BASE_MS + at_ms
                until_ms = from_ms + steps_ms(lasting)
                return SilenceSet(scope=scope, from_ms=from_ms, until_ms=until_ms, **said)  # type: ignore[arg-type] # as above
            case ["policy", "promote"]:
                return Promote(**said)  # type: ignore[arg-type] # as above
            case ["policy", "abort"]:
                return Abort(**said)  # type: ignore[arg-type] # as above
            case ["policy", "push", name, *how]:
                rollout = _rollout(how)
                return PolicyPush(text=policy_text(name), where=name, **rollout, **said)  # type: ignore[arg-type] # as above
    except ValueError as problem:
        tell(str(problem))
        return None
    if not words or words[0] not in _VERBS:
        _tell_near(words[0] if words else "", _VERBS, "action", tell)
    else:
        forms = [form for form in FORMS if form.startswith(words[0])]
        tell(f"{shown(text)} is not how it is said; write {' or '.join(f'`{f}`' for f in forms)}")
    return None


def _rollout(how: list[str]) -> dict[str, object]:
    match how:
        case [] | ["full"]:
            return {"rollout": "full"}
        case ["shadow"]:
            return {"rollout": "shadow"}
        case ["grey", to]:
            percent = _PERCENT.fullmatch(to)
            if percent is None:
                return {"rollout": "grey", "services": to.split(",")}
            if int(percent[1]) <= 100:
                return {"rollout": "grey", "share": int(percent[1]) / 100}
    raise ValueError(f"{shown(' '.join(how))} is no roll-out; give full, shadow, or grey 20%")


def _tell_near(name: str, allowed: tuple[str, ...], what: str, tell: Tell) -> None:
    near = nearest(name, allowed)
    hint = f"did you mean `{near}`?" if near else f"allowed: {', '.join(allowed)}"
    tell(f"{shown(name)} is no {what}; {hint}")
