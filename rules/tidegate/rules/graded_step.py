"""The graded protocol for one boundary, over many keys at once. The scalar oracle is in the tests."""

import numpy as np
import numpy.typing as npt

from tidegate.rules.level import OperatorEvent
from tidegate.rules.level_state import Moment, Moves
from tidegate.schemas.level import Level

__all__ = ["step"]

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def step(at: Moment) -> Moves:
    """Moves the levels of these keys by one boundary."""
    state, slots, inputs = at.state, at.slots, at.inputs
    before = state.level[slots]
    moves = Moves(before)
    moves.refuse(inputs.operator != OperatorEvent.NONE)  # nothing here is locked, nothing reset
    moves.happens(before == Level.COOLING, "protocol_changed", Level.HALF_OPEN)
    moves.happens(before == Level.LOCKED, "protocol_changed", Level.OPEN)

    worse, worse_to = _worse(at, before)
    moves.happens(inputs.is_chronic & (before > Level.DEGRADED_1), "chronic", Level.DEGRADED_1)
    judged = before <= Level.DEGRADED_2
    degraded = judged & (before > Level.CLOSED)
    shut = (before == Level.OPEN) | (before == Level.FORCED_OPEN)
    moves.happens(worse & (judged | (before == Level.OPEN)), "worse_confirmed", worse_to)
    one_better = np.where(before > 0, before - 1, 0).astype(np.uint8)
    moves.happens(degraded & _better(at, before), "better_stood", one_better)
    since = at.boundary - state.since_boundary[slots]
    minute = at.columns.idle_step_boundaries[at.settings]
    # Own effects are no requests: a key whose every call is cut by our deadline must not stay so.
    is_idle = (at.boundary - state.asked_at[slots] >= minute) & (since >= minute)
    moves.happens(degraded & is_idle, "idle_minute", one_better)
    awake = (inputs.score > at.columns.wake_score[at.settings]) | (inputs.fast_requests == 0)
    is_over = at.boundary >= state.until_boundary[slots]
    moves.happens(shut & is_over & awake, "slept", Level.HALF_OPEN)
    _half_open(at, moves)
    idle_out = (before > 0) & (inputs.idle_boundaries > at.columns.key_ttl_boundaries[at.settings])
    moves.happens(idle_out, "idle_out", Level.CLOSED)
    moves.settle("graded")
    closes = (moves.rule > 0) & (moves.to == Level.CLOSED)
    moves.resets_evidence = closes & (before == Level.HALF_OPEN)

    _enter(at, moves)
    state.is_stirred[slots] = (
        (state.worse_run[slots] > 0)
        | (state.open_since[slots] >= 0)
        | (state.bad_run[slots] > 0)
        | (state.hysteresis[slots] > 0)
        | (state.attempt[slots] > 0)
    )
    return moves


