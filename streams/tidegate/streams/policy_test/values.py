"""Values as people write them in case files: `200rps`, `80ms`, `0.1%`, `1/30`, `90s`.

Reading gives numbers with one unit each; writing gives back the shortest text that reads the same.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tidegate.rules.policy_yaml import shown

__all__ = [
    "COUNT",
    "DURATION_US",
    "RATE",
    "SHARE",
    "SIGNED_MS",
    "SPAN_US",
    "STEPS_MS",
    "STEP_MS",
    "Kind",
    "Ramp",
    "Share",
    "clock",
    "duration_us",
    "steps_ms",
    "write_duration",
]

STEP_MS = 500
"""Virtual time goes in steps of one bucket."""
_RATE_MAX = 100_000
_RATE_MIN = 0.0001
_COUNT_MAX = 1_000
_HOURS_MAX = 48
_UNITS_US = {"h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000, "us": 1}
_NUMBER = r"\d+(?:\.\d+)?"
_PART = re.compile(rf"({_NUMBER})(h|ms|m|us|s)")
_DURATION = re.compile(rf"(?:{_NUMBER}(?:h|ms|m|us|s))+")
_RATE = re.compile(rf"({_NUMBER})(rps|rpm)")
_PERCENT = re.compile(rf"({_NUMBER})%")
_ONE_IN = re.compile(r"(\d{1,6})/(\d{1,6})")
_BETWEEN = ".."


@dataclass(frozen=True, slots=True)
class Ramp:
    """A number that moves evenly from `start` to `end`; mostly it stands still."""

    start: float
    end: float

    def at(self, part: float) -> float:
        """After this part, 0..1, of its time."""
        return self.start + (self.end - self.start) * part


@dataclass(frozen=True, slots=True)
class Share:
    """Which of all requests: so many percent, drawn by chance; or exactly `hits` of each `of`, evenly."""

    percent: Ramp = Ramp(0.0, 0.0)
    hits: int = 0
    of: int = 0

    @property
    def most(self) -> float:
        """Its largest value, 0..1."""
        if self.of:
            return self.hits / self.of
        return max(self.percent.start, self.percent.end) / 100.0


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of value is read (raises ValueError, which says what is wrong) and written."""

    read: Callable[[str], Any]
    write: Callable[[Any], str]


def duration_us(text: str) -> int:
    """Microseconds of `1.5s`, `1m30s`. Raises ValueError."""
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{shown(text)} is no time; give one with its unit: 20ms, 1.5s, 2m, 1m30s")
    total = 0
    for number, unit in _PART.findall(text):
        whole, _, rest = number.partition(".")
        scaled = int(whole) * _UNITS_US[unit]
        part = int(rest or 0) * _UNITS_US[unit]
        if part % 10 ** len(rest):
            raise ValueError(f"{shown(text)} is finer than a microsecond")
        total += scaled + part // 10 ** len(rest)
    if total > _HOURS_MAX * _UNITS_US["h"]:
        raise ValueError(f"{shown(text)} is longer than {_HOURS_MAX}h")
    return total


def steps_ms(text: str) -> int:
    """Milliseconds of a time that is a multiple of a step. Raises ValueError."""
    us = duration_us(text)
    if us % (STEP_MS * 1_000):
        raise ValueError(f"{text} is between two boundaries; give a multiple of {STEP_MS}ms")
    return us // 1_000


def write_duration(us: int) -> str:
    """In the largest unit that makes it a whole number."""
    for unit, size in _UNITS_US.items():
        if us and us % size == 0:
            return f"{us // size}{unit}"
    return "0s"


def clock(ms: int) -> str:
    """A moment of a case, for reports: `63s`, `0.5s`."""
    return f"{ms / 1_000:g}s"


def _ramp(read: Callable[[str], float]) -> Callable[[str], Ramp]:
    def read_ramp(text: str) -> Ramp:
        first, between, last = text.partition(_BETWEEN)
        start = read(first)
        return Ramp(start, read(last) if between else start)

    return read_ramp


def _write_ramp(write: Callable[[float], str]) -> Callable[[Ramp], str]:
    def write_ramp(ramp: Ramp) -> str:
        first = write(ramp.start)
        return first if ramp.end == ramp.start else f"{first}{_BETWEEN}{write(ramp.end)}"

    return write_ramp


def _read_rate(text: str) -> float:
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{shown(text)} is no rate; give requests per second or minute: 200rps, 6rpm"
        )
    rps = float(match[1]) / (60 if match[2] == "rpm" else 1)
    if rps > _RATE_MAX or 0 < rps < _RATE_MIN:
        raise ValueError(f"{text}: give 0rps, or {_RATE_MIN:g}rps to {_RATE_MAX}rps")
    return rps


def _read_rates(text: str) -> Ramp:
    """`200..1000rps`: the unit may stand once."""
    first, between, last = text.partition(_BETWEEN)
    if between and first and first[-1].isdigit() and (unit := _RATE.fullmatch(last)):
        first += unit[2]
    return _ramp(_read_rate)(f"{first}{between}{last}")


def _number(value: float) -> str:
    return (
        f"{value:f}".rstrip("0").rstrip(".")
        if "e" in repr(value)
        else repr(value).removesuffix(".0")
    )


def _read_us(text: str) -> float:
    us = duration_us(text)
    if us == 0:
        raise ValueError(f"{text}: nothing takes no time; give at least 1us")
    return us


def _read_share(text: str) -> Share:
    if match := _ONE_IN.fullmatch(text):
        hits, of = int(match[1]), int(match[2])
        if not 0 < hits <= of:
            raise ValueError(f"{text}: give at least one of them, and no more than all: 1/30")
        return Share(hits=hits, of=of)
    first, between, last = text.partition(_BETWEEN)
    if between and not first.endswith("%") and last.endswith("%"):
        first += "%"
    return Share(_ramp(_read_percent)(f"{first}{between}{last}"))


def _read_percent(text: str) -> float:
    match = _PERCENT.fullmatch(text)
    if match is None:
        try:
            ratio = float(text)
        except ValueError:
            hint = "40% (by chance) or 1/30 (exactly)"
        else:
            hint = f"{_number(ratio * 100)}%" if 0 <= ratio <= 1 else f"{text}%"
        raise ValueError(f"{shown(text)} is no share; give {hint}")
    if float(match[1]) > 100:
        raise ValueError(f"{text} is more than all")
    return float(match[1])


def _write_share(share: Share) -> str:
    if share.of:
        return f"{share.hits}/{share.of}"
    return _write_ramp(lambda percent: f"{_number(percent)}%")(share.percent)


def _read_count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > _COUNT_MAX:
        raise ValueError(f"{shown(text)} is no count; give a whole number from 0 to {_COUNT_MAX}")
    return int(text)


def _read_signed(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    us = duration_us(text.removeprefix("-"))
    if us % 1_000:
        raise ValueError(f"{text} is finer than a millisecond")
    return sign * us // 1_000


def _write_ms(ms: int) -> str:
    return f"{'-' if ms < 0 else ''}{write_duration(abs(ms) * 1_000)}"


RATE = Kind(_read_rates, _write_ramp(lambda rps: f"{_number(rps)}rps"))
SPAN_US = Kind(_ramp(_read_us), _write_ramp(lambda us: write_duration(int(us))))
DURATION_US = Kind(_read_us, lambda us: write_duration(int(us)))
STEPS_MS = Kind(steps_ms, _write_ms)
SIGNED_MS = Kind(_read_signed, _write_ms)
SHARE = Kind(_read_share, _write_share)
COUNT = Kind(_read_count, str)
