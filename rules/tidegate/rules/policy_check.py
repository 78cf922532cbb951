"""A policy's tree against its types: every value that is unknown, of a wrong type or out of range
becomes a problem that says what is allowed. Nothing here stops at the first one.

The types are read by `msgspec.inspect`, so that a setting is declared once, in `policy_types.py`.
"""

import re

from msgspec import inspect

from tidegate.rules.policy_hints import homes_of, meant, unit_of
from tidegate.rules.policy_types import Match, PolicyFile, Settings
from tidegate.rules.policy_yaml import Entry, Problems, Tree, Unread, nearest, shown

__all__ = ["RULES_MAX", "SAMPLING", "allowed", "check", "check_file"]

SAMPLING = ("none", "head")
NUMBER_MAX = 2**53
"""Whole numbers above it are not all numbers that YAML, JSON and a float agree about."""
RULES_MAX = 1000
"""Rules under `services`: each is a row of columns."""
_HOMES_MAX = 3
_ELSEWHERE = ("extends", "sampling", "services")
"""Keys that are checked by themselves."""
_FILE = inspect.type_info(PolicyFile)
_SETTINGS = inspect.type_info(Settings)
_MATCH = inspect.type_info(Match)


def check_file(tree: dict[str, Entry], problems: Problems) -> None:
    """Every value against its type. Rules under `services` carry settings beside their match."""
    _sampling(tree, problems)
    whole = {name: entry for name, entry in tree.items() if name not in _ELSEWHERE}
    check(_FILE, whole, line=0, path="", problems=problems)
    rules = tree.get("services")
    if rules is None or rules.value is None:
        return
    if not isinstance(rules.value, list):
        problems.add(
            "services", rules.line, "is no list; give `- match: {service: PATTERN}` and settings"
        )
        return
    if len(rules.value) > RULES_MAX:
        problems.add("services", rules.line, f"{len(rules.value)} rules; give at most {RULES_MAX}")
        return
    for number, rule in enumerate(rules.value):
        path = f"services[{number}]"
        if not isinstance(rule.value, dict):
            problems.add(path, rule.line, "is no rule; give `match` and what differs")
            continue
        own = {name: e for name, e in rule.value.items() if name not in ("match", "settings")}
        if "settings" in rule.value:
            told = "a rule's settings stand beside its `match`, without `settings`"
            problems.add(f"{path}.settings", rule.value["settings"].line, told)
        check(_SETTINGS, own, line=rule.line, path=path, problems=problems)
        match = rule.value.get("match", Entry({}, rule.line))
        check(_MATCH, match.value, line=match.line, path=f"{path}.match", problems=problems)
        if isinstance(match.value, dict) and "service" not in match.value:
            problems.add(
                f"{path}.match.service", match.line, "is missing; give a pattern, e.g. pay-*"
            )


def check(kind: inspect.Type, tree: Tree, *, line: int, path: str, problems: Problems) -> None:
    """Adds what is wrong with `tree` where a `kind` is wanted. Fields may be left out: a policy is
    laid over a pack that has them all."""
    if isinstance(tree, Unread):
        return
    if isinstance(kind, inspect.StructType):
        _struct(kind, tree, line, path, problems)
    elif isinstance(kind, inspect.UnionType):
        if tree is not None:
            inner = next(t for t in kind.types if not isinstance(t, inspect.NoneType))
            _value(inner, kind, tree, line, path, problems)
    else:
        _value(kind, kind, tree, line, path, problems)


def allowed(kind: inspect.Type) -> str:
    """What a setting of this type may be, in words: `a whole number from 1 to 120`."""
    match kind:
        case inspect.UnionType():
            return ", or ".join(
                "null" if isinstance(t, inspect.NoneType) else allowed(t) for t in kind.types
            )
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"a whole number{_bounds(kind)}"
        case inspect.FloatType():
            return f"a number{_bounds(kind)}"
        case inspect.LiteralType():
            return "one of " + ", ".join(str(value) for value in kind.values)
        case inspect.StrType():
            return (
                "a word" if kind.pattern is None else "a word of letters, digits, `.`, `_` and `-`"
            )
        case inspect.VarTupleType(item_type=inspect.TupleType() as item):
            return f"a list of pairs [{', '.join(allowed(t) for t in item.item_types)}]"
        case inspect.VarTupleType():
            if kind.min_length and kind.min_length == kind.max_length:
                return f"a list of {kind.min_length} numbers, each {allowed(kind.item_type)}"
            return f"a list of numbers, each {allowed(kind.item_type)}"
        case inspect.ListType():
            return "a list"
        case _:
            return "a section"


def _sampling(tree: dict[str, Entry], problems: Problems) -> None:
    """Says how spans were sampled: a promise about the input that no decision is made from."""
    sampling = tree.get("sampling")
    if sampling is None or sampling.value in SAMPLING:
        return
    if sampling.value == "tail":
        told = (
            "tail-sampled spans are biased towards errors and can't be judged; sample at the head "
            "(`ot=th:` in tracestate, which is weighed) or not at all"
        )
        problems.add("sampling", sampling.line, told)
    else:
        problems.add_unknown("sampling", sampling.line, sampling.value, SAMPLING, "value here")


