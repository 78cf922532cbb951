"""From series to OTLP records, one a step of virtual time. Each series draws from a generator of its own,
so that another series beside it, or a longer one, changes nothing of it.

Requests of a step come evenly, each somewhere inside its part of the step; durations are dealt from a deck
of the log-normal's quantiles, so that 200 requests have the P50 and P95 that were asked for.
"""

import math
import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

from tidegate.schemas.outcome import FAILED_OUTCOMES, Effect, Outcome
from tidegate.streams.policy_test.series import Segment, Series
from tidegate.streams.policy_test.spans import TRACE_PREFIX, record_of, span_packer
from tidegate.streams.policy_test.values import STEP_MS, Share

__all__ = ["BASE_MS", "Admits", "Admitted", "Key", "Traffic"]

BASE_MS = 1_750_032_000_000
"""When every case begins: at midnight UTC, so that clocks in reasons show the case's own time."""
Key = tuple[str, str]
"""(service, target); target "" for the service's own requests."""

_STEP_US = STEP_MS * 1_000
_BASE_NS = BASE_MS * 1_000_000
_DECK = tuple(NormalDist().inv_cdf((i + 0.5) / 200) for i in range(200))
_Z95 = NormalDist().inv_cdf(0.95)
_SHED_US = 100
_WHOLE = 1.0 - 1e-9
"""Twenty times 0.05 must be one."""
_OUTCOMES = {
    "errors": Outcome.SERVER_ERROR,
    "timeouts": Outcome.TIMEOUT,
    "throttled": Outcome.THROTTLED,
    "client_errors": Outcome.CLIENT_ERROR,
    "cancelled": Outcome.CANCELLED,
}
_EFFECTS = {"shed": Effect.SHED, "cut": Effect.CUT}


@dataclass(frozen=True, slots=True)
class Admitted:
    """What a client said of one request."""

    effect: Effect = Effect.NONE
    deadline_us: int = 0
    """0: none."""


class Admits(Protocol):
    """A client that obeys decisions."""

    def __call__(self, key: Key, trace_id: bytes, now_ms: int, *, is_heartbeat: bool) -> Admitted:
        """Whether this request may be made."""


@dataclass(slots=True)
class _Made:
    """A request, times in µs from the case's start."""

    start_us: int
    end_us: int
    outcome: Outcome
    effect: Effect
    instance: int
    trace: int
    span: int
    parent: "_Made | None" = None


@dataclass(frozen=True, slots=True)
class _Odds:
    """What may happen to the requests of one step but that all is well."""

    exactly: tuple[tuple[str, Share, Outcome], ...]
    by_chance: tuple[tuple[float, Outcome], ...]
    """Percent, outcome."""
    effects: tuple[tuple[str, Share, Effect], ...]

    @classmethod
    def of(cls, segment: Segment, part: float) -> "_Odds":
        """After this part of a segment."""
        shares = [(name, getattr(segment, name), outcome) for name, outcome in _OUTCOMES.items()]
        effects = [(name, getattr(segment, name), effect) for name, effect in _EFFECTS.items()]
        return cls(
            tuple(one for one in shares if one[1].of),
            tuple((s.percent.at(part), outcome) for _, s, outcome in shares if s.most and not s.of),
            tuple(one for one in effects if one[1].most),
        )


