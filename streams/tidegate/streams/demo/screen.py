"""How the demo is shown: a live screen on a terminal, lines of text in a pipe, decisions as JSON lines."""

import sys
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Protocol

from tidegate.schemas.decision import Decision, encode_decision
from tidegate.streams.board import Row

__all__ = ["JsonLines", "LiveScreen", "Screen", "TextLines"]

CHANGES_SHOWN = 8
_TEXT_EVERY_S = 5.0
_TABLE_CHARS = 100
"""Reasons stand with the changes below the table, not in it."""


class Screen(Protocol):
    """What the demo tells whoever shows it."""

    def __enter__(self) -> "Screen": ...

    def __exit__(self, *_: object) -> None: ...

    def say(self, text: str) -> None:
        """Something outside of the story, such as what is being waited for."""
        ...

    def changed(self, decision: Decision) -> None:
        """A decision was published."""
        ...

    def draw(
        self,
        elapsed_s: float,
        caption: str,
        rows: Sequence[Row],
        traffic: Mapping[str, Counter[str]],
    ) -> None:
        """What is the case now; called a few times a second."""
        ...


class JsonLines:
    """Decisions on stdout, everything else on stderr."""

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def say(self, text: str) -> None:
        """On stderr."""
        _write_error(text)

    def changed(self, decision: Decision) -> None:
        """One line, at once."""
        sys.stdout.write(encode_decision(decision).decode() + "\n")
        sys.stdout.flush()

    def draw(
        self,
        elapsed_s: float,
        caption: str,
        rows: Sequence[Row],
        traffic: Mapping[str, Counter[str]],
    ) -> None:
        """Nothing: the decisions say it."""


class TextLines:
    """For logs and pipes: level changes as they come, and how things stand every few seconds."""

    def __init__(self) -> None:
        self._caption = ""
        self._drawn_s = 0.0
        self._levels: dict[str, str] = {}

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def say(self, text: str) -> None:
        """A line."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def changed(self, decision: Decision) -> None:
        """A line where the level or the share that passes changed."""
        text = change_text(decision)
        if self._levels.get(decision.scope) != text:
            self._levels[decision.scope] = text
            self.say(f"  {text}: {decision.reason}")

    def draw(
        self,
        elapsed_s: float,
        caption: str,
        rows: Sequence[Row],
        traffic: Mapping[str, Counter[str]],
    ) -> None:
        """The caption when it changes, and every 5 s what is not closed."""
        title = caption.partition(".")[0]
        if title == self._caption and elapsed_s - self._drawn_s < _TEXT_EVERY_S:
            return
        if title != self._caption:
            self.say(f"{elapsed_s:5.1f} s  {caption}")
        self._caption, self._drawn_s = title, elapsed_s
        worse = [f"{row.scope} {row.level}" for row in rows if row.severity]
        state = ", ".join(worse) if worse else f"all {len(rows)} scopes closed"
        shed = ", ".join(shed_texts(traffic))
        self.say(f"{elapsed_s:5.1f} s  {state}" + (f"; {shed}" if shed else ""))


class LiveScreen:
    """The table of scopes, what clients do, and the last changes, redrawn in place."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False)
        self._changes: deque[str] = deque(maxlen=CHANGES_SHOWN)
        self._levels: dict[str, str] = {}

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Above the live part."""
        self._console.print(text, highlight=False, markup=False)

    def changed(self, decision: Decision) -> None:
        """Remembered for the list of changes."""
        from tidegate.streams.level_table import clock_text

        text = change_text(decision)
        if self._levels.get(decision.scope) != text:
            self._levels[decision.scope] = text
            self._changes.append(f"{clock_text(decision.window_end_ms)}  {text}: {decision.reason}")

    def draw(
        self,
        elapsed_s: float,
        caption: str,
        rows: Sequence[Row],
        traffic: Mapping[str, Counter[str]],
    ) -> None:
        """Redraws."""
        from rich.console import Group
        from rich.text import Text

        from tidegate.streams.level_table import level_table

        style = "bold red" if caption.startswith("FAULT") else "bold"
        head = Text.assemble((f"{elapsed_s:4.0f} s  ", "dim"), (caption, style))
        shed = shed_texts(traffic)
        client = Text("thin clients, last 5 s: ", style="dim")
        client.append("; ".join(shed) if shed else "every call passes", style="" if shed else "dim")
        changes = [
            Text(line, no_wrap=True, overflow="ellipsis", style="dim") for line in self._changes
        ]
        room = max(self._console.height - len(changes) - 7, 4)
        # By name, not worst first: rows that jump about are hard to follow for a minute.
        table = level_table(
            sorted(rows, key=lambda row: row.scope), rows_max=room, width=_TABLE_CHARS
        )
        blank = Text("")
        self._live.update(Group(blank, head, blank, table, blank, client, *changes), refresh=True)


def change_text(decision: Decision) -> str:
    """Scope and level, with the share that passes where the level leaves it open (the ramp)."""
    ratio = decision.actions.admit_ratio
    share = f", {ratio:.0%} pass" if decision.level == "half_open" and ratio > 0 else ""
    return f"{decision.scope} {decision.level}{share}"


def shed_texts(traffic: Mapping[str, Counter[str]]) -> list[str]:
    """Of each edge that turned calls away, how many."""
    return [
        f"{edge} {counts['shed']} of {counts.total()} calls turned away"
        for edge, counts in sorted(traffic.items())
        if counts["shed"]
    ]


def _write_error(text: str) -> None:
    sys.stderr.write(text + "\n")
