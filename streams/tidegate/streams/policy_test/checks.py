"""What an expectation asks of one moment: of a scope, or of alerts. Each check says what it found instead.

Data, not functions: cases travel to other processes.
"""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from tidegate.schemas.alert import Alert
from tidegate.schemas.decision import Actions, Decision, Signals
from tidegate.schemas.level import LEVEL_NAMES
from tidegate.streams.policy_test.history import AlertView, ScopeView

__all__ = [
    "ALERT_EVENTS",
    "ALERT_RULES",
    "FIELDS",
    "LISTS",
    "OPERATORS",
    "WORDS",
    "AlertCheck",
    "Comparison",
    "Matching",
    "Named",
    "ScopeCheck",
    "Term",
    "alert_text",
]

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    "=": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_ACTIONS = tuple(field.name for field in msgspec.structs.fields(Actions))
_SIGNALS = tuple(field.name for field in msgspec.structs.fields(Signals))
WORDS = ("mode", "protocol", "policy", "evidence")
"""Fields that are words, not numbers."""
LISTS = {
    "incident": ("L1", "L2", "L3", "L4", "L5"),
    "finding": ("chronic", "drift", "hollow", "unknown_overload"),
}
"""What a decision may name."""
FIELDS = ("level", "score", "changes", "overridden", "ended", *WORDS[:3], *_ACTIONS, *_SIGNALS)
ALERT_EVENTS = {
    "started": "start",
    "changed": "change",
    "repeated": "repeat",
    "resolved": "resolve",
}
ALERT_RULES = ("slo", "L2", "L3", "L4", "L5", "chronic", "drift", "hollow", "telemetry")


@dataclass(frozen=True, slots=True)
class Comparison:
    """`level>=open`, `score<0.4`, `retry_after_s>=1`; a bare name is a fact: `failover`."""

    name: str
    symbol: str
    """Of OPERATORS; empty for a fact."""
    value: str | float | None
    """A level's name, a word, a number; None: null."""

    def holds(self, view: ScopeView) -> bool:
        """Whether it does."""
        found = _field(view, self.name)
        if not self.symbol:
            return bool(found)
        if self.name == "level":
            order = (LEVEL_NAMES.index(str(found)), LEVEL_NAMES.index(str(self.value)))
            return OPERATORS[self.symbol](*order)
        if isinstance(found, list):
            return (self.value in found) == (self.symbol == "=")
        if self.name == "policy":
            is_it = str(self.value) in (found, str(found).partition("@")[0])
            return is_it == (self.symbol == "=")
        if found is None or self.value is None:
            return (found is self.value) == (self.symbol == "=") and self.symbol in ("=", "!=")
        return OPERATORS[self.symbol](found, self.value)

    def found(self, view: ScopeView) -> str:
        """What there was."""
        return f"{self.name} {_shown(_field(view, self.name))}"


@dataclass(frozen=True, slots=True)
class Matching:
    """`reason matches /.../`."""

    pattern: str

    def holds(self, view: ScopeView) -> bool:
        """Whether it is found anywhere in the reason."""
        return re.search(self.pattern, view.decision.reason) is not None

    def found(self, view: ScopeView) -> str:
        """The reason."""
        return f"reason {view.decision.reason}"


@dataclass(frozen=True, slots=True)
class Named:
    """`incident L3`, `finding chronic`."""

    what: str
    name: str

    def holds(self, view: ScopeView) -> bool:
        """Whether the decision names it."""
        return self.name in _named(view.decision, self.what)

    def found(self, view: ScopeView) -> str:
        """Those that it names."""
        return f"{self.what} {', '.join(_named(view.decision, self.what)) or 'none'}"


@dataclass(frozen=True, slots=True)
class Term:
    """A predicate, or that it does not hold."""

    predicate: Comparison | Matching | Named
    is_not: bool = False

    def holds(self, view: ScopeView) -> bool:
        """Whether it does."""
        return self.predicate.holds(view) != self.is_not


@dataclass(frozen=True, slots=True)
class ScopeCheck:
    """All terms hold for a scope."""

    scope: str
    is_shadow: bool
    terms: tuple[Term, ...]

    def holds(self, view: ScopeView | None) -> bool | None:
        """Whether they do; None where the scope isn't known, or not any more. That it ended may be asked."""
        if view is None or (view.has_ended and not any(_is_of(t, "ended") for t in self.terms)):
            return None
        return all(term.holds(view) for term in self.terms)

    def found(self, view: ScopeView) -> str:
        """What there was instead, by each term's own field."""
        if view.has_ended:
            return "the scope has ended"
        names = dict.fromkeys(term.predicate.found(view) for term in self.terms)
        if not any(_is_of(term, "level") for term in self.terms):
            names[f"level {view.decision.level}"] = None
        return ", ".join(names)


@dataclass(frozen=True, slots=True)
class AlertCheck:
    """An alert stands (or, with an event, is told at this very moment)."""

    is_not: bool = False
    tier: str = ""
    rule: str = ""
    scope: str = ""
    """A scope or a pattern; empty: any."""
    event: str = ""
    is_silenced: bool | None = None

    def holds(self, view: AlertView) -> bool:
        """Whether there is one; or, for `no alert`, none."""
        among = view.events if self.event else view.standing
        return any(self._is_it(alert) for alert in among) != self.is_not

    def found(self, view: AlertView) -> str:
        """Those that stand, and those that were just told."""
        told = [alert_text(alert) for alert in view.events]
        standing = [alert_text(a) for a in view.standing if a not in view.events]
        return "; ".join(told + standing) or "no alert"

    def _is_it(self, alert: Alert) -> bool:
        return (
            self.tier in ("", alert.tier)
            and self.rule in ("", alert.rule)
            and self.event in ("", alert.event)
            and (not self.scope or fnmatchcase(alert.scope, self.scope))
            and self.is_silenced in (None, alert.silenced is not None)
        )


def alert_text(alert: Alert) -> str:
    """An event in a few words."""
    quiet = ", silenced" if alert.silenced is not None else ""
    return f"{alert.tier} {alert.rule} {alert.scope} {alert.event}{quiet}: {alert.reason}"


def _field(view: ScopeView, name: str) -> Any:
    if name == "score":
        return view.score
    if name == "changes":
        return view.changes
    if name == "ended":
        return view.has_ended
    if name == "overridden":
        return view.decision.override is not None
    if name in _ACTIONS:
        return getattr(view.decision.actions, name)
    if name in _SIGNALS:
        return getattr(view.decision.signals, name)
    return getattr(view.decision, name)


def _named(decision: Decision, what: str) -> list[str]:
    if what == "incident":
        return [incident.rule for incident in decision.incidents]
    return [finding.name for finding in decision.findings]


def _is_of(term: Term, name: str) -> bool:
    return isinstance(term.predicate, Comparison) and term.predicate.name == name


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return (
        "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )
