"""Admission: (decision, request, state, now) -> (verdict, state). The same live and in simulations.

No clock, no randomness, no I/O: chance is a stable hash of the request's key, so that one trace (or one
user's session) is treated alike at every hop, and what passes at a small ratio passes at a larger one.
Order: heartbeats that may pass, the retry budget, the share by priority, probes.
"""

from enum import IntEnum
from typing import Literal

import msgspec

from tidegate.client.hashing import key_of, position_of, position_of_number
from tidegate.client.state import PRIORITIES, AdmissionState, seen
from tidegate.schemas.decision import Actions, Decision

__all__ = [
    "EffectName",
    "Priority",
    "Request",
    "Rule",
    "Verdict",
    "admit",
    "nothing_known",
    "priority_named",
    "strictest",
]

RETRY_TOKEN = 1_000_000
"""A retry's cost in millionths: whole numbers, so that ten times 0.1 is one."""
RETRY_TOKENS_MAX = 10 * RETRY_TOKEN
"""What a quiet time may save up: a fault begins with at most so many retries per client and scope."""
PROBE_DEBT_MAX = 1.0

EffectName = Literal["shed", "cut", "fallback", "probe"]
Rule = Literal[
    "no_decision",
    "all_pass",
    "admit_ratio",
    "no_deadline",
    "heartbeat",
    "probe",
    "shut",
    "retry_budget",
]


class Priority(IntEnum):
    """`tidegate.priority` in baggage; lower ones are shed first."""

    SHEDDABLE = 0
    SHEDDABLE_PLUS = 1
    CRITICAL = 2
    CRITICAL_PLUS = 3


_BY_NAME = {priority.name.lower(): priority for priority in Priority}


def priority_named(name: str) -> Priority:
    """Of a baggage value, `sheddable_plus` say. What is no priority is `critical`: baggage comes from
    others, and an unknown word must not shed a request."""
    return _BY_NAME.get(name.strip().lower(), Priority.CRITICAL)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller says of the request it is about to make."""

    trace_id: str | bytes | int = ""
    """Chance is drawn from it where there is no session. Hex, 16 bytes, or OpenTelemetry's int."""
    session: str | bytes = ""
    """User or session key from baggage: a retry draws a new trace id, but not another session."""
    priority: Priority = Priority.CRITICAL
    is_retry: bool = False
    is_heartbeat: bool = False
    """A health check, say. It is no traffic: it counts for half_open only and earns no retries."""
    can_set_deadline: bool = True
    """Whether the caller gives up after `Verdict.deadline_ms`. One that can't is shed a share instead."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the request may be made, and what to do around it."""

    passes: bool
    would_pass: bool
    """What enforcing would say; differs from `passes` in mode observe only."""
    effect: EffectName | None = None
    """For the span, as `tidegate.effect`: `shed` where it doesn't pass, `probe` where it passes as one.
    See `effect_when` for what only the caller can know."""
    deadline_ms: int | None = None
    """The caller's deadline for the call; what it ends so it marks `cut`."""
    retry_after_s: int | None = None
    """For the refusal's `Retry-After`."""
    fallback: bool = False
    """Whether a refused request should be answered by the caller's fallback."""
    cache: bool = False
    """Whether to serve from a local cache."""
    rule: Rule = "no_decision"
    reason: str = ""
    """Why it was refused, or would have been; empty where it passes."""
    scope: str = ""
    level: str = "closed"
    policy: str = ""
    boundary: int = 0
    is_stale: bool = False
    """Nobody is known to evaluate the scope any more: said by the fallback, or on the ramp to it."""

    def __bool__(self) -> bool:
        return self.passes

    def effect_when(self, *, is_cut: bool = False, is_fallback: bool = False) -> EffectName | None:
        """`tidegate.effect` after the fact: `fallback` where a refused request was answered by the
        caller's fallback, `cut` where the caller's own deadline ended the call."""
        if is_fallback and not self.passes:
            return "fallback"
        if is_cut and self.passes and self.deadline_ms is not None:
            return "cut"
        return self.effect


def nothing_known(scope: str) -> Verdict:
    """Nothing is known of the scope, so nothing is turned away."""
    return Verdict(passes=True, would_pass=True, scope=scope)


def admit(
    decision: Decision,
    request: Request,
    state: AdmissionState,
    now_ms: int,
    *,
    actions: Actions | None = None,
    level: str | None = None,
    is_stale: bool = False,
) -> tuple[Verdict, AdmissionState]:
    """The verdict on one request, and the state that the next one meets.

    actions, level: what is obeyed where it isn't the decision's own (a lease has run out); is_stale
    says so. In mode observe the state moves as if the verdict were obeyed.
    """
    asks = decision.actions if actions is None else actions
    if not request.is_heartbeat:
        state = seen(state, request.priority, now_ms)
    rule, passes, state = _judge(decision, asks, request, state, now_ms)
    if passes and not request.is_heartbeat:
        state = _spend(request, state, asks.retry_ratio_max)
    is_enforced = decision.mode == "enforce"
    effect: EffectName | None = None
    if passes and (request.is_heartbeat or (rule == "probe" and is_enforced)):
        effect = "probe"
    elif not passes and is_enforced:
        effect = "shed"
    shown_level = level or decision.level
    has_deadline = passes and is_enforced and request.can_set_deadline
    return Verdict(
        passes=passes or not is_enforced,
        would_pass=passes,
        effect=effect,
        deadline_ms=asks.slow_over_ms if has_deadline else None,
        retry_after_s=None if passes else asks.retry_after_s,
        fallback=asks.fallback and not passes,
        cache=asks.cache and is_enforced,
        rule=rule,
        reason="" if passes else _reason(decision, asks, rule, shown_level, is_stale=is_stale),
        scope=decision.scope,
        level=shown_level,
        policy=decision.policy,
        boundary=decision.boundary,
        is_stale=is_stale,
    ), state


