"""The latched protocol for one boundary, over many keys at once. The scalar oracle is in the tests.

It counts failures, not scores: `wanted` is read only to refuse what asks for `locked`, and `worst` only as
the ceiling for leaving `closed`. What began before the last change of level judges nothing.
"""

import numpy as np
import numpy.typing as npt

from tidegate.rules.level import OperatorEvent
from tidegate.rules.level_state import Moment, Moves
from tidegate.rules.window import WINDOW_BUCKETS
from tidegate.schemas.level import Level

__all__ = ["step"]

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def step(at: Moment) -> Moves:
    """Moves the levels of these keys by one boundary."""
    state, slots, inputs = at.state, at.slots, at.inputs
    before = state.level[slots]
    moves = Moves(before)
    is_locked = before == Level.LOCKED
    locks, resets = (inputs.operator == e for e in (OperatorEvent.LOCK, OperatorEvent.RESET))
    moves.happens(locks & ~is_locked, "operator_lock", Level.LOCKED)
    moves.happens(resets & is_locked, "operator_reset", Level.CLOSED)
    moves.refuse((locks & is_locked) | (resets & ~is_locked))
    moves.refuse((inputs.wanted == Level.LOCKED) & ~is_locked)  # locked is an operator's alone

    degraded = (before == Level.DEGRADED_1) | (before == Level.DEGRADED_2)
    moves.happens(degraded, "protocol_changed", Level.CLOSED)
    moves.happens(before == Level.FORCED_OPEN, "protocol_changed", Level.OPEN)

    _closed(at, moves)
    _half_open(at, moves)
    is_over = at.boundary >= state.until_boundary[slots]
    moves.happens((before == Level.OPEN) & is_over, "backoff_over", Level.COOLING)
    _cooling(at, moves)
    ends = (before > Level.CLOSED) & ~is_locked
    is_unseen = inputs.idle_boundaries > at.columns.key_ttl_boundaries[at.settings]
    moves.happens(ends & is_unseen, "idle_out", Level.CLOSED)
    moves.settle("latched")
    # One good answer in half_open is no recovery: evidence that is wrong there ends by its own rule.
    moves.resets_evidence = moves.by("health_check_good") | moves.by("operator_reset")

    _enter(at, moves)
    state.is_stirred[slots] = (state.bad_run[slots] > 0) | (state.attempt[slots] > 0)
    return moves


def _closed(at: Moment, moves: Moves) -> None:
    """Failures are judged where one was merged: good requests that leave the window accuse nobody."""
    state, slots, inputs = at.state, at.slots, at.inputs
    mine = at.columns.latched
    is_closed = moves.before == Level.CLOSED
    requests, bad = inputs.after_requests, inputs.after_bad
    run = np.where(bad == requests, state.bad_run[slots] + 1, 0)
    run = np.where(requests > 0, run, state.bad_run[slots])
    state.bad_run[slots] = np.where(is_closed, run, 0)
    may = is_closed & (bad > 0) & inputs.may_worsen & (inputs.worst >= Level.HALF_OPEN)
    in_row = run >= mine.failed_buckets[at.settings]
    moves.happens(may & in_row, "failures_in_row", Level.HALF_OPEN)
    # After a recovery the window still holds what opened the breaker, until all of it began since.
    is_own = at.boundary - state.counts_from[slots] >= WINDOW_BUCKETS
    many = inputs.window_requests >= mine.requests_min[at.settings]
    high = inputs.window_error_ratio > mine.error_ratio[at.settings]
    moves.happens(may & is_own & many & high, "error_ratio_high", Level.HALF_OPEN)


def _half_open(at: Moment, moves: Moves) -> None:
    """The share of bad answers decides: a busy caller gives hundreds at once, in no order."""
    state, slots, inputs = at.state, at.slots, at.inputs
    mine = at.columns.latched
    is_half_open = moves.before == Level.HALF_OPEN
    answers = inputs.after_requests + inputs.after_probes
    state.seen_requests[slots] += np.where(is_half_open, answers, 0)
    state.seen_bad[slots] += np.where(is_half_open, inputs.after_bad + inputs.after_probes_bad, 0)
    requests, bad = state.seen_requests[slots], state.seen_bad[slots]
    decided = is_half_open & (requests >= mine.half_open_requests[at.settings])
    is_bad = bad / np.maximum(requests, 1) > mine.error_ratio[at.settings]
    moves.happens(decided & is_bad, "answer_bad", Level.OPEN)
    moves.happens(decided, "answer_good", Level.CLOSED)


def _cooling(at: Moment, moves: Moves) -> None:
    """Probes in a row, none bad. Callers that obey send nothing else; the requests of others (advice is
    not obeyed) are one answer a boundary, or one failure in a thousand would keep a busy key here."""
    state, slots, inputs = at.state, at.slots, at.inputs
    mine = at.columns.latched
    is_cooling = moves.before == Level.COOLING
    bad_share = inputs.after_bad / np.maximum(inputs.after_requests, 1)
    failed = bad_share > mine.error_ratio[at.settings]
    is_bad = failed | (inputs.after_probes_bad > 0)
    answers = inputs.after_probes + (inputs.after_requests > 0)
    in_row = np.where(is_bad, 0, state.seen_requests[slots] + answers)
    state.seen_requests[slots] = np.where(is_cooling, in_row, state.seen_requests[slots])
    is_good = in_row >= mine.cooling_probes[at.settings]
    moves.happens(is_cooling & is_good, "health_check_good", Level.CLOSED)


def _enter(at: Moment, moves: Moves) -> None:
    """What a change begins anew. Reopenings are in a row until the key was calm for long, or reset."""
    state, slots, to = at.state, at.slots, moves.to
    moved = moves.rule > 0
    opens = moves.by("answer_bad")
    first = at.columns.latched.backoff_boundaries[at.settings]
    longest = at.columns.latched.backoff_max_boundaries[at.settings]
    last = state.sleep[slots]
    length = np.where(last > 0, np.minimum(2 * last, longest), first)
    state.sleep[slots] = np.where(opens, length, last)
    state.attempt[slots] += opens.astype(np.int32)
    until = np.where(opens, at.wakes_at(length, first), state.until_boundary[slots])
    state.until_boundary[slots] = np.where(to == Level.OPEN, until, -1)

    chosen = slots[moved]
    state.counts_from[chosen] = at.boundary
    state.seen_requests[chosen] = 0
    state.seen_bad[chosen] = 0
    state.bad_run[chosen] = 0
    state.ramp_step[slots] = 0
    state.slow_over_ms[slots] = -1
    state.is_slow_caused[slots] = False
    state.level[slots] = to
    state.since_boundary[slots[to != moves.before]] = at.boundary
    calm_after = at.columns.calm_reset_boundaries[at.settings]
    is_calm = at.boundary - state.since_boundary[slots] >= calm_after
    forgets = (to == Level.CLOSED) & ((is_calm & ~moved) | moves.by("operator_reset"))
    state.sleep[slots[forgets]] = 0
    state.attempt[slots[forgets]] = 0
