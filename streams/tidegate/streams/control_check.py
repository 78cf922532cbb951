"""What an operator's record may say. Pure: the same check in the command that writes it and in the
sequencer, which meets records of other writers and other versions."""

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

__all__ = [
    "OVERRIDE_MAX_MS",
    "SILENCE_MAX_MS",
    "problems_of",
    "scope_problem",
]

_DAY_MS = 86_400_000
OVERRIDE_MAX_MS = 7 * _DAY_MS
"""What should last longer is a policy."""
SILENCE_MAX_MS = 7 * _DAY_MS
SILENCE_END_MAX_MS = 90 * _DAY_MS
"""A maintenance window may lie so far ahead, its end included."""
CLOCKS_MS = 60_000
"""By how much the clock of who asks may differ from the broker's."""
TEXT_CHARS_MAX = 1_000
SCOPE_CHARS_MAX = 500
SERVICES_MAX = 200

SCOPE_KINDS = ("service", "edge", "inbound", "graph", "partition")
_GLOBS = frozenset("*?[")


def scope_problem(scope: str) -> str:
    """What is wrong with a scope or pattern; empty where nothing is."""
    if scope == "*":
        return ""
    shown = scope if len(scope) <= SCOPE_CHARS_MAX else scope[:50] + "..."
    kind, colon, name = scope.partition(":")
    if len(scope) > SCOPE_CHARS_MAX:
        return f"scope {shown!r} has {len(scope)} characters; at most {SCOPE_CHARS_MAX}"
    if not colon or kind not in SCOPE_KINDS or not name:
        return (
            f"scope {shown!r} is none; give '*' or KIND:NAME with a kind of "
            f"{', '.join(SCOPE_KINDS)}, such as service:payments or 'edge:shop->*'"
        )
    caller, arrow, target = name.partition("->")
    is_whole = bool(arrow and caller and target)
    if kind == "edge" and not is_whole and not _GLOBS & set(name):
        return f"scope {shown!r} is no edge; give edge:CALLER->TARGET"
    return ""


def problems_of(record: ControlRecord, *, append_ms: int) -> tuple[str, ...]:
    """All that is wrong with a record appended at that time, a policy's text aside."""
    problems = [
        f"{field}: {told}"
        for field, text in (("by", record.by), ("reason", record.reason))
        if (told := _text_problem(text))
    ]
    match record:
        case OverrideSet(scope=scope, until_ms=until_ms):
            problems += [scope_problem(scope), *_override_problems(until_ms, append_ms)]
        case SilenceSet(scope=scope, from_ms=from_ms, until_ms=until_ms):
            problems += [scope_problem(scope), *_silence_problems(from_ms, until_ms, append_ms)]
        case (
            OverrideClear(scope=scope)
            | SilenceClear(scope=scope)
            | LatchReset(scope=scope)
            | Relearn(scope=scope)
        ):
            problems.append(scope_problem(scope))
        case PolicyPush():
            problems += _rollout_problems(record)
        case Promote() | Abort():
            pass
    return tuple(problem for problem in problems if problem)


def _text_problem(text: str) -> str:
    if not text.strip():
        return "is empty; say it, it is shown wherever this takes effect"
    if len(text) > TEXT_CHARS_MAX:
        return f"has {len(text)} characters; at most {TEXT_CHARS_MAX}"
    return ""


def _override_problems(until_ms: int, append_ms: int) -> list[str]:
    left_ms = until_ms - append_ms
    if left_ms <= 0:
        return [f"until_ms: {until_ms} was over when the record came ({append_ms})"]
    if left_ms > OVERRIDE_MAX_MS + CLOCKS_MS:
        days = f"{left_ms / _DAY_MS:.1f} days ahead; an override lasts at most 7"
        return [f"until_ms: {days}: what should last longer is a policy"]
    return []


def _silence_problems(from_ms: int, until_ms: int, append_ms: int) -> list[str]:
    if until_ms <= from_ms:
        return [f"until_ms: {until_ms} is not after from_ms, {from_ms}"]
    if until_ms <= append_ms:
        return [f"until_ms: {until_ms} was over when the record came ({append_ms})"]
    if until_ms - from_ms > SILENCE_MAX_MS + CLOCKS_MS:
        return [f"lasts {(until_ms - from_ms) / _DAY_MS:.1f} days; a silence lasts at most 7"]
    if until_ms - append_ms > SILENCE_END_MAX_MS:
        return [f"until_ms: more than {SILENCE_END_MAX_MS // _DAY_MS} days ahead; set it later"]
    return []


def _rollout_problems(push: PolicyPush) -> list[str]:
    if push.rollout != "grey":
        return []
    problems = []
    if not 0.0 <= push.share <= 1.0:
        problems.append(f"share: {push.share} is no ratio; give 0 to 1")
    elif push.share == 0.0 and not push.services:
        problems.append("grey for no service at all; give a share or patterns of services")
    too_long = [text for text in push.services if not text or len(text) > SCOPE_CHARS_MAX]
    if len(push.services) > SERVICES_MAX or too_long:
        problems.append(
            f"services: give at most {SERVICES_MAX} patterns of 1 to {SCOPE_CHARS_MAX} characters"
        )
    return problems