def strictest(verdicts: list[Verdict]) -> Verdict:
    """One verdict of several scopes that concern a call: the refusal if there is one; else all pass,
    with the shortest deadline."""
    chosen = max(verdicts, key=_strictness)
    deadlines = [v.deadline_ms for v in verdicts if v.deadline_ms is not None]
    if not chosen.passes or not deadlines or chosen.deadline_ms == min(deadlines):
        return chosen
    return msgspec.structs.replace(chosen, deadline_ms=min(deadlines))


def _strictness(verdict: Verdict) -> tuple[bool, bool, bool, bool, bool]:
    return (
        not verdict.passes,
        not verdict.would_pass,
        verdict.effect is not None,
        verdict.deadline_ms is not None,
        verdict.rule != "no_decision",
    )


def _judge(
    decision: Decision, asks: Actions, request: Request, state: AdmissionState, now_ms: int
) -> tuple[Rule, bool, AdmissionState]:
    if request.is_heartbeat and asks.heartbeats_pass:
        return "heartbeat", True, state
    if request.is_retry and (asks.retry_ratio_max <= 0.0 or state.retry_tokens < RETRY_TOKEN):
        return "retry_budget", False, state
    ratio, rule = asks.admit_ratio, _ratio_rule(asks.admit_ratio)
    if asks.shed_if_no_deadline and not (
        request.can_set_deadline and asks.slow_over_ms is not None
    ):
        least = 1.0 - asks.shed_if_no_deadline
        if least < ratio:
            ratio, rule = least, "no_deadline"
    if ratio >= 1.0:
        return rule, True, state
    key = key_of(session=request.session, trace_id=request.trace_id)
    position = position_of(key) if key else position_of_number(state.sequence)
    if position < ratio_of(request.priority, ratio, state):
        return rule, True, state
    if asks.probe_ratio is None and asks.probe_per_s is None:
        return rule, False, state
    passes, state = _probe(decision, asks, position, state, now_ms)
    return "probe", passes, state


def _ratio_rule(ratio: float) -> Rule:
    if ratio >= 1.0:
        return "all_pass"
    return "admit_ratio" if ratio > 0.0 else "shut"


def ratio_of(priority: int, ratio: float, state: AdmissionState) -> float:
    """Share of this priority that passes, so that `ratio` of everything does and lower ones go first:
    what is to be shed is taken from the lowest class until that is used up, then from the next."""
    if ratio <= 0.0:
        return 0.0
    mine = state.count(priority)
    if mine == 0:  # a heartbeat that nothing lets through: it is no traffic
        return ratio
    counts = [state.count(other) for other in range(PRIORITIES)]
    if mine == sum(counts):
        return ratio
    to_shed = (1.0 - ratio) * sum(counts) - sum(counts[:priority])
    return min(1.0, max(0.0, 1.0 - to_shed / mine))


def _probe(
    decision: Decision, asks: Actions, position: float, state: AdmissionState, now_ms: int
) -> tuple[bool, AdmissionState]:
    """The larger of a share by hash and this client's part of the fleet's probes per second.

    Those that pass by the share use tokens too, into a small debt: else both would add up. The bucket
    begins at a hash of the client, so that a fleet of 1,000 doesn't begin with 1,000 probes.
    """
    per_s = (asks.probe_per_s or 0.0) / max(1, asks.callers or 1)
    if state.probe_since_ms == decision.since_ms:
        tokens, elapsed_ms = state.probe_tokens, now_ms - state.probe_ms
    else:
        tokens, elapsed_ms = state.phase, now_ms - decision.since_ms
    # One more than a second's worth: a bucket that overflows between two requests loses its fraction.
    tokens = min(1.0 + max(1.0, per_s), tokens + max(0, elapsed_ms) * per_s / 1000.0)
    by_share = position < (asks.probe_ratio or 0.0)
    passes = by_share or tokens >= 1.0
    if passes:
        tokens = max(-PROBE_DEBT_MAX, tokens - 1.0)
    return passes, msgspec.structs.replace(
        state, probe_tokens=tokens, probe_ms=now_ms, probe_since_ms=decision.since_ms
    )


def _spend(request: Request, state: AdmissionState, retry_ratio_max: float) -> AdmissionState:
    """Every first try earns a part of a retry; a retry costs a whole one; a ratio of 0 empties it."""
    if request.is_retry:
        tokens = state.retry_tokens - RETRY_TOKEN
    elif retry_ratio_max > 0.0:
        earned = round(retry_ratio_max * RETRY_TOKEN)
        tokens = min(RETRY_TOKENS_MAX, state.retry_tokens + earned)
    else:
        tokens = 0
    if tokens == state.retry_tokens:
        return state
    return msgspec.structs.replace(state, retry_tokens=tokens)


def _reason(decision: Decision, asks: Actions, rule: Rule, level: str, *, is_stale: bool) -> str:
    if rule == "admit_ratio":
        said = f"{asks.admit_ratio:.0%} of requests pass"
    elif rule == "no_deadline":
        said = f"{asks.shed_if_no_deadline or 0.0:.0%} of callers without deadline are shed"
    elif rule == "retry_budget":
        said = f"at most {asks.retry_ratio_max:g} retries per request"
    else:
        said = "only probes pass" if rule == "probe" else "nothing passes"
    stale = ", nobody evaluates it any more" if is_stale else ""
    return f"{decision.scope} is {level}{stale}: {said}; {decision.reason}"