def _worse(at: Moment, before: npt.NDArray[np.uint8]) -> tuple[Mask, npt.NDArray[np.uint8]]:
    """(confirmed, level). Only boundaries that merged requests of the present level's time say
    anything: what failed before it is exported seconds later and must not open a breaker."""
    state, slots, inputs = at.state, at.slots, at.inputs
    requests, bad = inputs.after_requests, inputs.after_bad
    has = requests > 0
    wanted = np.minimum(inputs.wanted, inputs.worst)
    # A ceiling may lie between: half_open is no level that a score asks for.
    wanted = np.where(wanted < Level.OPEN, np.minimum(wanted, Level.DEGRADED_2), wanted)
    run = np.where(bad == requests, state.bad_run[slots] + requests, 0)
    state.bad_run[slots] = np.where(has, run, state.bad_run[slots])

    asks_open = has & (wanted >= Level.OPEN)
    since = np.where(state.open_since[slots] < 0, at.boundary, state.open_since[slots])
    state.open_since[slots] = np.where(asks_open, since, np.where(has, -1, state.open_since[slots]))
    state.open_requests[slots] = np.where(
        asks_open,
        state.open_requests[slots] + requests,
        np.where(has, 0, state.open_requests[slots]),
    )
    stood = (state.open_since[slots] >= 0) & (
        at.boundary - state.open_since[slots] >= at.columns.open_stand_boundaries[at.settings]
    )
    many = state.open_requests[slots] >= at.columns.open_requests_min[at.settings]
    rare = inputs.qps < at.columns.open_bad_run_below_rps[at.settings]
    in_a_row = rare & (state.bad_run[slots] >= at.columns.open_bad_run[at.settings])
    may_open = (stood & many) | in_a_row

    is_worse = has & (wanted > before)
    least = np.where(
        state.worse_run[slots] > 0, np.minimum(state.worse_least[slots], wanted), wanted
    )
    state.worse_least[slots] = np.where(is_worse, least, state.worse_least[slots])
    longer = np.minimum(state.worse_run[slots] + 1, 1000)
    state.worse_run[slots] = np.where(
        is_worse, longer, np.where(has, 0, state.worse_run[slots])
    ).astype(np.int16)
    once = inputs.qps < at.columns.confirm_once_below_rps[at.settings]
    needed = np.where(once, 1, at.columns.confirm_boundaries[at.settings])
    level = state.worse_least[slots]
    level = np.where((level >= Level.OPEN) & ~may_open, np.uint8(Level.DEGRADED_2), level).astype(
        np.uint8
    )
    # Confirmation goes on while the panic guard holds, so that what is true is told once it ends.
    confirmed = is_worse & (state.worse_run[slots] >= needed) & inputs.may_worsen
    return confirmed & (level > before), level


def _better(at: Moment, before: npt.NDArray[np.uint8]) -> Mask:
    """Whether a better score has stood for the hysteresis; held where nothing was merged."""
    state, slots, inputs = at.state, at.slots, at.inputs
    has = inputs.after_requests > 0
    asks = has & (inputs.wanted < before)
    began = state.better_since[slots]
    since = np.where(began < 0, at.boundary, began)
    state.better_since[slots] = np.where(asks, since, np.where(has, -1, began))
    own = state.hysteresis[slots]
    needed = np.where(own > 0, own, at.columns.hysteresis_boundaries[at.settings])
    stood: Mask = asks & (at.boundary - since >= needed)
    return stood


def _half_open(at: Moment, moves: Moves) -> None:
    state, slots, inputs = at.state, at.slots, at.inputs
    is_half_open = state.level[slots] == Level.HALF_OPEN
    answers = inputs.after_requests + inputs.after_probes
    state.seen_requests[slots] += np.where(is_half_open, answers, 0)
    state.seen_bad[slots] += np.where(is_half_open, inputs.after_bad + inputs.after_probes_bad, 0)
    requests, bad = state.seen_requests[slots], state.seen_bad[slots]
    since = at.boundary - state.counts_from[slots]
    probing = is_half_open & (state.ramp_step[slots] == 0)
    ramping = is_half_open & (state.ramp_step[slots] > 0)
    share = bad / np.maximum(requests, 1)
    is_bad = (requests >= at.columns.probe_requests_min[at.settings]) & (
        share > at.columns.probe_bad_share[at.settings]
    )
    moves.happens(is_half_open & is_bad, "probes_bad", Level.OPEN)
    mostly_good = 1.0 - share > at.columns.probe_good_share[at.settings]
    is_good = (requests >= at.columns.probe_requests_min[at.settings]) & mostly_good
    moves.happens(probing & is_good, "probes_good", Level.HALF_OPEN)
    held = since >= at.columns.ramp_step_boundaries[at.settings] + inputs.age_boundaries
    enough = (requests >= at.columns.ramp_requests_min[at.settings]) | (
        since >= at.columns.ramp_patience_boundaries[at.settings]
    )
    passed = ramping & held & enough & mostly_good
    is_last = state.ramp_step[slots] >= at.columns.ramp_steps[at.settings]
    moves.happens(passed & is_last, "ramp_done", Level.CLOSED)
    moves.happens(passed, "ramp_held", Level.HALF_OPEN)
    is_late = (since >= at.columns.probe_patience_boundaries[at.settings]) & (requests > 0)
    many = probing & (requests >= at.columns.probe_patience_requests[at.settings])
    moves.happens(is_half_open & (is_late | many), "undecided", Level.DEGRADED_2)