def _struct(kind: inspect.StructType, tree: Tree, line: int, path: str, problems: Problems) -> None:
    fields = {field.name: field.type for field in kind.fields}
    if not isinstance(tree, dict):
        told = f"give a mapping with any of {', '.join(fields)}"
        problems.add(path, line, f"{shown(tree)} is no section; {told}")
        return
    for name, entry in tree.items():
        inner = f"{path}.{name}" if path else name
        if name in fields:
            check(fields[name], entry.value, line=entry.line, path=inner, problems=problems)
            continue
        names = tuple(fields) if path else (*fields, "extends", "sampling")
        homes = homes_of(name)[:_HOMES_MAX]
        if homes and not problems.is_full and nearest(name, names) is None:
            told = f"{name!r} is no setting here; it stands at {' and '.join(homes)}"
            problems.add(inner, entry.line, f"{told}; allowed here: {', '.join(names)}")
        else:
            problems.add_unknown(inner, entry.line, name, names, "setting here")


def _value(
    kind: inspect.Type,
    told: inspect.Type,
    tree: Tree,
    line: int,
    path: str,
    problems: Problems,
) -> None:
    """told: the type as it is described, `null` included."""
    if isinstance(kind, inspect.LiteralType) and isinstance(tree, str):
        if tree not in kind.values:
            words = tuple(str(value) for value in kind.values)
            problems.add_unknown(path, line, tree, words, "value here")
    elif isinstance(kind, inspect.VarTupleType) and isinstance(tree, list):
        _list(kind, tree, line, path, problems)
    elif isinstance(kind, inspect.IntType | inspect.FloatType):
        message = _number(kind, tree)
        if message:
            told_unit = _with_unit(path, allowed(told))
            problems.add(
                path,
                line,
                f"{shown(tree)} {message}; give {told_unit}{_meant(kind, path, tree)}",
            )
    elif (isinstance(kind, inspect.BoolType) and isinstance(tree, bool)) or (
        isinstance(kind, inspect.StrType) and isinstance(tree, str) and _is_fit(kind, tree)
    ):
        pass
    else:
        hint = _meant(kind, path, tree)
        problems.add(path, line, f"{shown(tree)} is wrong here; give {allowed(told)}{hint}")


def _list(
    kind: inspect.VarTupleType, items: list[Entry], line: int, path: str, problems: Problems
) -> None:
    if len(items) < (kind.min_length or 0) or len(items) > (kind.max_length or len(items)):
        problems.add(path, line, f"{len(items)} values; give {allowed(kind)}")
    for i, item in enumerate(items):
        at, pair = f"{path}[{i}]", kind.item_type
        if not isinstance(pair, inspect.TupleType):
            check(pair, item.value, line=item.line, path=at, problems=problems)
        elif not isinstance(item.value, list) or len(item.value) != len(pair.item_types):
            problems.add(at, item.line, f"{shown(item.value)} is no pair; give [x, score]")
        else:
            for inner, part in zip(pair.item_types, item.value, strict=True):
                check(inner, part.value, line=part.line, path=at, problems=problems)


def _number(kind: inspect.IntType | inspect.FloatType, value: Tree) -> str:
    """What is wrong with it; empty where nothing is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "is no number"
    if isinstance(kind, inspect.IntType) and not isinstance(value, int):
        return "is no whole number"
    if NUMBER_MAX < abs(value) < float("inf"):
        return "is larger than 2^53"
    is_inside = (
        -NUMBER_MAX <= value <= NUMBER_MAX  # refuses NaN, too
        and (kind.ge is None or value >= kind.ge)
        and (kind.gt is None or value > kind.gt)
        and (kind.le is None or value <= kind.le)
        and (kind.lt is None or value < kind.lt)
    )
    if is_inside:
        return ""
    is_percent = kind.le == 1 and 1 < value <= 100
    return "is out of range (ratios are 0 to 1, never percent)" if is_percent else "is out of range"


def _is_fit(kind: inspect.StrType, text: str) -> bool:
    return (
        len(text) >= (kind.min_length or 0)
        and (kind.max_length is None or len(text) <= kind.max_length)
        and (kind.pattern is None or re.search(kind.pattern, text) is not None)
    )


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    bounds = []
    if kind.ge is not None:
        bounds.append(f"from {kind.ge:.10g}")
    if kind.gt is not None:
        bounds.append(f"above {kind.gt:.10g}")
    if kind.le is not None:
        bounds.append(f"to {kind.le:.10g}" if kind.ge is not None else f"at most {kind.le:.10g}")
    if kind.lt is not None:
        bounds.append(f"below {kind.lt:.10g}")
    if kind.ge is not None and kind.le is not None:
        return " " + " ".join(bounds)
    return " " + " and ".join(bounds) if bounds else ""


def _with_unit(path: str, told: str) -> str:
    unit, _ = unit_of(path)
    return told.replace("number", f"number of {unit}", 1) if unit else told


def _meant(kind: inspect.Type, path: str, value: Tree) -> str:
    text = meant(kind, path, value)
    return f"; did you mean `{text}`?" if text else ""
