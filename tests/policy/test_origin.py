"""Where each value stands, and what differs between two policies."""

from pathlib import Path

import pytest

from tidegate.rules.policy import PACKS, load_policy, policy_of_layers
from tidegate.rules.policy_layers import Layer, layers_of, pack_layers
from tidegate.rules.policy_origin import (
    changed_rules,
    changed_values,
    pack_of,
    rules_of,
    values_for,
    values_of,
)
from tidegate.streams.policy_files import layers_named, read_policy
from tidegate.streams.policy_text import show_lines

SHOP = layers_named(str(Path(__file__).parent / "extended" / "shop.yaml"))


def origins(rule: int | None) -> dict[str, str]:
    return {
        value.path: f"{Path(value.origin.where).name}:{value.origin.line}"
        for value in values_for(SHOP, rule)
    }


@pytest.mark.parametrize(
    ("rule", "path", "origin"),
    [
        (None, "settings.target_ms", "shop.yaml:5"),
        (None, "settings.mode", "base.yaml:5"),
        (None, "settings.level.sleep_s", "base.yaml:8"),
        (None, "settings.profile", "pack reference:8"),
        (0, "settings.target_ms", "shop.yaml:8"),
        (0, "settings.level.sleep_s", "base.yaml:8"),
        (1, "settings.level.sleep_s", "shop.yaml:11"),
        (1, "settings.target_ms", "shop.yaml:5"),
    ],
)
def test_a_value_stands_in_the_topmost_layer_that_has_it(
    rule: int | None, path: str, origin: str
) -> None:
    assert origins(rule)[path] == origin


@pytest.mark.parametrize("rule", [None, 0, 1])
def test_values_are_those_of_the_policy_itself(rule: int | None) -> None:
    policy = read_policy(str(Path(__file__).parent / "extended" / "shop.yaml"))
    settings = policy.settings[0 if rule is None else rule + 1]
    for value in values_for(SHOP, rule):
        here: object = settings
        section, *rest = value.path.split(".")
        if section == "settings":
            for part in rest:
                here = getattr(here, part)
            told = tuple(value.value) if isinstance(value.value, list) else value.value
            assert here == told


def test_an_origin_tells_the_rule_and_the_comment() -> None:
    own = next(v for v in values_for(SHOP, 1) if v.path == "settings.level.sleep_s")
    assert str(own.origin).endswith("shop.yaml:11 services[1]")
    assert own.origin.why == "probed sooner"
    assert not own.is_pack


@pytest.mark.parametrize("name", PACKS)
def test_a_pack_differs_from_itself_in_nothing(name: str) -> None:
    layers = pack_layers(name)
    assert pack_of(layers) == name
    assert all(value.is_pack for value in values_of(layers))
    assert changed_values(values_of(layers), values_of(layers)) == []
    assert changed_rules(layers, layers) == []


@pytest.mark.parametrize(
    "layers", [*map(pack_layers, PACKS), SHOP], ids=lambda layers: layers[-1].where
)
def test_a_shown_policy_means_the_same(layers: tuple[Layer, ...]) -> None:
    policy = policy_of_layers(layers)
    text = "\n".join(show_lines(layers, policy))
    assert load_policy(text, where="shown").label == policy.label


def with_rules(*rules: str) -> str:
    lines = [
        f"  - {{match: {{service: {rule[0]}}}, target_ms: {rule[1:] or 5}}}\n" for rule in rules
    ]
    return "name: x\nservices:\n" + "".join(lines)


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ("abc", "abc", []),
        ("abc", "ab", ["c removed 2 -> None"]),
        ("ab", "abc", ["c added None -> 2"]),
        ("abc", "bc", ["a removed 0 -> None"]),
        ("abcd", "bcda", ["a moved 0 -> 3"]),
        ("abc", "xabc", ["x added None -> 0"]),
        (["a1", "b"], ["a2", "b"], ["a changed 0 -> 0 target_ms 1 2"]),
    ],
)
def test_rules_are_known_again_by_what_they_match(
    before: list[str], after: list[str], changes: list[str]
) -> None:
    layers = [layers_of(with_rules(*rules), where="x.yaml") for rules in (before, after)]
    told = []
    for rule in changed_rules(*layers):
        line = f"{rule.match['service']} {rule.what} {rule.before} -> {rule.after}"
        for change in rule.values if rule.what == "changed" else ():
            assert change.before is not None
            assert change.after is not None
            line += f" {change.path} {change.before.value} {change.after.value}"
        told.append(line)
    assert told == changes


def test_a_match_without_a_target_is_told_without_one() -> None:
    layers = layers_of("name: x\nservices: [{match: {service: a, target: null}}]", where="x")
    assert rules_of(layers)[0].match == {"service": "a"}
