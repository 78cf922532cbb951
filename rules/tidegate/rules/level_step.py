"""One boundary of the graded protocol, for many keys at once. The scalar oracle is in the tests."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidegate.rules.level import RULES, TRANSITIONS
from tidegate.rules.level_state import LevelChanges, LevelInputs, LevelState
from tidegate.rules.policy import SettingsColumns
from tidegate.schemas.level import Level

__all__ = ["LevelChanges", "LevelInputs", "LevelState", "step"]

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_RULE = {name: number for number, name in enumerate(RULES)}
_ALLOWED = np.zeros((len(Level), len(RULES), len(Level)), np.bool_)
for _t in TRANSITIONS:
    _ALLOWED[_t.state, _RULE[_t.guard], _t.to] = True


@dataclass(frozen=True, slots=True)
class _Moment:
    """The keys that a boundary steps, and what it says about them; shapes (m,)."""

    state: LevelState
    slots: Ints
    inputs: LevelInputs
    columns: SettingsColumns
    settings: Ints
    """Index into the columns, by key."""
    boundary: int


def step(
    state: LevelState,
    slots: Ints,
    inputs: LevelInputs,
    columns: SettingsColumns,
    settings: Ints,
    boundary: int,
) -> LevelChanges:
    """Moves the levels of these slots by one boundary. settings: index by key, shape (m,).

    Healthy keys are left alone: they are nearly all, and 60,000 through every rule cost 30 ms.
    """
    needs = (
        (state.level[slots] > 0)
        | (inputs.wanted > 0)
        | (inputs.after_bad > 0)
        | state.is_stirred[slots]
        | (state.since_boundary[slots] < 0)
    )
    rows = np.flatnonzero(needs)
    before = state.level[slots]
    changes = LevelChanges(
        np.zeros(len(slots), np.bool_),
        np.zeros(len(slots), np.int64),
        before,
        np.zeros(len(slots), np.bool_),
    )
    if len(rows):
        at = _Moment(state, slots[rows], inputs.take(rows), columns, settings[rows], boundary)
        rule, to = _step_some(at)
        changes.rule[rows] = rule
        changes.changed[rows] = rule > 0
        closes = (rule > 0) & (to == Level.CLOSED)
        changes.resets_evidence[rows] = closes & (before[rows] == Level.HALF_OPEN)
    return changes


def _step_some(
    at: _Moment,
) -> tuple[Ints, npt.NDArray[np.uint8]]:
    """(rule, new level) by key."""
    state, slots, inputs = at.state, at.slots, at.inputs
    new = slots[state.since_boundary[slots] < 0]
    state.since_boundary[new] = at.boundary
    state.asked_at[slots] = np.where(inputs.requests > 0, at.boundary, state.asked_at[slots])
    before = state.level[slots]
    rule, to = np.zeros(len(slots), np.int64), before.copy()

    def happens(mask: Mask, guard: str, level: npt.NDArray[np.uint8] | int) -> None:
        chosen = mask & (rule == 0)
        rule[chosen] = _RULE[guard]
        to[chosen] = level[chosen] if isinstance(level, np.ndarray) else level

    worse, worse_to = _worse(at, before)
    judged = before <= Level.DEGRADED_2
    degraded = judged & (before > Level.CLOSED)
    shut = (before == Level.OPEN) | (before == Level.FORCED_OPEN)
    happens(worse & (judged | (before == Level.OPEN)), "worse_confirmed", worse_to)
    one_better = np.where(before > 0, before - 1, 0).astype(np.uint8)
    happens(
        degraded & _better(at, before),
        "better_stood",
        one_better,
    )
    since = at.boundary - state.since_boundary[slots]
    minute = at.columns.idle_step_boundaries[at.settings]
    # Own effects are no requests: a key whose every call is cut by our deadline must not stay so.
    is_idle = (at.boundary - state.asked_at[slots] >= minute) & (since >= minute)
    happens(degraded & is_idle, "idle_minute", one_better)
    awake = (inputs.score > at.columns.wake_score[at.settings]) | (inputs.fast_requests == 0)
    happens(
        shut & (at.boundary >= state.until_boundary[slots]) & awake, "slept", int(Level.HALF_OPEN)
    )
    _half_open(at, happens)
    idle_out = (before > 0) & (inputs.idle_boundaries > at.columns.key_ttl_boundaries[at.settings])
    happens(idle_out, "idle_out", int(Level.CLOSED))

    refused = (rule > 0) & ~_ALLOWED[before, rule, to]
    rule[refused], to[refused] = 0, before[refused]
    _enter(at, before, to, rule)
    state.is_stirred[slots] = (
        (state.worse_run[slots] > 0)
        | (state.open_since[slots] >= 0)
        | (state.bad_run[slots] > 0)
        | (state.hysteresis[slots] > 0)
        | (state.attempt[slots] > 0)
    )
    return rule, to


def _worse(
    at: _Moment,
    before: npt.NDArray[np.uint8],
) -> tuple[Mask, npt.NDArray[np.uint8]]:
    """(confirmed, level). Only boundaries that merged requests of the present level's time say
    anything: what failed before it is exported seconds later and must not open a breaker."""
    state, slots, inputs = at.state, at.slots, at.inputs
    requests, bad = inputs.after_requests, inputs.after_bad
    has = requests > 0
    wanted = inputs.wanted
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
    return is_worse & (state.worse_run[slots] >= needed) & (level > before), level


def _better(
    at: _Moment,
    before: npt.NDArray[np.uint8],
) -> Mask:
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


def _half_open(
    at: _Moment,
    happens: Callable[[Mask, str, int], None],
) -> None:
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
    happens(is_half_open & is_bad, "probes_bad", int(Level.OPEN))
    mostly_good = 1.0 - share > at.columns.probe_good_share[at.settings]
    is_good = (requests >= at.columns.probe_requests_min[at.settings]) & mostly_good
    happens(probing & is_good, "probes_good", int(Level.HALF_OPEN))
    held = since >= at.columns.ramp_step_boundaries[at.settings] + inputs.age_boundaries
    enough = (requests >= at.columns.ramp_requests_min[at.settings]) | (
        since >= at.columns.ramp_patience_boundaries[at.settings]
    )
    passed = ramping & held & enough & mostly_good
    is_last = state.ramp_step[slots] >= at.columns.ramp_steps[at.settings]
    happens(passed & is_last, "ramp_done", int(Level.CLOSED))
    happens(passed, "ramp_held", int(Level.HALF_OPEN))
    is_late = (since >= at.columns.probe_patience_boundaries[at.settings]) & (requests > 0)
    many = probing & (requests >= at.columns.probe_patience_requests[at.settings])
    happens(is_half_open & (is_late | many), "undecided", int(Level.DEGRADED_2))


def _enter(
    at: _Moment,
    before: npt.NDArray[np.uint8],
    to: npt.NDArray[np.uint8],
    rule: Ints,
) -> None:
    """What a change resets, and what is remembered of it."""
    state, slots, inputs = at.state, at.slots, at.inputs
    moved = rule > 0
    relapsed = (
        (rule == _RULE["worse_confirmed"])
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
    bettered = (rule == _RULE["better_stood"]) | (rule == _RULE["ramp_done"])
    state.bettered_at[slots] = np.where(
        bettered, at.boundary, np.where(relapsed, -1, state.bettered_at[slots])
    )  # one relapse doubles once, however many levels it passes through

    leaves = moved & (before == Level.CLOSED)
    deadline = np.maximum(inputs.target_ms, inputs.p90_ms)
    state.slow_over_ms[slots] = np.where(leaves, deadline, state.slow_over_ms[slots])
    state.is_slow_caused[slots] = np.where(
        leaves, inputs.is_slow_caused, state.is_slow_caused[slots]
    )
    _sleep(at, before, to, rule)

    first_step = rule == _RULE["probes_good"]
    next_step = rule == _RULE["ramp_held"]
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


def _sleep(
    at: _Moment,
    before: npt.NDArray[np.uint8],
    to: npt.NDArray[np.uint8],
    rule: Ints,
) -> None:
    state, slots, inputs = at.state, at.slots, at.inputs
    shuts = (rule > 0) & (to >= Level.OPEN) & (before < Level.OPEN)
    last = state.sleep[slots]
    again = np.minimum(2 * last, at.columns.sleep_max_boundaries[at.settings])
    length = np.where(
        rule == _RULE["probes_bad"],
        again,
        np.where(last > 0, last, at.columns.sleep_boundaries[at.settings]),
    )
    spread = np.where(length > at.columns.sleep_boundaries[at.settings], length // 10 + 1, 1)
    until = at.boundary + length + inputs.jitter % spread
    state.sleep[slots] = np.where(shuts, length, last)
    state.attempt[slots] += shuts.astype(np.int32)
    state.until_boundary[slots] = np.where(
        shuts, until, np.where((rule > 0) & (to < Level.OPEN), -1, state.until_boundary[slots])
    )
