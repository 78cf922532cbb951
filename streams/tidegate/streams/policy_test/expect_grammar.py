"""Reads lines under `expect`: `{at 63s: "service:payments level>=open within 3s"}`.

`tell` is told everything that is wrong with a line; then there is no expectation.
"""

import re
from collections.abc import Callable
from contextlib import suppress

from tidegate.rules.policy_yaml import nearest, shown
from tidegate.schemas.level import LEVEL_NAMES
from tidegate.schemas.scope import key_of_scope
from tidegate.streams.policy_test.checks import (
    ALERT_EVENTS,
    ALERT_RULES,
    FIELDS,
    LISTS,
    WORDS,
    AlertCheck,
    Comparison,
    Matching,
    Named,
    ScopeCheck,
    Term,
)
from tidegate.streams.policy_test.expect import When
from tidegate.streams.policy_test.values import steps_ms

__all__ = ["parse_check", "parse_when", "split_within"]

Tell = Callable[[str], None]

_WHENS = ("at", "always", "never", "eventually")
_WITHIN = re.compile(r"\s+within\s+(\S+)$")
_REASON = re.compile(r"reason\s+(matches|lacks)\s+/((?:\\/|[^/])*)/")
_NAMED = re.compile(r"(incident|finding)\s+([A-Za-z0-9_]+)")
_COMPARED = re.compile(r"(?:action\s+)?([a-z][a-z0-9_]*)\s*(>=|<=|!=|=|>|<)\s*([^\s<>=!]+)")
_FACT = re.compile(r"(?:action\s+)?([a-z][a-z0-9_]*)")
_AND = re.compile(r"\s+and\s+")
_NOT = re.compile(r"not\s+")
_NULLS = ("none", "null")


def split_within(text: str, tell: Tell) -> tuple[str, int | None]:
    """The text without `within 3s`, and how long that is in ms."""
    match = _WITHIN.search(text)
    if match is None:
        return text, None
    try:
        return text[: match.start()], steps_ms(match[1])
    except ValueError as problem:
        tell(f"within: {problem}")
        return text[: match.start()], 0


def parse_when(text: str, within_ms: int | None, tell: Tell) -> When | None:
    """`at 63s`, `at 10s..60s`, `always`, `never`, `eventually`."""
    word, _, rest = text.partition(" ")
    if word not in _WHENS or (word != "at" and rest):
        near = nearest(word, _WHENS)
        hint = f"did you mean `{near}`?" if near and near != word else "begin with"
        tell(
            f"{shown(text)} is no time; {hint} `at 63s`, `at 10s..60s`, `always`, `never`, `eventually`"
        )
        return None
    if word != "at":
        if within_ms is not None and word != "eventually":
            tell(f"`within` says nothing beside `{word}`; leave it out")
        if word == "eventually":
            return When("any", 0, within_ms)
        return When("all" if word == "always" else "none", is_while_known=True)
    first, between, last = rest.strip().partition("..")
    try:
        from_ms = steps_ms(first)
        until_ms = steps_ms(last) if between else from_ms
    except ValueError as problem:
        tell(f"at: {problem}")
        return None
    if from_ms == 0:
        tell("at 0s: nothing is known yet; the first boundary is `at 500ms`")
    if until_ms < from_ms:
        tell(f"at {rest}: ends before it begins")
    if between and within_ms is not None:
        tell("`within` says nothing beside a span of time; leave it out")
    if within_ms is not None:
        return When("any", from_ms, from_ms + within_ms)
    return When("all", from_ms, until_ms)


def parse_check(text: str, tell: Tell) -> ScopeCheck | AlertCheck | None:
    """What is expected, without `within`."""
    words = text.split(None, 1)
    if not words:
        tell("is empty; give a scope and what is expected of it: service:payments level>=open")
        return None
    if words[0] == "alert" or text.split()[:2] == ["no", "alert"]:
        return _alert_check(text, tell)
    is_shadow = words[0] == "shadow"
    if is_shadow:
        words = words[1].split(None, 1) if len(words) > 1 else []
    if len(words) < 2:
        tell(
            f"{shown(text)} expects nothing; give a scope and a predicate: service:payments level=open"
        )
        return None
    try:
        key_of_scope(words[0])
    except ValueError as problem:
        tell(f"{problem}, or `alert`")
        return None
    terms = _terms(words[1].strip(), tell)
    return ScopeCheck(words[0], is_shadow, tuple(terms)) if terms else None