def _enter(at: Moment, moves: Moves) -> None:
    """What a change resets, and what is remembered of it."""
    state, slots, inputs = at.state, at.slots, at.inputs
    before, to, moved = moves.before, moves.to, moves.rule > 0
    relapsed = (
        moves.by("worse_confirmed")
        & (before < Level.OPEN)
        & (state.bettered_at[slots] >= 0)
        & (
            at.boundary - state.bettered_at[slots]
            <= at.columns.relapse_within_boundaries[at.settings]
        )
    )
    base = at.columns.hysteresis_boundaries[at.settings]
    own = state.hysteresis[slots]
    doubled = np.minimum(
        2 * np.where(own > 0, own, base), at.columns.hysteresis_max_boundaries[at.settings]
    )
    state.hysteresis[slots] = np.where(relapsed, doubled, own)
    bettered = moves.by("better_stood") | moves.by("ramp_done")
    state.bettered_at[slots] = np.where(
        bettered, at.boundary, np.where(relapsed, -1, state.bettered_at[slots])
    )  # one relapse doubles once, however many levels it passes through

    leaves = moved & (before == Level.CLOSED)
    deadline = np.maximum(inputs.target_ms, inputs.p90_ms)
    state.slow_over_ms[slots] = np.where(leaves, deadline, state.slow_over_ms[slots])
    state.is_slow_caused[slots] = np.where(
        leaves, inputs.is_slow_caused, state.is_slow_caused[slots]
    )
    _sleep(at, moves)

    first_step, next_step = moves.by("probes_good"), moves.by("ramp_held")
    ramp = state.ramp_step[slots]
    state.ramp_step[slots] = np.where(
        first_step, 1, np.where(next_step, ramp + 1, np.where(moved, 0, ramp))
    )
    chosen = slots[moved]
    state.counts_from[chosen] = at.boundary
    state.seen_requests[chosen] = 0
    state.seen_bad[chosen] = 0
    state.worse_run[chosen] = 0
    state.open_since[chosen] = -1
    state.open_requests[chosen] = 0
    state.bad_run[chosen] = 0
    state.better_since[chosen] = -1
    state.level[slots] = to
    state.since_boundary[slots[to != before]] = at.boundary
    closes = slots[moved & (to == Level.CLOSED)]
    state.slow_over_ms[closes] = -1
    state.is_slow_caused[closes] = False
    calm = (
        (to == Level.CLOSED)
        & ~moved
        & (
            at.boundary - state.since_boundary[slots]
            >= at.columns.calm_reset_boundaries[at.settings]
        )
    )
    state.hysteresis[slots[calm]] = 0
    state.sleep[slots[calm]] = 0
    state.attempt[slots[calm]] = 0


def _sleep(at: Moment, moves: Moves) -> None:
    state, slots, before, to = at.state, at.slots, moves.before, moves.to
    was_awake = (before < Level.OPEN) | (before == Level.LOCKED)
    shuts = (moves.rule > 0) & (to >= Level.OPEN) & was_awake
    first = at.columns.sleep_boundaries[at.settings]
    last = np.where(state.sleep[slots] > 0, state.sleep[slots], first)
    again = np.minimum(2 * last, at.columns.sleep_max_boundaries[at.settings])
    length = np.where(moves.by("probes_bad"), again, last)
    until = at.wakes_at(length, first)
    state.sleep[slots] = np.where(shuts, length, state.sleep[slots])
    state.attempt[slots] += shuts.astype(np.int32)
    ends = (moves.rule > 0) & (to < Level.OPEN)
    state.until_boundary[slots] = np.where(
        shuts, until, np.where(ends, -1, state.until_boundary[slots])
    )
