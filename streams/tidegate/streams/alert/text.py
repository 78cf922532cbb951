"""An alert as people read it, for channels that show text. Names in it come from other people's spans:
what a chat would take for markup is made harmless.
"""

from datetime import UTC, datetime

from tidegate.schemas.alert import Alert
from tidegate.streams.alert.grouped import Grouped

__all__ = ["EVENT_WORDS", "alert_lines", "facts", "headline", "rfc3339", "shortened", "times_fit"]

EVENT_WORDS = {"start": "started", "change": "changed", "repeat": "lasts", "resolve": "resolved"}
LINES_MAX = 15
"""Alerts of a group that a message shows; some chats take 4 kB."""
_LINE_CHARS_MAX = 120
_TIME_MS_MAX = 253_402_300_799_999
"""The last millisecond of the year 9999: calendars end there."""
_HARMLESS = str.maketrans({"<": "‹", "[": "(", "]": ")", "`": "'", "*": "·"})


def rfc3339(time_ms: int) -> str:
    """`2026-05-04T03:02:01.000Z`."""
    whole_s, rest_ms = divmod(time_ms, 1000)
    return f"{datetime.fromtimestamp(whole_s, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ms:03d}Z"


def times_fit(alert: Alert) -> bool:
    """Whether its times are in a calendar."""
    return all(0 <= time_ms <= _TIME_MS_MAX for time_ms in (alert.since_ms, alert.at_ms))


def headline(alert: Alert) -> str:
    """`P1 started: payments: 12 % of requests fail`, in one line."""
    return f"{alert.tier} {EVENT_WORDS[alert.event]}: {_plain(alert.title)}"


def facts(alert: Alert, grouped: Grouped | None = None) -> list[str]:
    """What is known, a line each."""
    since = datetime.fromtimestamp(alert.since_ms // 1000, UTC)
    lasted_s = max(alert.at_ms - alert.since_ms, 0) // 1000
    about = f"{_plain(alert.scope)}, rule {_plain(alert.rule)}, level {_plain(alert.level)}"
    lasts = f"since {since:%Y-%m-%d %H:%M:%S} UTC ({_duration(lasted_s)})"
    if grouped is not None:
        cause = f"cause {_plain(grouped.reason or grouped.cause)}"
        if grouped.count > 1:
            return [cause, lasts, *alert_lines(grouped, LINES_MAX)]
        lines = [about, cause, lasts]
    else:
        lines = [about, lasts]
    numbers = _numbers(alert)
    if numbers:
        lines.append(f"over 5 min: {numbers}")
    if alert.reason:
        lines.append(_plain(alert.reason))
    return lines


def alert_lines(grouped: Grouped, lines_max: int) -> list[str]:
    """A line for each alert of a group, and how many there are beyond these."""
    lines = []
    for one in grouped.alerts[:lines_max]:
        line = f"{one.tier} {_plain(one.title)}{' (over)' if one.is_over else ''}"
        lines.append(line if len(line) <= _LINE_CHARS_MAX else f"{line[: _LINE_CHARS_MAX - 1]}…")
    left = grouped.count - len(lines)
    return [*lines, f"and {left} more"] if left > 0 else lines


def shortened(text: str, bytes_max: int) -> str:
    """Cut to so many bytes of UTF-8, in no character's middle."""
    data = text.encode()
    if len(data) <= bytes_max:
        return text
    return data[: bytes_max - len("…".encode())].decode(errors="ignore") + "…"


def _numbers(alert: Alert) -> str:
    signals, parts = alert.signals, []
    if signals.error_ratio is not None:
        parts.append(f"errors {signals.error_ratio:.2%}")
    if signals.slow_ratio is not None and signals.p95_over_ms is not None:
        parts.append(f"slower than {signals.p95_over_ms} ms {signals.slow_ratio:.2%}")
    if signals.requests is not None:
        parts.append(f"{signals.requests} requests")
    return ", ".join(parts)


def _duration(seconds: int) -> str:
    minutes, left_s = divmod(seconds, 60)
    hours, left_min = divmod(minutes, 60)
    if hours:
        return f"{hours} h {left_min} min"
    return f"{minutes} min" if minutes else f"{left_s} s"


def _plain(text: str) -> str:
    return " ".join(text.translate(_HARMLESS).split())
