"""Callers that give up: after how long, before whom, and what goes on for nobody."""

from collections import defaultdict
from dataclasses import dataclass

from tests.graph_oracle.edges import quantile_ns
from tests.graph_oracle.reading import Window
from tests.graph_oracle.traces import Edge, Traces

__all__ = ["GaveUp", "Outlived", "deadline_grows", "gave_up", "gives_up_early", "outlived"]


@dataclass(frozen=True, slots=True)
class GaveUp:
    """Calls of an edge that timed out."""

    calls: int
    deadline_ns: int
    """Their median duration."""


@dataclass(frozen=True, slots=True)
class Outlived:
    """What callees did after their caller's span had ended."""

    pairs: int
    """Calls of the edge whose callee's span is known and ended in the window."""
    outlived: int
    """Of these, callees that ended later than their caller's span."""
    outlived_ns: int
    """By how much, together."""


def gave_up(traces: Traces, window: Window) -> dict[Edge, GaveUp]:
    """By edge; of calls that ended in the window."""
    found = defaultdict(list)
    for span in traces.spans:
        if span.is_call and span.is_timeout and window.holds(span):
            found[traces.edge(span)].append(span.duration_ns)
    return {edge: GaveUp(len(took), quantile_ns(took, 50)) for edge, took in found.items()}


def outlived(traces: Traces, window: Window) -> dict[Edge, Outlived]:
    """By edge; of callees that ended in the window."""
    found = defaultdict(list)
    for pair in traces.pairs:
        if window.holds(pair.request):
            found[traces.edge(pair.call)].append(pair.request.end_ns - pair.call.end_ns)
    return {
        edge: Outlived(
            pairs=len(over),
            outlived=sum(ns > 0 for ns in over),
            outlived_ns=sum(ns for ns in over if ns > 0),
        )
        for edge, over in found.items()
    }


def gives_up_early(traces: Traces, window: Window) -> dict[Edge, tuple[int, int]]:
    """Edges whose deadline lies below the P99 of what the callee takes for its requests: (deadline, P99),
    both in ns and in the window."""
    took = defaultdict(list)
    for span in traces.spans:
        if not span.is_call and window.holds(span):
            took[span.service].append(span.duration_ns)
    out = {}
    for edge, given_up in gave_up(traces, window).items():
        if took[edge[1]]:
            p99_ns = quantile_ns(took[edge[1]], 99)
            if given_up.deadline_ns < p99_ns:
                out[edge] = (given_up.deadline_ns, p99_ns)
    return out


def deadline_grows(traces: Traces, window: Window) -> dict[tuple[str, str, str], tuple[int, int]]:
    """Paths of three on which the one in the middle waits longer than its own caller waits for it: both
    deadlines in ns."""
    deadlines = {edge: found.deadline_ns for edge, found in gave_up(traces, window).items()}
    return {
        (first, middle, last): (above_ns, below_ns)
        for (first, middle), above_ns in deadlines.items()
        for (caller, last), below_ns in deadlines.items()
        if caller == middle and below_ns > above_ns
    }
