"""Options and texts that all commands share which ask for something on the control topic: who, why, for how
long, for which scope; and how times are written."""

import argparse
import getpass
import re
import time
from datetime import UTC, datetime

from tidegate.streams.errors import UsageError

__all__ = [
    "add_asking_options",
    "duration_ms_of",
    "duration_text",
    "local_text",
    "now_ms",
    "scope_of",
    "time_ms_of",
    "who_of",
]

_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(?:[0-9]+[smhd])+")
_PART = re.compile(r"([0-9]+)([smhd])")


def add_asking_options(parser: argparse.ArgumentParser) -> None:
    """Adds --by, --reason and --json."""
    parser.add_argument(
        "--by", metavar="NAME", help="who asks for it (default: your login name); shown with it"
    )
    parser.add_argument(
        "--reason", required=True, metavar="TEXT", help="why; shown wherever it takes effect"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line: the audit record")


def who_of(args: argparse.Namespace) -> str:
    """The name under which it is asked. Raises UsageError where none is known."""
    if args.by:
        return str(args.by)
    try:
        return getpass.getuser()
    except (KeyError, OSError) as problem:
        raise UsageError("--by: this system knows no login name; give --by NAME") from problem


def scope_of(text: str) -> tuple[str, str]:
    """The scope that is meant, and what to say about it: a plain name is a service's. Raises UsageError."""
    from tidegate.streams.control_check import scope_problem

    scope = text if text == "*" or ":" in text or not text else f"service:{text}"
    problem = scope_problem(scope)
    if problem:
        raise UsageError(problem)
    return scope, "" if scope == text else f"{text}: taken as {scope}"


def duration_ms_of(option: str, text: str, *, max_ms: int) -> int:
    """`90s`, `10m`, `1h30m`, `2d`. Raises UsageError."""
    wanted = f"give a time such as 90s, 10m, 2h or 1d, at most {duration_text(max_ms)}"
    if not _DURATION.fullmatch(text):
        raise UsageError(f"{option}: {text!r} is no time; {wanted}")
    parts = _PART.findall(text)
    # So many digits are no time anybody means; int() of thousands of them would raise by itself.
    ms = sum(int(count[:18]) * _UNITS_MS[unit] for count, unit in parts)
    if not 0 < ms <= max_ms:
        raise UsageError(f"{option}: {text} is {'too long' if ms else 'nothing'}; {wanted}")
    return ms


def time_ms_of(option: str, text: str, *, now_ms: int) -> int:
    """`2026-01-31T22:00` (local unless an offset says otherwise), or `22:00`: the next time it is that
    late. Raises UsageError."""
    try:
        if re.fullmatch(r"\d\d:\d\d(:\d\d)?", text):
            now = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone()
            clock = datetime.strptime(text, "%H:%M:%S" if len(text) > 5 else "%H:%M").time()  # noqa: DTZ007 - only its time of day is used
            at = datetime.combine(now.date(), clock).astimezone()
            if at < now:
                at = datetime.fromordinal(now.toordinal() + 1)
                at = datetime.combine(at.date(), clock).astimezone()
        else:
            at = datetime.fromisoformat(text).astimezone()
        return int(at.timestamp() * 1000)
    except (ValueError, OverflowError, OSError) as problem:
        raise UsageError(
            f"{option}: {text!r} is no time; give 22:00, or a date with it: 2026-01-31T22:00"
        ) from problem


def duration_text(ms: int) -> str:
    """`1d`, `1h 30m`, `9m 50s`: the two largest units."""
    left_s, parts = max(0, ms) // 1000, []
    for unit in "dhms":
        count, left_s = divmod(left_s, _UNITS_MS[unit] // 1000)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


def local_text(time_ms: int) -> str:
    """Local time with its offset: `2026-01-31 22:00:00+01:00`."""
    return datetime.fromtimestamp(time_ms // 1000, UTC).astimezone().isoformat(" ")


def now_ms() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000
