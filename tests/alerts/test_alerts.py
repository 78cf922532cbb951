"""Alerts: what is said when, by a plain oracle; which rules call whom; silences; words."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.alerts.oracle import TIERS, Standing
from tidegate.rules.alert_texts import TITLES, alert_of, incident_id, slo_reason
from tidegate.rules.alerts import RULES, AlertEvent, AlertState, end, silenced, step
from tidegate.rules.policy import builtin_policy
from tidegate.rules.policy_columns import AlertColumns
from tidegate.schemas.alert import AlertSignals, decode_alert, encode_alert
from tidegate.schemas.control import SilenceSet

START = 3_600_000_000
RESOLVE_AFTER, REPEAT = 4, 10
SCOPES = ("edge:a->b", "service:a", "service:b")
DEFAULT = builtin_policy("default").columns.alerts
QUICK = replace(
    DEFAULT,
    resolve_after_boundaries=np.array([RESOLVE_AFTER]),
    repeat_boundaries=np.array([REPEAT]),
)
SLO = RULES.index("slo")


def silence(scope: str, start: int, until: int) -> SilenceSet:
    """In boundaries from START on."""
    return SilenceSet(
        by="ann",
        reason="works",
        asked_ms=0,
        scope=scope,
        from_ms=(START + start) * 500,
        until_ms=(START + until) * 500,
    )


class Driver:
    """The keys of SCOPES in lockstep."""

    def __init__(self, columns: AlertColumns = QUICK) -> None:
        self.columns = columns
        self.state = AlertState(len(SCOPES) + 1)
        self.live = np.array([3, 1, 2])  # slots say nothing about the order of scopes
        self.scopes = ["", *(SCOPES[i] for i in (1, 2, 0))]
        self.silences: Sequence[SilenceSet] = ()
        self.boundary = START - 1

    def step(self, slo: Sequence[int], holding: Sequence[tuple[int, str]] = ()) -> list[AlertEvent]:
        """slo: tier by key; holding: (key, rule)."""
        self.boundary += 1
        conditions = np.zeros((len(SCOPES), len(RULES)), np.bool_)
        for row, rule in holding:
            conditions[row, RULES.index(rule)] = True
        out = step(
            self.state,
            self.live,
            np.array(slo, np.uint8),
            conditions,
            self.columns,
            np.zeros(len(SCOPES), np.int64),
            self.boundary,
            scopes=self.scopes,
            silences=self.silences,
        )
        assert not self.state.tier[0].any()
        return out

    def end(self, row: int) -> list[AlertEvent]:
        slots = self.live[[row]]
        out = end(self.state, slots, self.boundary, scopes=self.scopes, silences=self.silences)
        self.state.reset(slots)
        return out


def run(
    tiers: Sequence[int], silences: Sequence[SilenceSet] = ()
) -> list[tuple[int, str, str, bool]]:
    """A timeline of `slo` of service:a -> (boundary, event, tier, whether it calls anybody)."""
    driver = Driver()
    driver.silences = silences
    out: list[tuple[int, str, str, bool]] = []
    for tier in tiers:
        for e in driver.step([0, tier, 0]):
            assert driver.scopes[e.slot] == "service:a"
            out.append((driver.boundary - START, e.event, e.tier, e.silenced is None))
    return out


P2, P1 = 1, 2


@pytest.mark.parametrize(
    ("tiers", "said"),
    [
        pytest.param([0] * 30, [], id="nothing"),
        pytest.param(
            [P2] * 3 + [0] * 6,
            [(0, "start", "P2", True), (7, "resolve", "P2", True)],
            id="resolved after it was gone for a while",
        ),
        pytest.param(
            [P1, 0, 0, 0, 0, P1, 0, 0, 0, 0, 0],
            [(0, "start", "P1", True), (10, "resolve", "P1", True)],
            id="a pause is no end",
        ),
        pytest.param(
            [P2, P1, P1],
            [(0, "start", "P2", True), (1, "change", "P1", True)],
            id="worse at once",
        ),
        pytest.param(
            [P1] + [P2] * 6,
            [(0, "start", "P1", True), (5, "change", "P2", True)],
            id="milder only after it stood",
        ),
        pytest.param(
            [P1, P2, P2, P2, P1, P2, P2, P2, P2],
            [(0, "start", "P1", True)],
            id="milder for moments",
        ),
        pytest.param(
            [P1] + [0] * 3 + [P2] * 2,
            [(0, "start", "P1", True), (5, "change", "P2", True)],
            id="gone counts as milder",
        ),
        pytest.param(
            [P2] * 12 + [0] * 5,
            [(0, "start", "P2", True), (10, "repeat", "P1", True), (16, "resolve", "P1", True)],
            id="a P2 that lasts becomes P1",
        ),
        pytest.param(
            [P1] * 21,
            [(0, "start", "P1", True), (10, "repeat", "P1", True), (20, "repeat", "P1", True)],
            id="a P1 is told again",
        ),
        pytest.param(
            [P2] * 9 + [0] * 3 + [P2],
            [(0, "start", "P2", True), (12, "repeat", "P1", True)],
            id="not told again while it is gone",
        ),
        pytest.param(
            [P2] * 11 + [P2] * 9,
            [(0, "start", "P2", True), (10, "repeat", "P1", True)],
            id="once escalated it stays so",
        ),
        pytest.param(
            [P1] + [0] * 5 + [P2],
            [(0, "start", "P1", True), (5, "resolve", "P1", True), (6, "start", "P2", True)],
            id="a new one begins anew",
        ),
    ],
)
def test_what_is_said_of_one_alert(
    tiers: list[int], said: list[tuple[int, str, str, bool]]
) -> None:
    assert run(tiers) == said


@pytest.mark.parametrize(
    ("tiers", "window", "said"),
    [
        pytest.param(
            [P2] * 8,
            (0, 5),
            [(0, "start", "P2", False), (5, "repeat", "P2", True)],
            id="told when the silence ends while it lasts",
        ),
        pytest.param(
            [P2] + [0] * 8,
            (0, 20),
            [(0, "start", "P2", False), (5, "resolve", "P2", False)],
            id="begun and ended in silence",
        ),
        pytest.param(
            [P2] + [0] * 8,
            (0, 3),
            [(0, "start", "P2", False), (5, "resolve", "P2", False)],
            id="nobody is told of the end of what nobody was told of",
        ),
        pytest.param(
            [P2] * 2 + [0] * 8,
            (1, 20),
            [(0, "start", "P2", True), (6, "resolve", "P2", True)],
            id="who was called is told of the end, silence or not",
        ),
        pytest.param(
            [P2] * 25,
            (0, 12),
            [
                (0, "start", "P2", False),
                (10, "repeat", "P2", False),
                (12, "repeat", "P2", True),
                (22, "repeat", "P1", True),
            ],
            id="a silence is no reason to escalate",
        ),
        pytest.param(
            [P2] * 9,
            (3, 6),
            [(0, "start", "P2", True)],
            id="a silence in which nothing happened spared nobody",
        ),
        pytest.param(
            [P2, P2, P1, P1, P1, P1],
            (1, 4),
            [(0, "start", "P2", True), (2, "change", "P1", False), (4, "repeat", "P1", True)],
            id="a change in silence is told afterwards",
        ),
    ],
)
def test_silences(
    tiers: list[int], window: tuple[int, int], said: list[tuple[int, str, str, bool]]
) -> None:
    assert run(tiers, [silence("service:*", *window)]) == said


def test_a_cleared_silence_tells_what_lasts() -> None:
    driver = Driver()
    driver.silences = [silence("*", 0, 1000)]
    (start,) = driver.step([0, P1, 0])
    assert start.silenced == "ann: works"
    assert driver.step([0, P1, 0]) == []
    driver.silences = []
    (told,) = driver.step([0, P1, 0])
    assert (told.event, told.tier, told.silenced, told.number) == ("repeat", "P1", None, 2)


@pytest.mark.parametrize(
    ("scope", "pattern", "at", "is_silenced"),
    [
        ("service:pay", "service:pay", 5, True),
        ("service:pay", "service:p*", 5, True),
        ("service:pay", "*", 5, True),
        ("edge:shop->pay", "edge:*->pay", 5, True),
        ("service:pay2", "service:pay", 5, False),
        ("service:Pay", "service:pay", 5, False),
        ("service:pay", "service:pay", 2, True),
        ("service:pay", "service:pay", 1, False),
        ("service:pay", "service:pay", 9, True),
        ("service:pay", "service:pay", 10, False),
    ],
)
def test_a_silence_holds_for_its_scopes_and_time(
    scope: str, pattern: str, at: int, is_silenced: bool
) -> None:
    found = silenced(scope, (START + at) * 500, [silence(pattern, 2, 10)])
    assert found == ("ann: works" if is_silenced else None)


@pytest.mark.parametrize("pack", ["default", "reference"])
@pytest.mark.parametrize(
    ("rule", "tier"),
    [
        ("L2", "P2"),
        ("L3", "P1"),
        ("L4", "P1"),
        ("L5", "P1"),
        ("chronic", "P2"),
        ("drift", None),
        ("hollow", "P2"),
        ("slo", None),  # its tiers come apart: a condition of its own has none
    ],
)
def test_each_rule_has_its_tier(pack: str, rule: str, tier: str | None) -> None:
    driver = Driver(builtin_policy(pack).columns.alerts)
    said = [(e.rule, e.event, e.tier) for e in driver.step([0, 0, 0], [(0, rule)])]
    assert said == ([(rule, "start", tier)] if tier else [])


def test_l1_is_no_rule_that_alerts() -> None:
    assert "L1" not in RULES
    assert "l1" not in {f.name for f in fields(AlertColumns)}


def test_a_policy_that_takes_a_rules_tier_away_lets_its_alert_end() -> None:
    driver = Driver()
    driver.step([0, 0, 0], [(0, "L3")])
    driver.columns = replace(QUICK, l3=np.array([0]))
    said = [e for _ in range(6) for e in driver.step([0, 0, 0], [(0, "L3")])]
    assert [(e.rule, e.event) for e in said] == [("L3", "resolve")]


def test_events_come_by_scope_then_rule() -> None:
    said = Driver().step([0, P1, P2], [(2, "hollow"), (0, "L3"), (1, "L5"), (1, "L4")])
    assert [(e.slot, e.rule) for e in said] == [
        (3, "L3"),
        (1, "slo"),
        (1, "L4"),
        (1, "L5"),
        (2, "slo"),
        (2, "hollow"),
    ]


def test_a_key_that_ends_resolves_what_stands() -> None:
    driver = Driver()
    driver.step([0, P1, 0], [(1, "hollow"), (0, "L3")])
    assert [(e.rule, e.event, e.number) for e in driver.end(1)] == [
        ("slo", "resolve", 2),
        ("hollow", "resolve", 2),
    ]
    assert driver.end(1) == []
    (again,) = driver.step([0, P1, 0], [(0, "L3")])
    assert (again.event, again.since_boundary) == ("start", START + 1)


@dataclass(frozen=True)
class Moment:
    """Some boundaries that are alike."""

    boundaries: int
    slo: tuple[int, ...]
    holding: frozenset[tuple[int, str]]
    ends: int | None


moments = st.builds(
    Moment,
    boundaries=st.sampled_from([1, 1, 2, 3, 4, 5, 9, 10, 11]),
    slo=st.tuples(*[st.sampled_from([0, P2, P1])] * len(SCOPES)),
    holding=st.frozensets(
        st.tuples(st.integers(0, len(SCOPES) - 1), st.sampled_from(["L3", "hollow", "drift"])),
        max_size=4,
    ),
    ends=st.sampled_from([None, None, None, 0, 1]),
)
silences = st.lists(
    st.builds(
        lambda scope, start, length: silence(scope, start, start + length),
        st.sampled_from(["*", "service:a", "edge:*", "service:[ab]"]),
        st.integers(0, 60),
        st.integers(1, 30),
    ),
    max_size=3,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(moments, max_size=12), silences)
def test_all_that_is_said_equals_a_plain_oracle_and_its_laws(
    timeline: list[Moment], given_silences: list[SilenceSet]
) -> None:
    driver = Driver()
    driver.silences = given_silences
    pairs = [(row, rule) for row in range(len(SCOPES)) for rule in RULES]
    oracles = {pair: Standing(RESOLVE_AFTER, REPEAT) for pair in pairs}
    heard: dict[tuple[str, str], list[AlertEvent]] = {}
    for moment in timeline:
        for _ in range(moment.boundaries):
            events = driver.step(moment.slo, sorted(moment.holding))
            now = driver.boundary
            by = [silenced(scope, now * 500, given_silences) for scope in SCOPES]
            expected = []
            for row, rule in pairs:
                wanted = TIERS.index(_tier(rule)) if (row, rule) in moment.holding else 0
                if rule == "slo":
                    wanted = moment.slo[row]
                said = oracles[row, rule].step(now, wanted, by[row])
                if said is not None:
                    expected.append((int(driver.live[row]), rule, said))
            assert [(e.slot, e.rule) for e in events] == [(s, r) for s, r, _ in expected]
            for event, (_, _, said) in zip(events, expected, strict=True):
                assert (event.event, event.tier, event.number) == (
                    said.event,
                    said.tier,
                    said.number,
                )
                assert (event.since_boundary, event.silenced) == (said.since, said.silenced)
            _hear(heard, driver, events)
        if moment.ends is not None:
            events = driver.end(moment.ends)
            ended = [oracles[moment.ends, rule].end(driver.boundary, None) for rule in RULES]
            assert [e.number for e in events] == [s.number for s in ended if s is not None]
            _hear(heard, driver, events)
    for events in heard.values():
        _check_laws(events)


def _tier(rule: str) -> str:
    return {"L3": "P1", "hollow": "P2", "drift": "none"}[rule]


def _hear(
    heard: dict[tuple[str, str], list[AlertEvent]], driver: Driver, events: list[AlertEvent]
) -> None:
    for event in events:
        heard.setdefault((driver.scopes[event.slot], event.rule), []).append(event)


def _check_laws(events: list[AlertEvent]) -> None:
    """Starts and resolves take turns, numbers rise by one, nobody hears of the end alone."""
    number = 0
    is_told = False
    for event in events:
        assert event.rule in RULES
        assert (event.event == "start") == (number == 0)
        number += 1
        assert event.number == number
        if event.event == "resolve":
            assert is_told == (event.silenced is None)
            number, is_told = 0, False
        else:
            is_told |= event.silenced is None


def test_an_alert_in_words() -> None:
    event = AlertEvent(1, "slo", "repeat", "P1", START, 3, None)
    signals = AlertSignals(requests=410, error_ratio=0.0212, slow_ratio=0.12, p95_over_ms=1200)
    pack = builtin_policy("default").settings[0].alerts
    reason = slo_reason(signals, "P1", pack)
    assert reason == (
        "error ratio 2.12 % of 410 requests in 5 min, limit 1 %; 12 % slower than 1200 ms, "
        "limit 5 % (P95)"
    )
    alert = alert_of(
        event,
        scope="service:pay",
        boundary=START + 20,
        partition=2,
        level="open",
        policy="default@1",
        reason=reason,
        signals=signals,
        exemplars=["ab"],
    )
    assert decode_alert(encode_alert(alert)) == alert
    assert alert.title == "P1 service:pay: slow or failing over 5 min"
    assert alert.id == incident_id("service:pay", "slo", START * 500)
    assert (alert.at_ms, alert.since_ms) == ((START + 20) * 500, START * 500)
    assert slo_reason(AlertSignals(requests=0), "P1", pack) == "no request in 5 min"


def test_an_incident_is_named_by_scope_rule_and_start() -> None:
    # sha256sum of `service:pay|slo|1800000000000`
    assert incident_id("service:pay", "slo", 1_800_000_000_000) == "5384ef125541904e"


def test_every_rule_has_a_title() -> None:
    assert tuple(TITLES) == RULES
