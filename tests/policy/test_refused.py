"""Policies that must be refused, each with the whole text that its author sees.

Mend the texts with: python -m tests.policy.test_refused, and read what changed.
"""

import contextlib
import time
from pathlib import Path

import pytest

from tidegate.rules.policy import PolicyError, builtin_policy, load_policy
from tidegate.rules.policy_check import RULES_MAX
from tidegate.rules.policy_laws import LAWS
from tidegate.rules.policy_yaml import TEXT_CHARS_MAX
from tidegate.streams.policy_files import read_policy

FOLDER = Path(__file__).parent / "refused"
FILES = sorted(FOLDER.glob("*.yaml"))


def told(path: Path) -> str:
    """What is said about a file; empty where it is accepted."""
    try:
        with contextlib.chdir(path.parent):
            read_policy(path.name)
    except PolicyError as problem:
        return f"{problem}\n"
    return ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_refused_with_every_problem_and_its_remedy(path: Path) -> None:
    assert told(path) == path.with_suffix(".txt").read_text()
    assert told(path)


def test_every_law_between_settings_has_a_refused_file() -> None:
    texts = "".join(path.with_suffix(".txt").read_text() for path in FILES)
    starts = (
        *("lease_ms", "keys_max", "p0_min", "bands", "guarded:", "traffic_free", "_cap"),
        *("half_life_s", "match: is never", "entry_leave_share"),
    )
    assert len(starts) == len(LAWS)
    assert [start for start in starts if start not in texts] == []


def test_problems_come_as_data_too_in_the_order_of_the_file() -> None:
    with pytest.raises(PolicyError) as refused:
        load_policy("name: x\nlimits:\n  keys_max: 0\ntiming:\n  grace_ms: -1\n", where="x.yaml")
    found = [(p.where, p.line, p.path) for p in refused.value.problems]
    assert found == [("x.yaml", 3, "limits.keys_max"), ("x.yaml", 5, "timing.grace_ms")]


def test_a_pack_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(PolicyError, match=r"'adaptiv' is no pack; .* default, reference"):
        builtin_policy("adaptiv")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5_000,
        "name: x\nsettings: " + "{a: " * 500 + "1" + "}" * 500,
        "x" * (TEXT_CHARS_MAX + 1),
        "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        + "\n".join(
            f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]"
            for a, b in zip("abcdef", "bcdefg", strict=True)
        ),
        "a: &a {b: *a}",
        "name: \x00",
        "name: \ud800",
        "? [1, 2]\n: 3",
        "- " * 300_000,
        "[" * 900_000,
        "x: [" + "1," * 450_000 + "]",
        "".join(f"k{i}: 1\n" for i in range(90_000)),
        "name: " + "9" * 100_000,
    ],
    ids=[
        *("open", "deep", "long", "aliases", "cycle", "control", "surrogate", "key", "dashes"),
        *("brackets", "wide", "keys", "digits"),
    ],
)
def test_hostile_text_is_refused_within_bounds(text: str) -> None:
    began_s = time.process_time()
    with pytest.raises(PolicyError) as refused:
        load_policy(text, where="hostile")
    assert time.process_time() - began_s < 5
    assert len(refused.value.problems) <= 101
    assert max(len(line) for line in str(refused.value).split("\n")) < 400


def test_ten_thousand_rules_are_refused_with_the_limit() -> None:
    rules = "".join(f"  - match: {{service: s{i}}}\n    mode: loud\n" for i in range(10_000))
    began_s = time.process_time()
    with pytest.raises(PolicyError) as refused:
        load_policy(f"name: x\nservices:\n{rules}", where="x.yaml")
    assert str(refused.value) == f"x.yaml:2: services: 10000 rules; give at most {RULES_MAX}"
    assert time.process_time() - began_s < 3


def test_a_hundred_problems_are_told_and_the_rest_counted() -> None:
    text = "name: x\nsettings:\n" + "".join(f"  setting_{i}: 1\n" for i in range(150))
    with pytest.raises(PolicyError) as refused:
        load_policy(text, where="x.yaml")
    assert len(refused.value.problems) == 101
    assert str(refused.value.problems[-1]) == "x.yaml: and 50 more; mend these first"


if __name__ == "__main__":
    for file in FILES:
        file.with_suffix(".txt").write_text(told(file))
