"""Which rule a key falls under, against the obvious loop; rules that nothing can reach."""

import time
from fnmatch import fnmatchcase

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tidegate.rules.policy_rules import RuleMatcher
from tidegate.rules.policy_types import Match

names = st.text("ab-", max_size=4)
patterns = st.text("ab-*?[]!", max_size=5)
rules = st.lists(
    st.builds(lambda s, t: Match(service=s, target=t), patterns, st.none() | patterns), max_size=8
)


def first(matches: list[Match], service: str, target: str) -> int:
    """The oracle: every rule, in turn."""
    for number, match in enumerate(matches, 1):
        if not fnmatchcase(service, match.service):
            continue
        if match.target is None or (target and fnmatchcase(target, match.target)):
            return number
    return 0


@given(rules, st.lists(st.tuples(names, names), max_size=5))
@example([Match(service="*", target="*"), Match(service="*")], [("", ""), ("a", ""), ("a", "b")])
@example([Match(service="*-b"), Match(service="a*"), Match(service="ab")], [("a-b", "")] * 2)
@example([Match(service="[ab]*", target="?"), Match(service="[", target=None)], [("[", "a")])
def test_the_quick_way_finds_the_rule_that_the_loop_finds(
    matches: list[Match], keys: list[tuple[str, str]]
) -> None:
    matcher = RuleMatcher(matches)
    for service, target in keys:
        assert matcher.first(service, target) == first(matches, service, target)


@given(rules, st.lists(st.tuples(names, names), max_size=20))
def test_a_rule_said_to_be_unreached_is_never_the_first(
    matches: list[Match], keys: list[tuple[str, str]]
) -> None:
    for rule, earlier in RuleMatcher(matches).unreached():
        assert earlier < rule
        assert all(first(matches, service, target) != rule + 1 for service, target in keys)


@pytest.mark.parametrize(
    ("earlier", "later", "is_unreached"),
    [
        (Match(service="*"), Match(service="pay"), True),
        (Match(service="pay"), Match(service="pay"), True),
        (Match(service="pay-*"), Match(service="pay-eu"), True),
        (Match(service="pay-*"), Match(service="pay-eu-*"), True),
        (Match(service="*-eu"), Match(service="pay-eu"), True),
        (Match(service="pay-?"), Match(service="pay-?"), True),
        (Match(service="pay-*"), Match(service="pay*"), False),
        (Match(service="pay-eu"), Match(service="pay-*"), False),
        (Match(service="pay", target="*"), Match(service="pay"), False),
        (Match(service="pay"), Match(service="pay", target="db"), True),
        (Match(service="pay", target="db*"), Match(service="pay", target="db1"), True),
        (Match(service="pay", target="db1"), Match(service="pay", target="db*"), False),
        (Match(service="PAY"), Match(service="pay"), False),
    ],
)
def test_a_rule_is_unreached_where_an_earlier_one_covers_it(
    earlier: Match, later: Match, is_unreached: bool
) -> None:
    assert RuleMatcher([earlier, later]).unreached() == ([(1, 0)] if is_unreached else [])


@pytest.mark.parametrize("service", ["s-{}", "s-{}-*", "*-{}", "*"])
def test_sixty_thousand_keys_find_their_rule_among_a_thousand_in_a_second(service: str) -> None:
    matches = [Match(service=service.format(i), target=f"db-{i}") for i in range(1000)]
    keys = [(f"s-{i % 20_000}", f"db-{i % 500}") for i in range(60_000)]
    began_s = time.process_time()
    matcher = RuleMatcher(matches)
    found = [matcher.first(*key) for key in keys]
    assert matcher.unreached() == []
    assert time.process_time() - began_s < 1
    assert found[777] == first(matches, *keys[777])


def test_names_beyond_what_is_remembered_are_still_matched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.rules.policy_rules._KNOWN_MAX", 3)
    matcher = RuleMatcher([Match(service="a*")])
    assert [matcher.first(f"{'ab'[i % 2]}{i}", "") for i in range(10)] == [1, 0] * 5
