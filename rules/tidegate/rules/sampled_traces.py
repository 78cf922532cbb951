"""The spans of one sampled trace: which request answers which call, and whether a request goes round.

Spans come in any order. A call (CLIENT, PRODUCER) is answered by the request (SERVER, CONSUMER) whose parent
it is. Zipkin's instrumentation lets both share one id instead; the request's parent id is then that of the
request before. A service whose requests were seen to do so *joins*: its requests are matched by their own id
at once, by their parent's only when the trace has settled.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass, field

from tidegate.schemas.outcome import Outcome, SpanKind

__all__ = ["WALK_SPANS_MAX", "PairSpan", "SampledTrace", "outlived_ms", "seen_ns"]

WALK_SPANS_MAX = 256
"""A walk from a request up to the root ends after so many spans; parents may go in circles."""
_REQUESTS = frozenset({SpanKind.SERVER, SpanKind.CONSUMER})
_CALLS = frozenset({SpanKind.CLIENT, SpanKind.PRODUCER})
_GIVEN_UP = frozenset({Outcome.CANCELLED, Outcome.SERVER_ERROR, Outcome.TIMEOUT})
"""How a call may end without an answer."""
_NS_PER_MS = 1_000_000


@dataclass(slots=True, eq=False)
class PairSpan:
    """One span of a sampled trace."""

    id: int
    parent: int
    """0: none."""
    kind: int
    outcome: int
    service: str
    target: str
    """"" but for calls."""
    start_ns: int
    end_ns: int
    is_answer: bool = False
    """A request whose call has been found."""

    @property
    def is_request(self) -> bool:
        """Whether it is a SERVER or CONSUMER span."""
        return self.kind in _REQUESTS

    @property
    def is_call(self) -> bool:
        """Whether it is a CLIENT or PRODUCER span."""
        return self.kind in _CALLS


@dataclass(slots=True, eq=False)
class SampledTrace:
    """What has come of one trace."""

    trace_id: str
    """32 hex characters."""
    first_ms: int
    """When its first span was appended."""
    is_changed: bool = False
    """Whether spans came since it was last settled."""
    told: set[tuple[str, ...]] = field(default_factory=set)
    """Paths of loops that were given out."""
    _requests: dict[int, PairSpan] = field(default_factory=dict)
    _others: dict[int, PairSpan] = field(default_factory=dict)
    """Calls and INTERNAL spans."""
    _children: dict[int, list[PairSpan]] = field(default_factory=dict)
    """Requests by their parent's id."""

    def __len__(self) -> int:
        return len(self._requests) + len(self._others)

    def add(self, span: PairSpan) -> bool:
        """False where it is there already."""
        mine = self._requests if span.is_request else self._others
        if span.id in mine:
            return False
        mine[span.id] = span
        if span.is_request and span.parent:
            self._children.setdefault(span.parent, []).append(span)
        self.is_changed = True
        return True

    def links_of(
        self, span: PairSpan, joins: Container[str]
    ) -> Iterator[tuple[PairSpan, PairSpan]]:
        """(call, request) that are found with this new span. joins: services that share ids."""
        if span.is_request:
            yield from self._link(span, joins)
        elif span.is_call:
            if shared := self._requests.get(span.id):
                yield from self._link(shared, joins)
            for child in self._children.get(span.id, ()):
                yield from self._link(child, joins)

    def late_links(self) -> Iterator[tuple[PairSpan, PairSpan]]:
        """(call, request) that are found once nothing more is waited for."""
        for request in self._requests.values():
            yield from self._link(request, ())

    def _link(
        self, request: PairSpan, joins: Container[str]
    ) -> Iterator[tuple[PairSpan, PairSpan]]:
        if request.is_answer:
            return
        call = self._others.get(request.id)
        if call is None or not call.is_call:
            # Where the parent's id is also a request's, that one is meant: ids are shared in this trace.
            if request.service in joins or request.parent in self._requests:
                return
            call = self._others.get(request.parent)
        if call is not None and call.is_call:
            request.is_answer = True
            yield call, request

    def loops(self) -> Iterator[tuple[list[str], PairSpan]]:
        """(path, the request that closes it) of every request that came back to a service it had come
        through, with another one between; each path once."""
        for request in self._requests.values():
            path = self._round(request)
            if path and tuple(path) not in self.told:
                self.told.add(tuple(path))
                yield path, request

    def _round(self, request: PairSpan) -> list[str]:
        """Services in the order of the calls, from this one's last appearance before; empty for none."""
        path, at = [request.service], self._above(request)
        for _ in range(WALK_SPANS_MAX):
            if at is None:
                break
            if at.service != path[-1]:
                path.append(at.service)
                if at.service == request.service:
                    return path[::-1]
            at = self._above(at)
        return []

    def _above(self, span: PairSpan) -> PairSpan | None:
        requests, others = self._requests, self._others
        if span.is_request:
            shared = others.get(span.id)
            if shared is not None and shared.is_call:
                return shared
            return others.get(span.parent) or requests.get(span.parent)
        return requests.get(span.parent) or others.get(span.parent)


def seen_ns(call: PairSpan, request: PairSpan) -> tuple[int, int]:
    """(start, end) of the callee's span on the caller's clock.

    A callee can't begin before it was called: where its span says so, its clock is behind, and the span is
    moved to begin with the call. That is the least that must be wrong, so nothing is made longer by it. A
    clock that is ahead doesn't show.
    """
    behind_ns = max(0, call.start_ns - request.start_ns)
    return request.start_ns + behind_ns, request.end_ns + behind_ns


def outlived_ms(call: PairSpan, request: PairSpan) -> int:
    """For how long the callee worked on after its caller's span had ended, in whole ms; 0 where it didn't.

    Only CLIENT calls that ended without an answer have such work (who has an answer may end its span
    before the callee has written the last of it, or tidied up). So hosts' clocks that differ by a little
    show only there, and never by more than the callee's own duration.
    """
    is_waited_for = call.kind == SpanKind.CLIENT and request.kind == SpanKind.SERVER
    if not is_waited_for or call.outcome not in _GIVEN_UP:
        return 0
    start_ns, end_ns = seen_ns(call, request)
    return max(0, end_ns - max(start_ns, call.end_ns)) // _NS_PER_MS
