"""Scopes as a table for terminals: `tidegate watch` and the demo draw the same one."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from tidegate.streams.board import Row

__all__ = ["LEVEL_STYLES", "change_line", "clock_text", "level_table", "level_text"]

LEVEL_STYLES = {
    "closed": "green",
    "degraded_1": "yellow",
    "degraded_2": "dark_orange",
    "half_open": "cyan",
    "cooling": "magenta",
    "open": "bold red",
    "forced_open": "bold white on red",
    "locked": "bold white on red",
}


_SCOPE_CHARS_MIN, _SCOPE_CHARS_MAX = 16, 42
_NUMBERS_CHARS = 63
"""Every column but scope and reason, with the spaces between."""
_FIXED_CHARS = 82
"""The same where a level is qualified, as observed or stale."""
_REASON_CHARS_MIN = 30


def level_table(rows: Sequence[Row], *, rows_max: int | None = None, width: int = 100) -> Table:
    """One line a scope, in the order given; reasons, cut to fit, only where there is room for them."""
    shown = rows if rows_max is None else rows[:rows_max]
    scope_chars = max(_SCOPE_CHARS_MIN, min(_SCOPE_CHARS_MAX, width - _NUMBERS_CHARS))
    longest = max((len(row.scope) for row in shown), default=0)
    reason_chars = width - _FIXED_CHARS - min(scope_chars, longest)
    has_reason = reason_chars >= _REASON_CHARS_MIN
    table = Table(box=None, pad_edge=False, expand=False)
    table.add_column("scope", no_wrap=True, overflow="ellipsis", max_width=scope_chars)
    table.add_column("level", no_wrap=True, min_width=11)
    for name in ("score", "errors", "p95", "req/s", "pass"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("since", no_wrap=True)
    if has_reason:
        table.add_column("reason", no_wrap=True)
    for row in shown:
        cells: list[str | Text] = [
            row.scope,
            level_text(row),
            _number(row.score, "{:.2f}"),
            _number(row.error_ratio, "{:.1%}"),
            _number(row.p95_ms, "{:,.0f} ms"),
            _number(row.qps, "{:,.1f}"),
            _number(row.admit_ratio, "{:.0%}"),
            clock_text(row.since_ms) if row.since_ms else "–",
        ]
        if has_reason:
            cells.append(_cut(row.reason, reason_chars))
        table.add_row(*cells)
    if len(shown) < len(rows):
        table.add_row(f"… and {len(rows) - len(shown)} more")
    return table


def level_text(row: Row) -> Text:
    """The level in its colour, with what qualifies it."""
    text = Text(row.level, style=LEVEL_STYLES[row.level])
    if row.mode == "observe" and row.level != "closed":
        text.append(" (observed)", style="dim")
    if row.is_stale:
        text.append(" stale", style="dim")
    return text


def change_line(row: Row) -> str:
    """One plain line, for logs and pipes."""
    score = "–" if row.score is None else f"{row.score:.2f}"
    return f"{clock_text(row.since_ms or 0)} {row.scope} {row.level} (score {score}) {row.reason}"


def clock_text(time_ms: int) -> str:
    """Local time of day."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).astimezone().strftime("%H:%M:%S")


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _cut(text: str, chars: int) -> str:
    return text if len(text) <= chars else text[: chars - 1] + "…"
