"""Pairing: one partition of `tidegate.pairs` goes in, facts (who answers whom) and loops come out.

A function of the log: its records and when each was appended. It keeps no standing: a successor reads the
last TRACE_MS again and may tell a pair twice. What it tells is a sample, not an account.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from tidegate.rules.answers import Answers
from tidegate.rules.sampled_traces import PairSpan, SampledTrace, outlived_ms, seen_ns
from tidegate.schemas.facts import Fact, Loop
from tidegate.schemas.pairs import decode_pairs

__all__ = [
    "FLUSH_MS",
    "LOOPS_MAX",
    "LOSSES",
    "SETTLE_MS",
    "SPANS_MAX",
    "TRACE_MS",
    "TRACE_SPANS_MAX",
    "Pairing",
    "Told",
]

TRACE_MS = 60_000
"""A trace is held for so long after its first span was appended."""
SETTLE_MS = 10_000
"""A trace is looked at as a whole after so long, and once more when it leaves. SDKs export every 5 s."""
FLUSH_MS = 5_000
"""Facts and loops are told at most so often; who answers, when that is news, at once."""
SPANS_MAX = 200_000
"""Held; the oldest traces leave first. About 100 MB."""
TRACE_SPANS_MAX = 5_000
LOOPS_MAX = 8
"""Told at a time."""
SKEW_MAX_MS = 5_000
"""Nothing is seen later than this after its record was appended, whatever clocks say."""
LOSSES = (
    "answers_left_out",
    "callees_left_out",
    "crowded_out_spans",
    "loops_left_out",
    "trace_overflow_spans",
    "undecodable_pairs",
)
"""Counters of what was left out."""
_JOINING_MAX = 10_000
_NS_PER_MS = 1_000_000


@dataclass(slots=True)
class Told:
    """What goes into partials."""

    facts: list[Fact] = field(default_factory=list)
    """Sorted by caller and target."""
    loops: list[Loop] = field(default_factory=list)
    """Sorted by path."""

    def __bool__(self) -> bool:
        return bool(self.facts or self.loops)


class Pairing:
    """Memory of one partition."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        """LOSSES, and `spans`, `duplicate_spans`, `pairs`."""
        self.spans_count = 0
        self._now_ms = 0
        self._flushed_ms = -FLUSH_MS
        self._answers = Answers(self.counters)
        self._loops: dict[tuple[str, ...], Loop] = {}
        self._joining: set[str] = set()
        """Services whose requests share their calls' ids."""
        self._traces: dict[tuple[int, int], SampledTrace] = {}
        """The oldest first."""
        self._unsettled: deque[tuple[int, int]] = deque()

    def __len__(self) -> int:
        return len(self._traces)

    def feed(self, record: bytes, append_ms: int) -> None:
        """One record, with the time the broker appended it. Bytes that are no pairs record are counted,
        never raised."""
        self._advance(append_ms)
        try:
            spans = decode_pairs(record)
        except ValueError:
            self.counters["undecodable_pairs"] += 1
            return
        self.counters["spans"] += len(spans)
        services, targets = spans.services, spans.targets
        traces = zip(spans.trace_hi.tolist(), spans.trace_lo.tolist(), strict=True)
        rows = zip(
            spans.span_id.tolist(),
            spans.parent_id.tolist(),
            spans.kind.tolist(),
            spans.outcome.tolist(),
            map(services.__getitem__, spans.service.tolist()),
            map(targets.__getitem__, spans.target.tolist()),
            spans.start_ns.tolist(),
            spans.end_ns.tolist(),
            strict=True,
        )
        for trace, row in zip(traces, rows, strict=True):
            self._add(trace, PairSpan(*row))

    def due(self, now_ms: int) -> Told:
        """What is to be told by now, in the log's time."""
        self._advance(now_ms)
        has_any = self._answers.has_untold or self._loops
        if has_any and self._now_ms - self._flushed_ms >= FLUSH_MS:
            return self._flush()
        return Told(self._answers.tell(only_news=True))

    def finish(self) -> Told:
        """All that is left, at the end of a recording."""
        for trace in self._traces.values():
            self._settle(trace)
        return self._flush()

    def _flush(self) -> Told:
        self._flushed_ms = self._now_ms
        loops = [loop for _, loop in sorted(self._loops.items())]
        self._loops = {}
        return Told(self._answers.tell(), loops)

    def _advance(self, now_ms: int) -> None:
        """Looks at traces that have settled, and lets those go that have been held long enough."""
        self._now_ms = max(self._now_ms, now_ms)
        while self._unsettled:
            trace = self._traces.get(self._unsettled[0])
            if trace is not None and trace.first_ms + SETTLE_MS > self._now_ms:
                break
            self._unsettled.popleft()
            if trace is not None:
                self._settle(trace)
        while self._traces:
            number, trace = next(iter(self._traces.items()))
            if trace.first_ms + TRACE_MS > self._now_ms:
                break
            self._let_go(number, trace)
        self._answers.forget_old(self._now_ms)

    def _add(self, number: tuple[int, int], span: PairSpan) -> None:
        trace = self._traces.get(number)
        if trace is None:
            trace = SampledTrace(f"{number[0]:016x}{number[1]:016x}", self._now_ms)
            self._traces[number] = trace
            self._unsettled.append(number)
        if len(trace) >= TRACE_SPANS_MAX:
            self.counters["trace_overflow_spans"] += 1
            return
        if not trace.add(span):
            self.counters["duplicate_spans"] += 1
            return
        self.spans_count += 1
        self._note(trace.links_of(span, self._joining))
        while self.spans_count > SPANS_MAX:
            oldest = next(iter(self._traces))
            self.counters["crowded_out_spans"] += len(self._traces[oldest])
            self._let_go(oldest, self._traces[oldest])

    def _let_go(self, number: tuple[int, int], trace: SampledTrace) -> None:
        self._settle(trace)
        self.spans_count -= len(trace)
        del self._traces[number]

    def _settle(self, trace: SampledTrace) -> None:
        if not trace.is_changed:
            return
        trace.is_changed = False
        self._note(trace.late_links())
        for path, request in trace.loops():
            loop = Loop(path, trace.trace_id, self._held_ms(request.end_ns))
            known = self._loops.get(tuple(path))
            if known is None and len(self._loops) >= LOOPS_MAX:
                self.counters["loops_left_out"] += 1
            elif known is None or (known.seen_ms, known.trace_id) < (loop.seen_ms, loop.trace_id):
                self._loops[tuple(path)] = loop

    def _note(self, links: Iterable[tuple[PairSpan, PairSpan]]) -> None:
        for call, request in links:
            if call.id == request.id and len(self._joining) < _JOINING_MAX:
                self._joining.add(request.service)
            if not call.target:
                continue
            self.counters["pairs"] += 1
            self._answers.note(
                (call.service, call.target),
                request.service,
                seen_ms=self._held_ms(seen_ns(call, request)[1]),
                outlived_ms=outlived_ms(call, request),
                now_ms=self._now_ms,
            )

    def _held_ms(self, end_ns: int) -> int:
        return min(end_ns // _NS_PER_MS, self._now_ms + SKEW_MAX_MS)
