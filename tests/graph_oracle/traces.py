"""Who answered whom: callers' spans and callees' put together by their ids, over a whole set of traces."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tests.graph_oracle.reading import TraceSpan

__all__ = ["Edge", "Pair", "Traces"]

Edge = tuple[str, str]
"""(caller, callee); the callee is a service, or a target that no single service answers."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A call and the request that it became."""

    call: TraceSpan
    request: TraceSpan


class Traces:
    """All spans, by id."""

    def __init__(self, spans: Sequence[TraceSpan]) -> None:
        self.spans = spans
        self.by_id = {(span.trace, span.span): span for span in spans}
        self.pairs = self._pairs()
        self.answered: dict[Edge, set[str]] = defaultdict(set)
        """(caller, target) -> all services that ever answered."""
        for pair in self.pairs:
            self.answered[pair.call.service, pair.call.target].add(pair.request.service)

    def parent(self, span: TraceSpan) -> TraceSpan | None:
        """None for the first span of a trace, and where nobody sent the parent."""
        return self.by_id.get((span.trace, span.parent))

    def edge(self, call: TraceSpan) -> Edge:
        """With the callee's own name where exactly one service ever answered that target, else the target."""
        answered = self.answered.get((call.service, call.target), set())
        return call.service, min(answered) if len(answered) == 1 else call.target

    def entries(self) -> set[str]:
        """Services that get requests from outside: without a parent."""
        return {span.service for span in self.spans if not span.is_call and not span.parent}

    def virtual(self) -> dict[str, set[str]]:
        """Callees that send no spans under their name, and the services behind each: none (a database) or
        several (a mesh)."""
        services = {span.service for span in self.spans}
        out: dict[str, set[str]] = {}
        for span in self.spans:
            if span.is_call and self.edge(span)[1] not in services:
                behind = out.setdefault(span.target, set())
                behind |= self.answered.get((span.service, span.target), set())
        return out

    def _pairs(self) -> list[Pair]:
        out = []
        for span in self.spans:
            call = self.parent(span)
            if call is not None and call.is_call and not span.is_call:
                out.append(Pair(call, span))
        return out
