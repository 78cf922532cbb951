"""The language of expectations and actions, and when an expectation came true."""

import msgspec
import pytest

from tidegate.client.testing import decision as plain_decision
from tidegate.rules.outputs import Outputs
from tidegate.schemas.alert import Alert
from tidegate.schemas.control import OverrideSet, PolicyPush
from tidegate.schemas.decision import Decision, Finding, Incident, LevelName
from tidegate.streams.policy_test.asking import FORMS, parse_action
from tidegate.streams.policy_test.expect import Expectation, Failure, judge
from tidegate.streams.policy_test.expect_grammar import parse_check, parse_when, split_within
from tidegate.streams.policy_test.history import History
from tidegate.streams.policy_test.traffic import BASE_MS

PAY = "service:pay"


def expectation(when_text: str, text: str) -> Expectation:
    told: list[str] = []
    rest, within_ms = split_within(text, told.append)
    when, check = parse_when(when_text, within_ms, told.append), parse_check(rest, told.append)
    assert told == []
    assert when is not None
    assert check is not None
    return Expectation("it.yaml", 7, f"{when_text}: {text}", when, check)


def decided(at_s: float, level: LevelName, scope: str = PAY, **actions: object) -> Decision:
    boundary = (BASE_MS + int(at_s * 1000)) // 500
    made = plain_decision(scope, level, boundary=boundary, enforce=False)
    return msgspec.structs.replace(
        made,
        actions=msgspec.structs.replace(made.actions, **actions),
        incidents=[Incident(rule="L3", since_ms=0, reason="")] if level == "open" else [],
        findings=[Finding(name="drift", since_ms=0, reason="")] if level == "open" else [],
    )


def alert(at_s: float, event: str, *, tier: str = "P1", silenced: str | None = None) -> Alert:
    return msgspec.convert(
        {
            "id": "a",
            "number": 1,
            "event": event,
            "tier": tier,
            "rule": "slo",
            "scope": PAY,
            "since_ms": 0,
            "at_ms": 0,
            "boundary": (BASE_MS + int(at_s * 1000)) // 500,
            "partition": 0,
            "title": "",
            "reason": "too many",
            "level": "closed",
            "policy": "p@1",
            "silenced": silenced,
        },
        Alert,
    )


