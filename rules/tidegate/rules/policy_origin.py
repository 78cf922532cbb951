"""Where each value of a policy comes from: which pack or file, which line, which rule; and what differs
between two policies. For people who ask "why is it so"."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from tidegate.rules.policy_layers import Layer, effective, pack_layers
from tidegate.rules.policy_yaml import Entry

__all__ = [
    "Origin",
    "RuleChange",
    "RuleValues",
    "Value",
    "ValueChange",
    "changed_rules",
    "changed_values",
    "pack_of",
    "place_of",
    "rules_of",
    "values_for",
    "values_of",
]

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value stands."""

    where: str
    line: int
    rule: int | None = None
    """Index under `services`, for a value that a rule gives."""
    why: str = ""
    """The comment at the line's end: the value's source or reason."""

    def __str__(self) -> str:
        place = f"{self.where}:{self.line}"
        return place if self.rule is None else f"{place} services[{self.rule}]"


@dataclass(frozen=True, slots=True)
class Value:
    """One setting as it is in force."""

    path: str
    value: object
    origin: Origin
    is_pack: bool
    """Whether it is just what the pack below says."""


@dataclass(frozen=True, slots=True)
class RuleValues:
    """One rule under `services`; paths as under `settings`."""

    match: dict[str, str]
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class ValueChange:
    """One setting that two policies have not alike; None: one of them doesn't say it."""

    path: str
    before: Value | None
    after: Value | None


@dataclass(frozen=True, slots=True)
class RuleChange:
    """One rule under `services` that two policies have not alike, named by what it matches."""

    match: dict[str, str]
    what: str
    """added, removed, changed, moved."""
    before: int | None
    """Its index there."""
    after: int | None
    values: tuple[ValueChange, ...] = ()


def place_of(layers: Sequence[Layer], path: str) -> tuple[Layer, int]:
    """The file that says most about a path, the higher one of two, and the line in it; packs are right."""
    best, best_depth, best_line = layers[-1], 0, 0
    for layer in reversed(layers):
        found = _reach(layer, path.replace("[", ".").replace("]", "").split("."))
        if len(found) > best_depth and not layer.is_pack:
            best, best_depth, best_line = layer, len(found), found[-1].line
    return best, best_line


def pack_of(layers: Sequence[Layer]) -> str:
    """The pack below a policy, or that it is."""
    return [layer for layer in layers if layer.is_pack][-1].where.removeprefix("pack ")


def values_of(layers: Sequence[Layer]) -> list[Value]:
    """Every setting outside `services`, in the order of the packs."""
    pack = dict(_leaves(effective(pack_layers(pack_of(layers)))))
    out = []
    for path, value in _leaves(effective(layers)):
        is_pack = path in pack and pack[path] == value
        out.append(Value(".".join(path), value, _origin(layers, path), is_pack))
    return out


def rules_of(layers: Sequence[Layer]) -> list[RuleValues]:
    """What each rule matches and says itself, in their order."""
    out = []
    top = _layer_with(layers, ("services",))
    for number, rule in enumerate(effective(layers)["services"] or []):
        values = []
        for path, value in _leaves(
            {name: inner for name, inner in rule.items() if name != "match"}
        ):
            line = _reach(top, ("services", str(number), *path))[-1].line
            origin = Origin(top.where, line, number, _comment(top, line))
            values.append(Value(".".join(path), value, origin, is_pack=False))
        match = {name: text for name, text in rule["match"].items() if text is not None}
        out.append(RuleValues(match, tuple(values)))
    return out


def values_for(layers: Sequence[Layer], rule: int | None) -> list[Value]:
    """Every setting that holds for a key under a rule, or under none."""
    own_values = () if rule is None else rules_of(layers)[rule].values
    over = {f"settings.{value.path}": value for value in own_values}
    return [_ruled(value, over.get(value.path)) for value in values_of(layers)]


def _ruled(value: Value, own: Value | None) -> Value:
    if own is None:
        return value
    is_pack = value.is_pack and own.value == value.value
    return Value(value.path, own.value, own.origin, is_pack)


def changed_values(before: Sequence[Value], after: Sequence[Value]) -> list[ValueChange]:
    """What differs, in the order of the paths as they come."""
    old, new = {v.path: v for v in before}, {v.path: v for v in after}
    out = []
    for path in dict.fromkeys([*old, *new]):
        a, b = old.get(path), new.get(path)
        if a is None or b is None or a.value != b.value:
            out.append(ValueChange(path, a, b))
    return out


def changed_rules(before: Sequence[Layer], after: Sequence[Layer]) -> list[RuleChange]:
    """Rules that differ. Two with equal matches can't be in one policy, so the match names a rule."""
    old, new = rules_of(before), rules_of(after)
    old_at, new_at = _numbered(old), _numbered(new)
    stayed = _in_order(
        [key for key in old_at if key in new_at], [key for key in new_at if key in old_at]
    )
    out = [
        RuleChange(old[i].match, "removed", i, None)
        for key, i in old_at.items()
        if key not in new_at
    ]
    for key, i in new_at.items():
        was = old_at.get(key)
        if was is None:
            values = tuple(changed_values((), new[i].values))
            out.append(RuleChange(new[i].match, "added", None, i, values))
            continue
        values = tuple(changed_values(old[was].values, new[i].values))
        if values or key not in stayed:
            what = "changed" if values else "moved"
            out.append(RuleChange(new[i].match, what, was, i, values))
    return out


_Key = tuple[str, str | None]


def _numbered(rules: Sequence[RuleValues]) -> dict[_Key, int]:
    return {(rule.match["service"], rule.match.get("target")): i for i, rule in enumerate(rules)}


def _in_order(before: Sequence[_Key], after: Sequence[_Key]) -> set[_Key]:
    """Those that have kept their places among each other."""
    blocks = SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks()
    return {key for block in blocks for key in before[block.a : block.a + block.size]}


def _leaves(section: dict[str, Any], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    for name, value in section.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, name))
        elif (*path, name) != ("services",):
            yield (*path, name), value


def _origin(layers: Sequence[Layer], path: Path) -> Origin:
    layer = _layer_with(layers, path)
    line = _reach(layer, path)[-1].line
    return Origin(layer.where, line, None, _comment(layer, line))


def _layer_with(layers: Sequence[Layer], path: Path) -> Layer:
    """The topmost layer that has the whole path: its value is the one in force."""
    return next(layer for layer in reversed(layers) if len(_reach(layer, path)) == len(path))


def _reach(layer: Layer, path: Sequence[str]) -> list[Entry]:
    """The entries on the way along a path, as far as the layer has it."""
    here = Entry(layer.tree, 0)
    found: list[Entry] = []
    for part in path:
        inside = here.value
        if isinstance(inside, dict) and part in inside:
            here = inside[part]
        elif isinstance(inside, list) and part.isdigit() and int(part) < len(inside):
            here = inside[int(part)]
        else:
            break
        found.append(here)
    return found


def _comment(layer: Layer, line: int) -> str:
    return layer.lines[line - 1].partition(" #")[2].strip()