class _Source:
    """One series as it runs."""

    def __init__(self, key: Key, series: Series, seed: int) -> None:
        self.key = key
        self.segments = series.segments
        self.draw = random.Random(f"{seed}/{key[0]}/{key[1]}")
        self.deck: list[float] = []
        self.due = 0.0
        self.heartbeats_due = 0.0
        self.taken = 0
        self.exact: dict[str, int] = {}
        self.number = 0
        self.begins_ms = 0

    def segment(self, now_ms: int) -> tuple[Segment, float] | None:
        """The segment of a step, and how much of it is over in the middle of the step; None once it is
        silent. Steps only go on."""
        while self.number < len(self.segments):
            segment = self.segments[self.number]
            if now_ms < self.begins_ms + segment.for_ms:
                return segment, (now_ms + STEP_MS / 2 - self.begins_ms) / segment.for_ms
            self.begins_ms += segment.for_ms
            self.number += 1
        return None

    def hits(self, name: str, share: Share, part: float) -> bool:
        """Whether a share of the requests includes this one."""
        if share.of:
            count = self.exact.get(name, 0) + share.hits
            self.exact[name] = count % share.of
            return count >= share.of
        return share.most > 0 and self.draw.random() * 100.0 < share.percent.at(part)

    def outcome(self, odds: "_Odds") -> Outcome:
        """How the next request ends: exact shares before those of chance, which exclude each other."""
        for name, share, outcome in odds.exactly:
            if self.hits(name, share, 0.0):
                return outcome
        left = self.draw.random() * 100.0 if odds.by_chance else 0.0
        for percent, outcome in odds.by_chance:
            left -= percent
            if left < 0.0:
                return outcome
        return Outcome.OK

    def z(self) -> float:
        """A quantile of the standard normal distribution."""
        if not self.deck:
            self.deck = list(_DECK)
            self.draw.shuffle(self.deck)
        return self.deck.pop()


