"""Traffic as compact series: `200rps p50=20ms errors=0.1% for 60s; then errors=40% for 30s`.

A series is segments one after the other. A word that a segment leaves out stays as it was. After its last
segment a series is silent. Nothing is generated here: `traffic.py` does.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tidegate.rules.policy_yaml import nearest, shown
from tidegate.streams.policy_test.values import (
    COUNT,
    DURATION_US,
    RATE,
    SHARE,
    SIGNED_MS,
    SPAN_US,
    STEPS_MS,
    Kind,
    Ramp,
    Share,
    steps_ms,
    write_duration,
)

__all__ = ["ATTRIBUTES", "OUTCOME_SHARES", "SEGMENTS_MAX", "Attribute", "Segment", "Series"]
__all__ += ["format_series", "parse_series", "split_segments"]

SEGMENTS_MAX = 200
_THEN = re.compile(r";\s*(then\b)?\s*")
_P95_FACTOR = 2.0
"""Of the P50, where a series gives no P95."""
_NONE = Share()
_ALL = Share(Ramp(100.0, 100.0))
_P50 = Ramp(20_000.0, 20_000.0)
_SILENCE = Ramp(0.0, 0.0)
_LASTING = "for"

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Segment:
    """What holds for a time. Rates and times may move evenly from one value to another."""

    for_ms: int
    rps: Ramp
    p50_us: Ramp = _P50
    p95_us: Ramp | None = None
    """None: twice the P50."""
    errors: Share = _NONE
    timeouts: Share = _NONE
    throttled: Share = _NONE
    client_errors: Share = _NONE
    cancelled: Share = _NONE
    timeout_us: int = 1_000_000
    shed: Share = _NONE
    cut: Share = _NONE
    heartbeats: Ramp = _SILENCE
    fails_request: Share = _NONE
    instances: int = 0
    """0: requests name no instance."""
    bad_instance: int = 0
    """0: all instances are alike."""
    export_ms: int = 500
    delay_ms: int = 0
    skew_ms: int = 0
    sampled: Share = _ALL

    def slow_us(self, part: float) -> float:
        """The P95 after this part of the segment."""
        if self.p95_us is None:
            return self.p50_us.at(part) * _P95_FACTOR
        return self.p95_us.at(part)


@dataclass(frozen=True, slots=True)
class Series:
    """Segments in order."""

    segments: tuple[Segment, ...]

    @property
    def length_ms(self) -> int:
        """Until it falls silent."""
        return sum(segment.for_ms for segment in self.segments)


@dataclass(frozen=True, slots=True)
class Attribute:
    """A word of the language."""

    name: str
    field: str
    kind: Kind
    about: str
    """For the documentation."""


ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("p50", "p50_us", SPAN_US, "half of the requests are quicker"),
    Attribute("p95", "p95_us", SPAN_US, "one in twenty is slower (left out: twice the p50)"),
    Attribute("errors", "errors", SHARE, "answered with HTTP 500"),
    Attribute("timeouts", "timeouts", SHARE, "end without an answer after `timeout`"),
    Attribute("throttled", "throttled", SHARE, "answered with HTTP 429"),
    Attribute("client_errors", "client_errors", SHARE, "answered with HTTP 404"),
    Attribute("cancelled", "cancelled", SHARE, "given up by who asked (HTTP 499)"),
    Attribute("timeout", "timeout_us", DURATION_US, "how long a request lasts that times out"),
    Attribute("shed", "shed", SHARE, "turned away by a client, and marked so"),
    Attribute("cut", "cut", SHARE, "ended by the caller's deadline, and marked so"),
    Attribute(
        "heartbeats", "heartbeats", RATE, "health checks beside the traffic, marked as probes"
    ),
    Attribute(
        "fails_request", "fails_request", SHARE, "failed calls that fail their caller's request"
    ),
    Attribute("instances", "instances", COUNT, "instances `pod-1`, `pod-2`, … that take turns"),
    Attribute(
        "bad_instance",
        "bad_instance",
        COUNT,
        "whatever goes wrong goes wrong at this one alone (0: at all)",
    ),
    Attribute("export", "export_ms", STEPS_MS, "spans are sent this often"),
    Attribute("delay", "delay_ms", STEPS_MS, "spans arrive this much later"),
    Attribute("skew", "skew_ms", SIGNED_MS, "the host's clock is wrong by this"),
    Attribute(
        "sampled", "sampled", SHARE, "spans that are kept, with the weight in their tracestate"
    ),
)
OUTCOME_SHARES = ("errors", "timeouts", "throttled", "client_errors", "cancelled")
_BY_NAME = {attribute.name: attribute for attribute in ATTRIBUTES}
_NAMES = tuple(_BY_NAME)


def parse_series(text: str, tell: Tell, *, defaults: Mapping[str, str] | None = None) -> Series:
    """The series of a text; `tell` is told everything that is wrong with it, and then the series is of no
    use. defaults: attributes of the first segment that stand outside the text."""
    parts = split_segments(text, tell)
    segments: list[Segment] = []
    before: dict[str, object] = {}
    for number, words in enumerate(parts, 1):
        told = tell if len(parts) == 1 else _numbered(tell, number)
        given = dict(before)
        if number == 1:
            for name, value in (defaults or {}).items():
                _read_word(f"{name}={value}", given, told)
        given.pop("for_ms", None)
        _read_words(words, given, told)
        if "rps" not in given:
            told("gives no rate; begin with one: 200rps")
        if "for_ms" not in given:
            told("says not how long it lasts; end with `for 60s`")
        before = given
        segment = Segment(**({"for_ms": 0, "rps": _SILENCE} | given))  # type: ignore[arg-type] # each was read by its attribute's kind
        _obey_laws(segment, told)
        segments.append(segment)
    return Series(tuple(segments))


def split_segments(text: str, tell: Tell) -> list[list[str]]:
    """The words of each segment."""
    text = text.strip()
    if not text:
        tell("is empty; give a series such as `200rps p50=20ms for 60s`")
        return []
    for match in _THEN.finditer(text):
        if match[1] is None:
            tell("has a `;` without `then`; write `for 60s; then errors=40% for 30s`")
            return []
    parts = [part.split() for part in re.split(r";\s*then\b", text)]
    if len(parts) > SEGMENTS_MAX:
        tell(f"has {len(parts)} segments; give at most {SEGMENTS_MAX}")
        return []
    if any(not words for words in parts):
        tell("has an empty segment; give something between `then` and `;`")
        return []
    return parts


def format_series(series: Series) -> str:
    """The shortest text that reads the same."""
    out = []
    first = Segment(for_ms=0, rps=Ramp(-1.0, -1.0))
    for before, segment in zip((first, *series.segments[:-1]), series.segments, strict=True):
        words = [] if segment.rps == before.rps else [RATE.write(segment.rps)]
        words += [
            f"{attribute.name}={attribute.kind.write(getattr(segment, attribute.field))}"
            for attribute in ATTRIBUTES
            if getattr(segment, attribute.field) != getattr(before, attribute.field)
        ]
        words.append(f"{_LASTING} {write_duration(segment.for_ms * 1_000)}")
        out.append(" ".join(words))
    return "; then ".join(out)


def _numbered(tell: Tell, number: int) -> Tell:
    return lambda message: tell(f"segment {number}: {message}")


def _read_words(words: list[str], given: dict[str, object], tell: Tell) -> None:
    seen: set[str] = set()
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        if word == _LASTING:
            lasting = words[place] if place < len(words) else ""
            place += 1
            name = _LASTING
            try:
                given["for_ms"] = _lasting(lasting)
            except ValueError as problem:
                given["for_ms"] = 0
                tell(f"for: {problem}")
        else:
            name = _read_word(word, given, tell)
        if name in seen:
            tell(f"{name} stands twice; keep one of them")
        seen.add(name)


def _lasting(text: str) -> int:
    ms = steps_ms(text)
    if ms == 0:
        raise ValueError("0s is no time; give at least 500ms")
    return ms


def _read_word(word: str, given: dict[str, object], tell: Tell) -> str:
    """Reads one word but `for`; its name."""
    name, equals, value = word.partition("=")
    if not equals:
        if word[0].isdigit():
            try:
                given["rps"] = RATE.read(word)
            except ValueError as problem:
                given.setdefault("rps", _SILENCE)
                tell(str(problem))
            return "rps"
        near = nearest(name, (*_NAMES, _LASTING, "then"))
        hint = f"; did you mean `{near}`?" if near else ""
        tell(f"{shown(word)} is no word of a series{hint}")
        return name
    attribute = _BY_NAME.get(name)
    if attribute is None:
        near = nearest(name, _NAMES)
        hint = f"did you mean `{near}`?" if near else f"allowed: {', '.join(_NAMES)}"
        tell(f"{shown(name)} is no attribute; {hint}")
        return name
    try:
        given[attribute.field] = attribute.kind.read(value)
    except ValueError as problem:
        tell(f"{name}: {problem}")
    return name


def _obey_laws(segment: Segment, tell: Tell) -> None:
    slow = segment.p95_us
    if slow is not None and (slow.start < segment.p50_us.start or slow.end < segment.p50_us.end):
        tell(f"p95={SPAN_US.write(slow)} is below p50={SPAN_US.write(segment.p50_us)}; give both")
    for names in (OUTCOME_SHARES, ("shed", "cut")):
        total = sum(getattr(segment, name).most for name in names)
        if total > 1 + 1e-9:
            given = [n for n in names if getattr(segment, n).most]
            tell(f"{' and '.join(given)} are {total:.0%} together; give at most 100%")
    if segment.bad_instance > segment.instances:
        tell(
            f"bad_instance={segment.bad_instance} is none of {segment.instances} instances; "
            f"give instances=N with at least {segment.bad_instance}"
        )
    if segment.export_ms == 0:
        tell("export=0s: give at least 500ms, a record a bucket")
    if segment.sampled.most == 0:
        tell("sampled=0% keeps nothing; give 0rps for silence")
