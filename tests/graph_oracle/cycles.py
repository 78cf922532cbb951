"""Cycles, twice: services that can reach each other along edges, and requests that really went round."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from tests.graph_oracle.reading import TraceSpan, Window
from tests.graph_oracle.traces import Edge, Traces

__all__ = ["Round", "components", "rounds"]


@dataclass(frozen=True, slots=True)
class Round:
    """One request that came back to a service that it had come through."""

    path: tuple[str, ...]
    """In the order of the calls; the first service is the last one too."""
    trace: str
    end_ns: int
    """Of the request that closes the circle."""


def components(edges: Iterable[Edge]) -> set[frozenset[str]]:
    """Sets of two or more that all reach each other."""
    onward: dict[str, set[str]] = defaultdict(set)
    for caller, callee in edges:
        onward[caller].add(callee)
    reached = {name: _reached(name, onward) for name in list(onward)}
    out = set()
    for name, found in reached.items():
        mutual = {other for other in found if name in reached.get(other, set())} | {name}
        if len(mutual) > 1:
            out.add(frozenset(mutual))
    return out


def rounds(traces: Traces, window: Window) -> list[Round]:
    """Of requests that ended in the window, those whose service stands above them already, with another one
    in between; the path from the nearest such place. One service that calls itself doesn't go round."""
    out = []
    for span in traces.spans:
        if not span.is_call and window.holds(span):
            path = _path_back(traces, span)
            if path:
                out.append(Round(path, span.trace, span.end_ns))
    return out


def _path_back(traces: Traces, span: TraceSpan) -> tuple[str, ...]:
    """Empty where the service isn't met again."""
    upwards = [span.service]
    seen = {span.span}
    above = traces.parent(span)
    while above is not None and above.span not in seen:
        seen.add(above.span)
        if above.service != upwards[-1]:
            upwards.append(above.service)
            if above.service == span.service:
                return tuple(reversed(upwards))
        above = traces.parent(above)
    return ()


def _reached(start: str, onward: dict[str, set[str]]) -> set[str]:
    """By one call or more."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for callee in onward.get(waiting.pop(), set()) - seen:
            seen.add(callee)
            waiting.append(callee)
    return seen