def story() -> History:
    """Closed from 1 s, open from 10 s, closed from 20 s, ended at 29 s; 30 s long. Alert from 12 to 25 s."""
    history = History()
    history.moments = list(range(500, 30_001, 500))
    history.add(
        Outputs(
            decisions=[
                decided(1, "closed"),
                decided(10, "open", admit_ratio=0.0, retry_after_s=30, eject=["pod-1"], cache=True),
                decided(20, "closed"),
            ],
            shadow=[decided(5, "degraded_2")],
            tombstones=[((BASE_MS + 29_000) // 500, PAY)],
            alerts=[alert(12, "start"), alert(15, "change", silenced="me"), alert(25, "resolve")],
        )
    )
    return history


HOLDS = [
    ("at 5s", f"{PAY} level=closed"),
    ("at 10s", f"{PAY} level=open"),
    ("at 9s", f"{PAY} level=open within 1s"),
    ("at 10s..19500ms", f"{PAY} level>=open and level<forced_open and level!=closed"),
    ("at 5s", f"{PAY} not level=open"),
    ("at 12s", f"{PAY} admit_ratio<1 and action retry_after_s>=30 and action eject"),
    ("at 12s", f"{PAY} eject=pod-1 and eject!=pod-2 and action cache and cache=true"),
    ("at 5s", f"{PAY} retry_after_s=none and not failover and failover=false and not eject"),
    ("at 12s", f"{PAY} incident L3 and finding drift and not incident L4 and not finding hollow"),
    ("at 12s", f"{PAY} reason matches /is open, a test/ and reason lacks /[0-9]{{3}}/"),
    ("at 12s", f"{PAY} score<0.4 and error_ratio<=0% and requests=100 and changes=1"),
    ("at 12s", f"{PAY} mode=observe and protocol!=latched and policy=test and policy=test@0"),
    ("at 12s", f"{PAY} evidence=none and not overridden"),
    ("always", f"{PAY} level<=open"),
    ("never", f"{PAY} level=locked"),
    ("eventually", f"{PAY} level=open"),
    ("eventually", f"{PAY} level=open within 10s"),
    ("at 29s", f"{PAY} ended"),
    ("at 5s..30s", f"shadow {PAY} level=degraded_2"),
    ("at 12s..24500ms", "alert P1"),
    ("at 12s..14500ms", f"alert P1 slo {PAY} loud"),
    ("at 16s", "alert slo service:* silenced"),
    ("at 11s", "no alert"),
    ("at 26s", "no alert"),
    ("never", "alert P2"),
    ("never", "alert L3"),
    ("at 12s", "alert started"),
    ("at 14s", "alert changed within 1s"),
    ("eventually", "alert P1 resolved"),
    ("never", "alert repeated"),
]
FAILS = [
    ("at 500ms", f"{PAY} level=closed", "nothing was decided yet, at 0.5s"),
    ("at 10s", f"{PAY} level=closed", "level open, at 10s"),
    ("at 5s", f"{PAY} level=open within 4500ms", "level closed, at 9.5s"),
    ("at 5s..15s", f"{PAY} level=closed", "level open, at 10s"),
    ("always", f"{PAY} admit_ratio=1", "admit_ratio 0, level open, at 10s"),
    ("never", f"{PAY} level=open", "level open, at 10s"),
    ("eventually", f"{PAY} level=locked", "the scope has ended, at 30s"),
    ("eventually", f"{PAY} level=open within 9s", "level closed, at 9s"),
    ("always", "service:shop level=closed", f"no such scope; there were {PAY}, at 30s"),
    ("never", "service:shop level=open", f"no such scope; there were {PAY}, at 30s"),
    ("at 12s", f"{PAY} incident L4", "incident L3, level open, at 12s"),
    ("at 5s", f"{PAY} finding drift", "finding none, level closed, at 5s"),
    ("at 30s", f"{PAY} level=closed", "the scope has ended, at 30s"),
    ("at 12s", f"{PAY} failover", "failover false, level open, at 12s"),
    ("at 12s", f"{PAY} eject=pod-2", "eject pod-1, level open, at 12s"),
    ("at 12s", f"{PAY} retry_after_s=none", "retry_after_s 30, level open, at 12s"),
    ("at 5s", f"{PAY} retry_after_s>=1", "retry_after_s none, level closed, at 5s"),
    ("never", "alert", f"P1 slo {PAY} start: too many, at 12s"),
    ("at 20s", "alert P2", f"P1 slo {PAY} change, silenced: too many, at 20s"),
    ("at 13s", "alert started", f"P1 slo {PAY} start: too many, at 13s"),
    ("at 26s", "alert", "no alert, at 26s"),
]


@pytest.mark.parametrize(("when", "text"), HOLDS)
def test_an_expectation_comes_true(when: str, text: str) -> None:
    assert judge(expectation(when, text), story()) is None


@pytest.mark.parametrize(("when", "text", "found"), FAILS)
def test_an_expectation_that_does_not_says_what_there_was(when: str, text: str, found: str) -> None:
    failure = judge(expectation(when, text), story())
    assert isinstance(failure, Failure)
    assert failure.found == found
    assert (failure.where, failure.line, failure.text) == ("it.yaml", 7, f"{when}: {text}")
    assert failure.time_line


def test_the_time_line_shows_what_was_around_the_moment_and_counts_the_rest() -> None:
    history = History()
    history.moments = list(range(500, 30_001, 500))
    levels: list[LevelName] = ["closed", "degraded_1"]
    history.add(Outputs(decisions=[decided(1 + i, levels[i % 2]) for i in range(20)]))
    failure = judge(expectation("at 10s", f"{PAY} level=open"), history)
    assert failure is not None
    marks = [line[0] for line in failure.time_line[1:]]
    assert failure.time_line[0] == PAY
    assert "6 earlier" in failure.time_line[1]
    assert "7 later" in failure.time_line[-1]
    assert [i for i, mark in enumerate(marks) if mark == ">"] == [4]


REFUSED_WHENS = [
    ("at", "at: '' is no time; give one with its unit: 20ms, 1.5s, 2m, 1m30s"),
    ("at 0s", "at 0s: nothing is known yet; the first boundary is `at 500ms`"),
    ("at 1250ms", "at: 1250ms is between two boundaries; give a multiple of 500ms"),
    ("at 9s..3s", "at 9s..3s: ends before it begins"),
    ("allways", "'allways' is no time; did you mean `always`? `at 63s`, `at 10s..60s`, `always`, `never`, `eventually`"),
    ("63s", "'63s' is no time; begin with `at 63s`, `at 10s..60s`, `always`, `never`, `eventually`"),
]  # fmt: skip
REFUSED_CHECKS = [
    ("", "is empty; give a scope and what is expected of it: service:payments level>=open"),
    ("payments level=open", "'payments' is not a scope; expected service:NAME, edge:CALLER->CALLEE, inbound:NAME or graph:ENTRY, or `alert`"),
    (PAY, "'service:pay' expects nothing; give a scope and a predicate: service:payments level=open"),
    (f"{PAY} level=opne", "'opne' is no level; did you mean `open`?"),
    (f"{PAY} level", "level is compared with nothing; give level=…"),
    (f"{PAY} lvel=open", "'lvel' is no field; did you mean `level`?"),
    (f"{PAY} score=high", "score: 'high' is no number; give one without a unit, or a percentage"),
    (f"{PAY} p95_ms>20ms", "p95_ms: '20ms' is no number; give one without a unit, or a percentage"),
    (f"{PAY} mode>enforce", "mode is a word; compare it with = or !="),
    (f"{PAY} incident L9", "'L9' is no incident; allowed: L1, L2, L3, L4, L5"),
    (f"{PAY} reason matches /(/", "/(/ is no regular expression: missing ), unterminated subpattern at position 0"),
    (f"{PAY} level=open or score<1", "'or score<1' is left over; join predicates with `and`"),
    (f"{PAY} failovr", "'failovr' is no predicate; did you mean `failover`?"),
    ("alert resolve", "'resolve' is no word of an alert; did you mean `resolved`?"),
    ("alert P1 P2", "'P2': the tier stands twice; give one"),
]  # fmt: skip
REFUSED_ACTIONS = [
    ("", "'' is no action; allowed: override, lock, reset, relearn, silence, policy"),
    ("overide x open for 1s", "'overide' is no action; did you mean `override`?"),
    ("override service:pay opn for 20s", "'opn' is no level; did you mean `open`?"),
    ("override service:pay open", "'override service:pay open' is not how it is said; write `override SCOPE LEVEL for TIME` or `override clear SCOPE`"),
    ("silence x for 1250ms", "1250ms is between two boundaries; give a multiple of 500ms"),
    ("policy push default grey 120%", "'grey 120%' is no roll-out; give full, shadow, or grey 20%"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), REFUSED_WHENS)
def test_a_wrong_time_is_refused(text: str, message: str) -> None:
    told: list[str] = []
    parse_when(text, None, told.append)
    assert told == [message]


@pytest.mark.parametrize("when", ["always", "never", "at 1s..2s"])
def test_within_is_refused_where_it_says_nothing(when: str) -> None:
    told: list[str] = []
    parse_when(when, 1_000, told.append)
    assert len(told) == 1
    assert told[0].startswith("`within` says nothing beside")


@pytest.mark.parametrize(("text", "message"), REFUSED_CHECKS)
def test_a_wrong_predicate_is_refused(text: str, message: str) -> None:
    told: list[str] = []
    assert parse_check(text, told.append) is None
    assert told == [message]


def action(text: str, told: list[str]) -> object:
    return parse_action(text, 30_000, told.append, policy_text=lambda name: f"name: {name}\n")


@pytest.mark.parametrize(("text", "message"), REFUSED_ACTIONS)
def test_a_wrong_action_is_refused(text: str, message: str) -> None:
    told: list[str] = []
    assert action(text, told) is None
    assert told == [message]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_action_reads(form: str) -> None:
    told: list[str] = []
    text = form.partition(" [")[0].replace("SCOPE", "service:*").replace("LEVEL", "open")
    assert action(text.replace("TIME", "20s").replace("NAME", "default"), told) is not None
    assert told == []


def test_an_action_becomes_a_control_record() -> None:
    told: list[str] = []
    override = action("override service:pay open for 20s", told)
    assert isinstance(override, OverrideSet)
    assert (override.scope, override.level, override.until_ms) == (PAY, "open", BASE_MS + 50_000)
    for how, rollout, share, services in (
        ("", "full", 0.0, []),
        (" shadow", "shadow", 0.0, []),
        (" grey 20%", "grey", 0.2, []),
        (" grey pay,shop-*", "grey", 0.0, ["pay", "shop-*"]),
    ):
        push = action(f"policy push shop.yaml{how}", told)
        assert isinstance(push, PolicyPush)
        assert (push.rollout, push.share, push.services) == (rollout, share, services)
        assert push.text == "name: shop.yaml\n"
    assert told == []