def _terms(text: str, tell: Tell) -> list[Term]:
    """Predicates joined by `and`; none where one is wrong."""
    out: list[Term] = []
    at = 0
    while True:
        is_not = (match := _NOT.match(text, at)) is not None
        at = match.end() if match else at
        term, end = _term(text, at, tell, is_not=is_not)
        if term is None:
            return []
        out.append(term)
        joint = _AND.match(text, end)
        if joint is None:
            if text[end:].strip():
                tell(f"{shown(text[end:].strip())} is left over; join predicates with `and`")
                return []
            return out
        at = joint.end()


def _term(text: str, at: int, tell: Tell, *, is_not: bool) -> tuple[Term | None, int]:
    if match := _REASON.match(text, at):
        pattern = match[2].replace("\\/", "/")
        try:
            re.compile(pattern)
        except re.error as problem:
            tell(f"/{pattern}/ is no regular expression: {problem}")
            return None, at
        return Term(Matching(pattern), is_not != (match[1] == "lacks")), match.end()
    if match := _NAMED.match(text, at):
        what, name = match[1], match[2]
        if name not in LISTS[what]:
            _tell_unknown(name, LISTS[what], what, tell)
            return None, at
        return Term(Named(what, name), is_not), match.end()
    if match := _COMPARED.match(text, at):
        compared = _comparison(match[1], match[2], match[3], tell)
        return (None if compared is None else Term(compared, is_not)), match.end()
    if match := _FACT.match(text, at):
        if match[1] not in FIELDS:
            _tell_unknown(match[1], (*FIELDS, "reason", *LISTS), "predicate", tell)
            return None, at
        if match[1] in ("level", "score", *WORDS):
            tell(f"{match[1]} is compared with nothing; give {match[1]}=…")
            return None, at
        return Term(Comparison(match[1], "", None), is_not), match.end()
    tell(
        f"{shown(text[at:])} is no predicate; give one such as level>=open, incident L3, score<0.4"
    )
    return None, at


def _comparison(name: str, symbol: str, value: str, tell: Tell) -> Comparison | None:
    if name not in FIELDS:
        _tell_unknown(name, FIELDS, "field", tell)
        return None
    if name == "level":
        if value not in LEVEL_NAMES:
            _tell_unknown(value, LEVEL_NAMES, "level", tell)
            return None
        return Comparison(name, symbol, value)
    if name in (*WORDS, "eject", "terminate"):
        if symbol not in ("=", "!="):
            tell(f"{name} is a word; compare it with = or !=")
            return None
        return Comparison(name, symbol, value)
    if value in _NULLS and symbol in ("=", "!="):
        return Comparison(name, symbol, None)
    if value in ("true", "false"):
        return Comparison(name, symbol, float(value == "true"))
    with suppress(ValueError):
        is_percent = value.endswith("%")
        number = float(value.removesuffix("%"))
        if number == number:  # no NaN
            return Comparison(name, symbol, number / 100 if is_percent else number)
    tell(f"{name}: {shown(value)} is no number; give one without a unit, or a percentage")
    return None


def _alert_check(text: str, tell: Tell) -> AlertCheck | None:
    words = text.split()
    is_not = words[0] == "no"
    found: dict[str, str] = {}
    is_silenced: bool | None = None
    is_wrong = False
    for word in words[2 if is_not else 1 :]:
        if word in ("P1", "P2"):
            field, value = "tier", word
        elif word in ALERT_RULES:
            field, value = "rule", word
        elif word in ALERT_EVENTS:
            field, value = "event", ALERT_EVENTS[word]
        elif word in ("silenced", "loud"):
            is_silenced = word == "silenced"
            continue
        elif ":" in word:
            field, value = "scope", word
        else:
            known = ("P1", "P2", *ALERT_RULES, *ALERT_EVENTS, "silenced", "loud")
            _tell_unknown(word, known, "word of an alert", tell)
            is_wrong = True
            continue
        if field in found:
            tell(f"{shown(word)}: the {field} stands twice; give one")
            is_wrong = True
        found[field] = value
    return None if is_wrong else AlertCheck(is_not=is_not, is_silenced=is_silenced, **found)


def _tell_unknown(name: str, allowed: tuple[str, ...], what: str, tell: Tell) -> None:
    near = nearest(name, allowed)
    hint = f"did you mean `{near}`?" if near else f"allowed: {', '.join(allowed)}"
    tell(f"{shown(name)} is no {what}; {hint}")
