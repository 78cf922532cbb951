"""Admission: (decision, request, state, now) -> verdict. The same in live clients and in simulations.

No clock, no randomness, no I/O: chance is a stable hash of the request's key, so that one trace (or one
user's session) is treated alike at every hop, and what passes at a small ratio passes at a larger one.
"""

import hashlib
from enum import IntEnum

import msgspec

from tidegate.schemas.decision import Decision

__all__ = ["AdmissionState", "Priority", "Request", "Verdict", "admit", "share_of"]


class Priority(IntEnum):
    """`tidegate.priority` in baggage; lower ones are shed first."""

    SHEDDABLE = 0
    SHEDDABLE_PLUS = 1
    CRITICAL = 2
    CRITICAL_PLUS = 3


_BITS = 53
_TOTAL = 1 << _BITS
_RETRY_TOKENS_MAX = 10.0
_SEEN_MAX = 10_000
"""Shares of priorities are counted over about so many requests, then halved."""


def share_of(key: str | bytes) -> float:
    """Where a key lies in 0..1 (1 excluded): the first 53 bits of SHA-256 of its UTF-8 bytes, as a
    fraction. Any language can do it; conformance vectors are in `tests/client/vectors.json`."""
    data = key.encode() if isinstance(key, str) else key
    digest = hashlib.sha256(data).digest()
    return (int.from_bytes(digest[:8], "big") >> (64 - _BITS)) / _TOTAL


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller says of the request it is about to make."""

    trace_id: str | bytes = ""
    """Chance is drawn from it where there is no session."""
    session: str | bytes = ""
    """User or session key from baggage: a retry draws a new trace id, but not another session."""
    priority: Priority = Priority.CRITICAL
    is_retry: bool = False
    is_heartbeat: bool = False
    """A health check, say: passes in forced_open, and counts for half_open only."""
    can_set_deadline: bool = True


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the request may be made, and what to do around it."""

    passes: bool
    would_pass: bool
    """What enforcing would say; differs from `passes` in mode observe only."""
    effect: str | None = None
    """To put on the span as `tidegate.effect`: `shed` where it doesn't pass (`fallback` if a fallback
    answers), `probe` where it passes as a probe."""
    deadline_ms: int | None = None
    """The caller's deadline; what it ends so it marks `cut`."""
    retry_after_s: int | None = None
    fallback: bool = False
    """Whether a refused request should be answered by the caller's fallback."""
    cache: bool = False
    rule: str = "no_decision"
    """admit_ratio, probe, heartbeat, retry_budget, deadline, closed, stale, override, no_decision."""
    reason: str = ""
    scope: str = ""
    level: str = "closed"
    policy: str = ""
    boundary: int = 0
    is_stale: bool = False


PASS = Verdict(passes=True, would_pass=True)
"""Nothing is known, so nothing is turned away."""


class AdmissionState:
    """What a client remembers of one scope; bounded, and told the time."""

    __slots__ = ("boundary", "probe_tokens", "probed_ms", "retry_tokens", "seen")

    def __init__(self) -> None:
        self.boundary = -1
        self.probe_tokens = 0.0
        self.probed_ms = 0
        self.retry_tokens = _RETRY_TOKENS_MAX
        self.seen = [0, 0, 0, 0]
        """Requests by priority."""

    def see(self, priority: Priority) -> None:
        """Counts a request for the shares of priorities."""
        self.seen[priority] += 1
        if self.seen[priority] >= _SEEN_MAX:
            self.seen = [n >> 1 for n in self.seen]


def admit(
    decision: Decision,
    request: Request,
    state: AdmissionState,
    now_ms: int,
    *,
    relaxed: float = 0.0,
) -> Verdict:
    """The verdict on one request; moves `state`.

    relaxed, 0..1: how far the client has fallen back because nobody evaluates the scope any more; this
    share of requests passes whatever the decision says.
    """
    state.see(request.priority)
    actions = decision.actions
    if state.boundary != decision.boundary:
        state.boundary = decision.boundary
        if state.probed_ms == 0:
            state.probe_tokens, state.probed_ms = 1.0, now_ms
    key = request.session or request.trace_id
    share = share_of(key)
    if request.is_retry and state.retry_tokens < 1.0:
        return _refused(decision, "retry_budget", relaxed > 0.0)
    if relaxed > 0.0 and share_of(b"relaxed:" + _bytes(key)) < relaxed:
        verdict = _passed(decision, "stale", is_stale=True)
    elif actions.admit_ratio >= 1.0:
        verdict = _whole(decision, request, share, is_stale=relaxed > 0.0)
    elif actions.admit_ratio > 0.0:
        passes = share < _ratio_for(request.priority, actions.admit_ratio, state.seen)
        verdict = (
            _passed(decision, "admit_ratio", is_stale=relaxed > 0.0)
            if passes
            else _refused(decision, "admit_ratio", relaxed > 0.0)
        )
    else:
        verdict = _closed_door(decision, request, share, state, now_ms, is_stale=relaxed > 0.0)
    if verdict.passes:
        _spend(request, state, actions.retry_ratio_max)
    return verdict