class Traffic:
    """All series of a case. `step` goes through them one step at a time."""

    def __init__(
        self, series: Mapping[Key, Series], seed: int, *, admits: Admits | None = None
    ) -> None:
        ordered = sorted(series.items(), key=lambda item: (item[0][1] != "", item[0]))
        self._sources = [_Source(key, one, seed) for key, one in ordered]
        self._admits = admits
        self._arrivals: defaultdict[int, dict[tuple[str, str], list[bytes]]] = defaultdict(dict)
        self._ids = 0
        self.step = 0
        self.spans_count = 0

    def next_record(self) -> tuple[bytes, int]:
        """The record that arrives at the next step's end, and its Kafka time in ms. It may hold no span:
        time goes on all the same."""
        now_ms = self.step * STEP_MS
        served: dict[str, list[_Made]] = {}
        made: list[tuple[_Source, Segment, list[_Made]]] = []
        for source in self._sources:
            found = source.segment(now_ms)
            if found is None:
                continue
            segment, part = found
            requests = self._requests(source, segment, part)
            service, target = source.key
            if not target:
                served[service] = requests
            elif parents := served.get(service):
                _adopt(source, segment, part, requests, parents)
            made.append((source, segment, requests))
        for source, segment, requests in made:
            self._send(source, segment, requests)
        self.step += 1
        groups = self._arrivals.pop(self.step, {})
        record = record_of((*name, spans) for name, spans in sorted(groups.items()))
        return record, BASE_MS + self.step * STEP_MS

    def _requests(self, source: _Source, segment: Segment, part: float) -> list[_Made]:
        source.due += segment.rps.at(part) * STEP_MS / 1_000
        source.heartbeats_due += segment.heartbeats.at(part) * STEP_MS / 1_000
        count = int(source.due - _WHOLE) + 1 if source.due >= _WHOLE else 0
        beats = int(source.heartbeats_due - _WHOLE) + 1 if source.heartbeats_due >= _WHOLE else 0
        source.due = max(0.0, source.due - count)
        source.heartbeats_due = max(0.0, source.heartbeats_due - beats)
        median_us, slow_us = segment.p50_us.at(part), segment.slow_us(part)
        sigma = math.log(slow_us / median_us) / _Z95
        odds = _Odds.of(segment, part)
        out = []
        for i in range(count + beats):
            is_heartbeat = i >= count
            place, among = (i - count, beats) if is_heartbeat else (i, count)
            start_us = self.step * _STEP_US + int((place + source.draw.random()) / among * _STEP_US)
            took_us = max(1, int(median_us * math.exp(sigma * source.z())))
            one = _Made(start_us, 0, Outcome.OK, Effect.NONE, 0, self._next(), self._ids)
            if segment.instances:
                one.instance = source.taken % segment.instances + 1
                source.taken += 1
            if not segment.bad_instance or one.instance == segment.bad_instance:
                one.outcome = source.outcome(odds)
            if one.outcome is Outcome.TIMEOUT:
                took_us = segment.timeout_us
            one.end_us = start_us + took_us
            if is_heartbeat:
                one.effect = Effect.PROBE
            else:
                one.effect = next(
                    (e for name, share, e in odds.effects if source.hits(name, share, part)),
                    Effect.NONE,
                )
            self._admit(source.key, one)
            out.append(one)
        out.sort(key=lambda one: (one.start_us, one.span))
        return out

    def _admit(self, key: Key, one: _Made) -> None:
        """What a client that obeys does to it, and what is left of one that was turned away."""
        if self._admits is not None and one.effect is not Effect.SHED:
            trace_id = TRACE_PREFIX + one.trace.to_bytes(8, "little")
            now_ms = BASE_MS + one.start_us // 1_000
            said = self._admits(key, trace_id, now_ms, is_heartbeat=one.effect is Effect.PROBE)
            if said.effect is not Effect.NONE:
                one.effect = said.effect
            limit_us = one.start_us + said.deadline_us
            if said.deadline_us and key[1] and one.end_us > limit_us:
                one.effect, one.outcome, one.end_us = Effect.CUT, Outcome.TIMEOUT, limit_us
        if one.effect is Effect.SHED:
            one.outcome, one.end_us = Outcome.SERVER_ERROR, one.start_us + _SHED_US

    def _send(self, source: _Source, segment: Segment, requests: list[_Made]) -> None:
        service, target = source.key
        kept = segment.sampled.most
        skew_ns = _BASE_NS + segment.skew_ms * 1_000_000
        for one in requests:
            if kept < 1 and not source.hits("sampled", segment.sampled, 0.0):
                continue
            last_us = one.end_us if one.parent is None else max(one.end_us, one.parent.end_us)
            exports = last_us // (segment.export_ms * 1_000) + 1
            arrives = (exports * segment.export_ms + segment.delay_ms) // STEP_MS
            instance = f"pod-{one.instance}" if one.instance else ""
            pack = span_packer(
                service,
                target,
                one.outcome,
                one.effect,
                kept,
                has_parent=one.parent is not None,
            )
            span = pack(
                one.trace,
                one.span,
                one.parent.span if one.parent else 0,
                one.start_us * 1_000 + skew_ns,
                one.end_us * 1_000 + skew_ns,
            )
            self._arrivals[arrives].setdefault((service, instance), []).append(span)
            self.spans_count += 1

    def _next(self) -> int:
        self._ids += 1
        return self._ids


def _adopt(
    source: _Source, segment: Segment, part: float, calls: list[_Made], requests: list[_Made]
) -> None:
    """Spreads a step's calls over the requests of their caller that were served. A request lasts as long as
    its calls; a failed call fails it as often as the series says."""
    parents = [request for request in requests if request.effect is not Effect.SHED]
    if not parents:
        return
    each = max(len(calls), len(parents))
    for i, call in enumerate(calls):
        parent = parents[i * each // len(calls) % len(parents)]
        call.parent, call.trace = parent, parent.trace
        call.instance = call.instance or parent.instance
        call.end_us += parent.start_us - call.start_us
        call.start_us = parent.start_us
        parent.end_us = max(parent.end_us, call.end_us)
        failed = call.outcome in FAILED_OUTCOMES and call.effect is Effect.NONE
        is_ok = parent.outcome is Outcome.OK
        if failed and source.hits("fails_request", segment.fails_request, part) and is_ok:
            parent.outcome = Outcome.SERVER_ERROR
