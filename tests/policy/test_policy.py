"""Packs, what a file changes, which rule a key falls under, and the columns made of it."""

from dataclasses import fields

import msgspec
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.rules.policy import (
    PACKS,
    Policy,
    PolicyError,
    builtin_policy,
    load_policy,
)
from tidegate.schemas.outcome import FAILED_OUTCOMES, Outcome

SHOP = """
name: shop
settings:
  target_ms: 250
services:
  - match: {service: "pay-*", target: "db*"}
    target_ms: 40
  - match: {service: "pay-*"}
    mode: enforce
    level:
      sleep_s: 20
"""


@pytest.mark.parametrize("pack", PACKS)
def test_a_pack_observes_unless_told_otherwise(pack: str) -> None:
    assert {s.mode for s in builtin_policy(pack).settings} == {"observe"}
    assert not builtin_policy(pack).columns.enforce.any()


def test_default_is_guarded_and_reference_is_as_published() -> None:
    assert builtin_policy("default").settings[0].profile == "guarded"
    reference = builtin_policy("reference")
    assert reference.settings[0].profile == "reference"
    p = reference.profiles.reference
    assert (p.error_full, p.latency_ms, p.qps, p.requests_min) == (0.1, 100, 1000, 20)
    assert (p.error_weight, p.latency_weight, p.traffic_weight) == (0.4, 0.4, 0.2)
    assert p.bands == (0.8, 0.6, 0.4, 0.2)


def test_enforcing_the_reference_pack_carries_a_warning() -> None:
    assert builtin_policy("reference").warnings == ()
    enforced = load_policy(
        "name: brave\nextends: reference\nsettings: {mode: enforce}", where="brave.yaml"
    )
    assert "sheds healthy slow services" in enforced.warnings[0]
    assert load_policy("name: x\nsettings: {mode: enforce}", where="x.yaml").warnings == ()


def test_a_file_that_changes_nothing_is_the_default_under_another_name() -> None:
    same = load_policy("name: same", where="same.yaml")
    assert same.settings == builtin_policy("default").settings
    assert same.label.startswith("same@")


def test_the_version_depends_on_what_holds_not_on_how_it_is_written() -> None:
    plain = load_policy("name: x\nsettings: {target_ms: 50, mode: observe}", where="a")
    other = load_policy("# why\nname: x\nsettings:\n  target_ms: 50\n", where="b")
    assert plain.label == other.label
    assert load_policy("name: x\nsettings: {target_ms: 51}", where="c").label != plain.label


@pytest.mark.parametrize(
    ("service", "target", "target_ms", "sleep_s", "mode"),
    [
        ("cart", "", 250, 30, "observe"),
        ("pay-eu", "", 250, 20, "enforce"),
        ("pay-eu", "db1", 40, 30, "observe"),
        ("pay-eu", "mail", 250, 20, "enforce"),
        ("pay", "db1", 250, 30, "observe"),
        ("PAY-eu", "db1", 250, 30, "observe"),
    ],
)
def test_the_first_rule_that_matches_wins(
    service: str, target: str, target_ms: int, sleep_s: int, mode: str
) -> None:
    policy = load_policy(SHOP, where="shop.yaml")
    s = policy.settings[policy.settings_for(service, target)]
    assert (s.target_ms, s.level.sleep_s, s.mode) == (target_ms, sleep_s, mode)


def test_a_rule_with_a_target_is_for_edges_only() -> None:
    policy = load_policy(
        'name: x\nservices:\n  - match: {service: "*", target: "*"}\n    target_ms: 9', where="x"
    )
    assert policy.settings_for("a", "") == 0
    assert policy.settings_for("a", "b") == 1


def test_sampling_is_a_promise_that_changes_no_decision() -> None:
    labels = {
        load_policy(f"name: x\n{line}", where="x").label
        for line in ("", "sampling: none", "sampling: head")
    }
    assert len(labels) == 1


def test_columns_hold_one_row_per_settings_in_boundaries_and_thousandths() -> None:
    policy = load_policy(SHOP, where="shop.yaml")
    columns = policy.columns
    assert columns.sleep_boundaries.tolist() == [60, 60, 40]
    assert columns.target_ms.tolist() == [250, 40, 250]
    assert columns.expected_qps.tolist() == [-1.0] * 3
    assert columns.wake_score.tolist() == [600] * 3
    assert columns.enforce.tolist() == [False, False, True]
    assert columns.key_ttl_boundaries.tolist() == [7200] * 3
    for section in (columns, columns.latched, columns.incidents, columns.alerts):
        held = [getattr(section, field.name) for field in fields(section)]
        assert {len(column) for column in held if isinstance(column, np.ndarray)} == {3}


def test_outcomes_that_fail_are_those_of_the_block_format() -> None:
    failed = {o for o in Outcome if builtin_policy("default").columns.is_failed[0, o]}
    assert failed == FAILED_OUTCOMES


def test_columns_are_plain_numbers_whatever_yaml_wrote() -> None:
    policy = load_policy("name: x\nsettings: {expected_qps: 5, level: {probe_per_s: 2}}", where="x")
    assert policy.columns.expected_qps.dtype == np.float64
    assert policy.settings[0].level.probe_per_s == 2.0


def given_back(policy: Policy) -> str:
    """The policy's effective settings as a file."""
    whole = msgspec.to_builtins(policy.file)
    whole["services"] = [
        {"match": {k: v for k, v in rule["match"].items() if v is not None}, **rule["settings"]}
        for rule in whole["services"]
    ]
    return yaml.safe_dump(whole)


@pytest.mark.parametrize(
    "policy", [*map(builtin_policy, PACKS), load_policy(SHOP, where="shop")], ids=lambda p: p.label
)
def test_effective_settings_written_out_are_the_same_policy(policy: Policy) -> None:
    assert load_policy(given_back(policy), where="again").label == policy.label


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(
    st.sampled_from(
        [
            *("name", "extends", "sampling", "timing", "profiles", "settings", "services"),
            *("limits", "blast_radius", "findings", "baseline", "warning", "match"),
        ]
    ),
    values,
)
def test_any_value_anywhere_is_accepted_or_refused_with_a_message(name: str, value: object) -> None:
    text = yaml.safe_dump({"name": "x"} | {name: value})
    try:
        found = load_policy(text, where="any.yaml").settings
    except PolicyError as refused:
        found, told = (), str(refused)
    assert found or all(line.startswith("any.yaml") for line in told.split("\n"))


@settings(deadline=None)
@given(st.sampled_from(["level", "outcome_weights", "latched", "incidents", "alerts"]), st.data())
def test_any_setting_of_a_wrong_type_is_refused_with_its_path(
    section: str, data: st.DataObject
) -> None:
    whole = yaml.safe_load(given_back(builtin_policy("default")))
    name = data.draw(st.sampled_from(sorted(whole["settings"][section])))
    text = yaml.safe_dump({"name": "x", "settings": {section: {name: {"a": 1}}}})
    with pytest.raises(PolicyError, match=rf"settings\.{section}\.{name}"):
        load_policy(text, where="x")