def _spend(request: Request, state: AdmissionState, retry_ratio_max: float) -> None:
    """Every first try earns a part of a retry; a retry costs a whole one."""
    if request.is_retry:
        state.retry_tokens -= 1.0
    elif retry_ratio_max > 0.0:
        state.retry_tokens = min(_RETRY_TOKENS_MAX, state.retry_tokens + retry_ratio_max)
    else:
        state.retry_tokens = 0.0


def _whole(decision: Decision, request: Request, share: float, *, is_stale: bool) -> Verdict:
    """Everything passes but for the slowest, by deadline, or a tenth where none can be set."""
    actions = decision.actions
    if actions.slow_over_ms is not None and request.can_set_deadline:
        return _passed(decision, "deadline", is_stale=is_stale, deadline_ms=actions.slow_over_ms)
    shed = actions.shed_if_no_deadline
    if shed is not None and share >= 1.0 - shed:
        return _refused(decision, "admit_ratio", is_stale)
    return _passed(decision, decision.level, is_stale=is_stale)


def _closed_door(
    decision: Decision,
    request: Request,
    share: float,
    state: AdmissionState,
    now_ms: int,
    *,
    is_stale: bool,
) -> Verdict:
    """Nothing passes but heartbeats and probes."""
    actions = decision.actions
    if request.is_heartbeat and actions.heartbeats_pass:
        return _passed(decision, "heartbeat", is_stale=is_stale, effect="probe")
    if actions.probe_per_s is None and actions.probe_ratio is None:
        return _refused(decision, decision.level, is_stale)
    rate = (actions.probe_per_s or 0.0) / max(1, actions.callers or 1)
    elapsed_s = max(0, now_ms - state.probed_ms) / 1000.0
    state.probe_tokens = min(max(1.0, rate), state.probe_tokens + elapsed_s * rate)
    state.probed_ms = now_ms
    by_token = state.probe_tokens >= 1.0
    if by_token or share < (actions.probe_ratio or 0.0):
        state.probe_tokens = max(0.0, state.probe_tokens - 1.0)
        return _passed(decision, "probe", is_stale=is_stale, effect="probe")
    return _refused(decision, "probe", is_stale)


def _ratio_for(priority: Priority, ratio: float, seen: list[int]) -> float:
    """Share of this priority that passes, so that `ratio` of everything does and lower ones go first."""
    total = sum(seen)
    to_shed = (1.0 - ratio) * total
    for lower in range(priority):
        to_shed -= seen[lower]
    mine = max(1, seen[priority])
    return min(1.0, max(0.0, 1.0 - to_shed / mine))


def _passed(
    decision: Decision,
    rule: str,
    *,
    is_stale: bool,
    effect: str | None = None,
    deadline_ms: int | None = None,
) -> Verdict:
    is_enforced = decision.mode == "enforce"
    return Verdict(
        passes=True,
        would_pass=True,
        effect=effect if is_enforced else None,
        deadline_ms=deadline_ms if is_enforced else None,
        cache=decision.actions.cache and is_enforced,
        rule=rule,
        reason=decision.reason,
        scope=decision.scope,
        level=decision.level,
        policy=decision.policy,
        boundary=decision.boundary,
        is_stale=is_stale,
    )


def _refused(decision: Decision, rule: str, is_stale: bool) -> Verdict:
    is_enforced = decision.mode == "enforce"
    return Verdict(
        passes=not is_enforced,
        would_pass=False,
        effect="shed" if is_enforced else None,
        retry_after_s=decision.actions.retry_after_s,
        fallback=decision.actions.fallback,
        cache=decision.actions.cache and is_enforced,
        rule=rule,
        reason=decision.reason,
        scope=decision.scope,
        level=decision.level,
        policy=decision.policy,
        boundary=decision.boundary,
        is_stale=is_stale,
    )


def _bytes(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else key
