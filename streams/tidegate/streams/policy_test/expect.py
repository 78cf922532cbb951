"""Expectations: `at 63s: service:payments level>=open within 3s`. When, what, and whether it came true.

Moments are ends of windows: what is expected `at 63s` is what the boundary says that ends there, whenever
its records arrived.
"""

from dataclasses import dataclass
from typing import Literal

from tidegate.streams.policy_test.checks import AlertCheck, ScopeCheck, alert_text
from tidegate.streams.policy_test.history import Change, History, moment_of
from tidegate.streams.policy_test.values import clock

__all__ = ["Expectation", "Failure", "When", "judge"]

_ROWS_BEFORE = 4
_ROWS_AFTER = 3


@dataclass(frozen=True, slots=True)
class When:
    """Moments, in ms from the case's start, and how many of them it must hold at."""

    kind: Literal["all", "any", "none"]
    from_ms: int = 0
    until_ms: int | None = None
    """None: to the end."""
    is_while_known: bool = False
    """Only moments count at which the scope is known (of `always` and `never`)."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """One line under `expect`."""

    where: str
    line: int
    text: str
    when: When
    check: ScopeCheck | AlertCheck

    @property
    def last_ms(self) -> int:
        """The case goes on at least this long."""
        return self.when.until_ms or self.when.from_ms


@dataclass(frozen=True, slots=True)
class Failure:
    """One expectation that did not come true."""

    where: str
    line: int
    text: str
    expected: str
    found: str
    time_line: tuple[str, ...]
    """What the scope (or alerts) did around that moment; the row that was in force begins with `>`."""


def judge(expectation: Expectation, history: History) -> Failure | None:
    """None where it came true."""
    when, check = expectation.when, expectation.check
    until_ms = when.until_ms if when.until_ms is not None else history.moments[-1]
    moments = [at for at in history.moments if when.from_ms <= at <= until_ms]
    asked = [(at, holds) for at in moments if (holds := _holds(check, history, at)) is not None]
    if isinstance(check, ScopeCheck) and not asked:
        return _failure(expectation, history, until_ms, _span(when, "at some moment"))
    if when.kind == "any":
        if any(holds for _, holds in asked):
            return None
        return _failure(expectation, history, until_ms, _span(when, "at some moment"))
    if when.kind == "none":
        wrong = next((at for at, holds in asked if holds), None)
        if wrong is None:
            return None
        return _failure(expectation, history, wrong, _span(when, "at no moment"))
    if not when.is_while_known:
        asked = [(at, bool(_holds(check, history, at))) for at in moments]
    if asked and all(holds for _, holds in asked):
        return None
    wrong = next((at for at, holds in asked if not holds), until_ms)
    return _failure(expectation, history, wrong, _span(when, "at every moment"))


def _holds(check: ScopeCheck | AlertCheck, history: History, at_ms: int) -> bool | None:
    """None where the scope isn't known."""
    if isinstance(check, AlertCheck):
        return check.holds(history.alerts_at(at_ms))
    return check.holds(history.view(check.scope, at_ms, is_shadow=check.is_shadow))


def _span(when: When, how: str) -> str:
    if when.from_ms == when.until_ms:
        return f"at {clock(when.from_ms)}"
    if when.until_ms is None:
        return how if when.from_ms == 0 else f"{how} from {clock(when.from_ms)} on"
    return f"{how} of {clock(when.from_ms)}..{clock(when.until_ms)}"


def _failure(expectation: Expectation, history: History, at_ms: int, span: str) -> Failure:
    check = expectation.check
    if isinstance(check, AlertCheck):
        found = check.found(history.alerts_at(at_ms))
        rows = [(moment_of(alert.boundary), alert_text(alert)) for alert in history.alerts]
        title = "alerts"
    else:
        view = history.view(check.scope, at_ms, is_shadow=check.is_shadow)
        found = _unknown(check, history) if view is None else check.found(view)
        changes = history.time_line(check.scope, is_shadow=check.is_shadow)
        rows = [(change.at_ms, _row(change)) for change in changes]
        title = f"{'shadow ' if check.is_shadow else ''}{check.scope}"
    return Failure(
        expectation.where,
        expectation.line,
        expectation.text,
        f"{expectation.text.partition(': ')[2]}, {span}",
        f"{found}, at {clock(at_ms)}",
        tuple(_around(title, rows, at_ms)),
    )


def _unknown(check: ScopeCheck, history: History) -> str:
    known = history.scopes(is_shadow=check.is_shadow)
    if check.scope in known:
        return "nothing was decided yet"
    return f"no such scope; there were {', '.join(known) or 'none'}"


def _row(change: Change) -> str:
    score = "–" if change.score is None else f"{change.score:.2f}"
    return f"{change.level:<11} {score:>5}  {change.reason}".rstrip()


def _around(title: str, rows: list[tuple[int, str]], at_ms: int) -> list[str]:
    """A few rows before and after a moment, and how many were left out."""
    if not rows:
        return [f"{title}: nothing happened"]
    now = max((i for i, row in enumerate(rows) if row[0] <= at_ms), default=-1)
    first = max(0, now - _ROWS_BEFORE + 1)
    last = min(len(rows), now + 1 + _ROWS_AFTER)
    out = [title]
    if first:
        out.append(f"  {'…':>9}  {first} earlier")
    for i in range(first, last):
        mark = ">" if i == now else " "
        out.append(f"{mark} {clock(rows[i][0]):>9}  {rows[i][1]}")
    if last < len(rows):
        out.append(f"  {'…':>9}  {len(rows) - last} later")
    return out
