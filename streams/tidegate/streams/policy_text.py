"""Policies as people read them: whole with the source of each value, what differs, what holds for a key."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import yaml

from tidegate.rules.policy import Policy
from tidegate.rules.policy_layers import Layer, effective
from tidegate.rules.policy_origin import (
    RuleChange,
    RuleValues,
    Value,
    ValueChange,
    pack_of,
    rules_of,
    values_of,
)

__all__ = [
    "change_lines",
    "change_report",
    "explain_lines",
    "explain_report",
    "head_of",
    "made_of",
    "match_text",
    "show_lines",
    "show_report",
]


def made_of(layers: Sequence[Layer]) -> str:
    """`shop.yaml over base.yaml over pack default`."""
    files = [layer.where for layer in reversed(layers) if not layer.is_pack]
    return " over ".join([*files, f"pack {pack_of(layers)}"])


def match_text(match: dict[str, str]) -> str:
    """`{service: pay-*, target: db}`."""
    return "{" + ", ".join(f"{name}: {text}" for name, text in match.items()) + "}"


def show_lines(layers: Sequence[Layer], policy: Policy) -> Iterator[str]:
    """A whole policy as YAML that means the same, with where each value stands behind it."""
    yield f"# {policy.label}: {made_of(layers)}"
    values = values_of(layers)
    for value in values:
        if value.path == "name":
            yield from _nested([value], 0)
    yield from _nested([value for value in values if value.path != "name"], 0)
    rules = rules_of(layers)
    yield "services:" if rules else "services: []"
    for rule in rules:
        yield f"  - match: {_leaf(rule.match)}"
        yield from _nested(rule.values, 4)


def show_report(layers: Sequence[Layer], policy: Policy) -> dict[str, Any]:
    """The same for programs."""
    return {
        "policy": policy.label,
        "made_of": [layer.where for layer in layers],
        "effective": effective(layers),
        "origins": {value.path: _origin(value) for value in values_of(layers)},
        "rules": [_rule_report(rule) for rule in rules_of(layers)],
    }


def change_lines(values: Iterable[ValueChange], rules: Iterable[RuleChange]) -> Iterator[str]:
    """What differs, one setting a line."""
    for change in values:
        yield _change_line(change)
    for rule in rules:
        at = rule.after if rule.before is None else rule.before
        place = f"services[{at}]"
        if rule.before is not None and rule.after is not None and rule.before != rule.after:
            place = f"services[{rule.before}] -> services[{rule.after}]"
        yield f"{place} {match_text(rule.match)}: {rule.what}"
        for change in rule.values:
            yield f"  {_change_line(change)}"


def change_report(
    values: Iterable[ValueChange], rules: Iterable[RuleChange]
) -> dict[str, list[dict[str, Any]]]:
    """The same for programs."""
    return {
        "values": [_change(change) for change in values],
        "rules": [
            {
                "match": rule.match,
                "what": rule.what,
                "before": rule.before,
                "after": rule.after,
                "values": [_change(change) for change in rule.values],
            }
            for rule in rules
        ],
    }


def explain_lines(values: Sequence[Value], *, head: str, pack: str, is_all: bool) -> Iterator[str]:
    """What holds for one key: a setting a line, with where it stands."""
    yield head
    told = [value for value in values if is_all or not value.is_pack]
    if not told:
        yield f"every setting is as in pack {pack}; --all shows them"
        return
    width = max(len(value.path) for value in told)
    shown = [_leaf(value.value) for value in told]
    second = min(max(map(len, shown)), 24)
    for value, text in zip(told, shown, strict=True):
        why = f"  # {value.origin.why}" if value.origin.why else ""
        yield f"{value.path:<{width}}  {text:<{second}}  {value.origin}{why}"
    left = len(values) - len(told)
    if left:
        yield f"{left} more are as in pack {pack}; --all shows them"


def explain_report(values: Sequence[Value], *, is_all: bool) -> list[dict[str, Any]]:
    """The same for programs."""
    return [
        {"path": value.path, "value": value.value, "is_pack": value.is_pack, **_origin(value)}
        for value in values
        if is_all or not value.is_pack
    ]


def head_of(policy: Policy, layers: Sequence[Layer], scope: str, rule: int | None) -> str:
    """The line above an explanation."""
    by = "no rule matches"
    if rule is not None:
        by = f"services[{rule}] matches, {match_text(rules_of(layers)[rule].match)}"
    return f"{scope} under {policy.label} ({made_of(layers)}): {by}"


def _nested(values: Iterable[Value], indent: int) -> Iterator[str]:
    """Dotted paths as YAML sections."""
    open_sections: list[str] = []
    for value in values:
        *sections, name = value.path.split(".")
        same = 0
        while same < min(len(sections), len(open_sections)) and (
            sections[same] == open_sections[same]
        ):
            same += 1
        for depth in range(same, len(sections)):
            yield f"{' ' * (indent + 2 * depth)}{sections[depth]}:"
        open_sections = sections
        why = f": {value.origin.why}" if value.origin.why else ""
        margin = " " * (indent + 2 * len(sections))
        yield f"{margin}{name}: {_leaf(value.value)}  # {value.origin}{why}"


def _change_line(change: ValueChange) -> str:
    """`settings.target_ms: null -> 250  # shop.yaml:4`."""
    before = "not said" if change.before is None else _leaf(change.before.value)
    if change.after is None:
        return f"{change.path}: {before} -> not said"
    return f"{change.path}: {before} -> {_leaf(change.after.value)}  # {change.after.origin}"


def _change(change: ValueChange) -> dict[str, Any]:
    out: dict[str, Any] = {"path": change.path}
    for name, value in (("before", change.before), ("after", change.after)):
        out[name] = None if value is None else {"value": value.value, **_origin(value)}
    return out


def _rule_report(rule: RuleValues) -> dict[str, Any]:
    return {
        "match": rule.match,
        "origins": {value.path: _origin(value) for value in rule.values},
    }


def _origin(value: Value) -> dict[str, Any]:
    origin = value.origin
    return {"file": origin.where, "line": origin.line, "rule": origin.rule, "why": origin.why}


def _leaf(value: object) -> str:
    """A value as YAML in one line that reads back as it was."""
    text: str = yaml.safe_dump(
        value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=100_000
    )
    text = text.removesuffix("\n").removesuffix("\n...")
    return json.dumps(value) if "\n" in text else text
