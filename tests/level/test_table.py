"""Which levels can follow which. Every pair of levels is tried: what isn't in the table can't happen."""

from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest

from tests.level.drive import POLICIES, START, inputs_of
from tests.level.protocol import Seen
from tidegate.rules.level import (
    GRADED,
    LATCHED,
    PROTOCOLS,
    RULES,
    SWITCHES,
    TEXTS,
    OperatorEvent,
    diagram,
)
from tidegate.rules.level_step import LevelState, step
from tidegate.schemas.level import Level

LEVELS = {
    protocol: {t.state for t in table} | {t.to for t in table}
    for protocol, table in PROTOCOLS.items()
}
EVERYTHING = [
    Seen(
        wanted=wanted,
        score=100 * (7 - wanted),
        requests=requests,
        bad=bad,
        probes=probes,
        probes_bad=probes_bad,
        qps=qps,
        idle=idle,
        operator=operator,
        window_error_ratio=ratio,
        window_requests=100.0,
    )
    for wanted, (requests, bad), (probes, probes_bad), qps, idle, operator, ratio in product(
        Level,
        [(0, 0), (1, 1), (6, 0), (6, 6), (30, 10)],
        [(0, 0), (12, 0), (12, 2), (12, 12)],
        [0.1, 50.0],
        [0, 10_000],
        OperatorEvent,
        [0.0, 0.9],
    )
]
EVERYTHING += [replace(seen, is_chronic=True) for seen in EVERYTHING[::7]]
"""One boundary of about all that can be said."""


@cache
def reached(protocol: str, level: Level) -> frozenset[tuple[str, Level]]:
    """(guard, next level) that one boundary leads to, from about all that can be remembered."""
    columns = POLICIES[protocol].columns
    m = len(EVERYTHING)
    slots, settings = np.arange(m), np.zeros(m, np.int64)
    found: set[tuple[str, Level]] = set()
    for ramp, age, run, sleeps in product([0, 1, 3], [1, 700], [0, 4], [False, True]):
        state = LevelState(m)
        state.level[:] = level
        state.since_boundary[:] = state.counts_from[:] = state.asked_at[:] = START - age
        state.better_since[:] = state.open_since[:] = START - age
        state.ramp_step[:] = ramp if level == Level.HALF_OPEN else 0
        state.bad_run[:] = state.worse_run[:] = run
        state.worse_least[:] = Level.FORCED_OPEN
        state.until_boundary[:] = START + 9 if sleeps else START
        inputs = inputs_of(EVERYTHING, slots)
        changes = step(state, slots, inputs, columns, settings, START)
        found |= set(zip(changes.rule.tolist(), state.level.tolist(), strict=True))
    return frozenset((RULES[int(rule)], Level(to)) for rule, to in found)


PAIRS = [
    pytest.param(protocol, state, to, id=f"{protocol}-{state.name}-{to.name}".lower())
    for protocol, state, to in product(PROTOCOLS, Level, Level)
]


@pytest.mark.parametrize(("protocol", "state", "to"), PAIRS)
def test_a_level_is_followed_by_what_the_table_says_and_by_nothing_else(
    protocol: str, state: Level, to: Level
) -> None:
    table = (*PROTOCOLS[protocol], *SWITCHES[protocol])
    allowed = {t.guard for t in table if (t.state, t.to) == (state, to)}
    happened = {guard for guard, level in reached(protocol, state) if level == to}
    assert happened - {"held"} == allowed
    assert to == state or "held" not in happened


def test_graded_keys_never_cool_nor_lock() -> None:
    assert LEVELS["graded"] == set(Level) - {Level.COOLING, Level.LOCKED}


def test_latched_keys_are_never_degraded_nor_forced_open() -> None:
    assert LEVELS["latched"] == {
        Level.CLOSED,
        Level.HALF_OPEN,
        Level.COOLING,
        Level.OPEN,
        Level.LOCKED,
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_level_can_be_left_and_comes_back_to_closed(protocol: str) -> None:
    table = PROTOCOLS[protocol]
    back = {Level.CLOSED}
    for _ in Level:
        back |= {t.state for t in table if t.to in back and t.guard != "idle_out"}
    assert back == LEVELS[protocol]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_level_can_be_reached_from_closed(protocol: str) -> None:
    there = {Level.CLOSED}
    for _ in Level:
        there |= {t.to for t in PROTOCOLS[protocol] if t.state in there}
    assert there == LEVELS[protocol]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_switch_leads_out_of_each_level_that_the_protocol_lacks(protocol: str) -> None:
    switches = [t for t in SWITCHES[protocol] if t.guard == "protocol_changed"]
    assert {t.state for t in switches} == set(Level) - LEVELS[protocol]
    assert {t.to for t in switches} <= LEVELS[protocol]


def test_open_is_entered_only_by_confirmation_or_bad_probes_and_left_only_through_half_open() -> (
    None
):
    into = {t.guard for t in GRADED if t.to == Level.OPEN}
    assert into == {"worse_confirmed", "probes_bad"}
    others = ("idle_out", "chronic")
    out = {t.to for t in GRADED if t.state == Level.OPEN and t.guard not in others}
    assert out == {Level.FORCED_OPEN, Level.HALF_OPEN}


def test_locked_is_entered_and_left_by_an_operator_alone() -> None:
    assert {t.guard for t in LATCHED if t.to == Level.LOCKED} == {"operator_lock"}
    assert {t.guard for t in LATCHED if t.state == Level.LOCKED} == {"operator_reset"}


def test_a_guard_says_the_same_wherever_it_stands() -> None:
    tables = (*PROTOCOLS.values(), *SWITCHES.values())
    assert {(t.guard, t.text) for table in tables for t in table} == set(TEXTS.items())
    assert ("held", *TEXTS) == RULES


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_diagram_names_every_transition(protocol: str) -> None:
    assert diagram(protocol).count("-->") == len(PROTOCOLS[protocol]) + 1
