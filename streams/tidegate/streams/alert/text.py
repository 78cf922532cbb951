"""An alert as people read it, for channels that show text. Names in it come from other people's spans:
what a chat would take for markup is made harmless.
"""

from datetime import UTC, datetime

from tidegate.schemas.alert import Alert

__all__ = ["EVENT_WORDS", "facts", "headline", "rfc3339", "shortened", "times_fit"]

EVENT_WORDS = {"start": "started", "change": "changed", "repeat": "lasts", "resolve": "resolved"}
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


def facts(alert: Alert) -> list[str]:
    """What is known, a line each."""
    since = datetime.fromtimestamp(alert.since_ms // 1000, UTC)
    lasted_s = max(alert.at_ms - alert.since_ms, 0) // 1000
    lines = [
        f"{_plain(alert.scope)}, rule {_plain(alert.rule)}, level {_plain(alert.level)}",
        f"since {since:%Y-%m-%d %H:%M:%S} UTC ({_duration(lasted_s)})",
    ]
    numbers = _numbers(alert)
    if numbers:
        lines.append(f"over 5 min: {numbers}")
    if alert.reason:
        lines.append(_plain(alert.reason))
    return lines


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
