"""Edges and nodes with their counts in a window, fan-out, amplification, and the network between two views."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.graph_oracle.reading import TraceSpan, Window
from tests.graph_oracle.traces import Edge, Traces

__all__ = [
    "Amplification",
    "EdgeCounts",
    "Network",
    "NodeCounts",
    "amplification",
    "edges",
    "network",
    "nodes",
    "quantile_ns",
    "reach",
]


@dataclass(slots=True)
class NodeCounts:
    """A service's own requests."""

    requests: int = 0
    failed: int = 0
    timeouts: int = 0


@dataclass(slots=True)
class EdgeCounts:
    """One caller's calls to one callee, as the caller saw them end."""

    calls: int = 0
    failed: int = 0
    timeouts: int = 0
    requests: int = 0
    """Of the caller, in the same window."""

    @property
    def fan_out(self) -> float | None:
        """Calls per request of the caller; None where it had no request."""
        return self.calls / self.requests if self.requests else None


@dataclass(frozen=True, slots=True)
class Amplification:
    """Fan-out now, and what it usually is."""

    now: float
    usual: float

    @property
    def factor(self) -> float:
        """How many times as many calls a request makes."""
        return self.now / self.usual


@dataclass(frozen=True, slots=True)
class Network:
    """Both views of the same calls, durations in ns."""

    pairs: int
    client_p95_ns: int
    server_p95_ns: int
    median_ns: int
    """Of client minus server, call by call: the way there and back, and queues on it."""


def nodes(traces: Traces, window: Window) -> dict[str, NodeCounts]:
    """Services that had requests end in the window."""
    out: dict[str, NodeCounts] = defaultdict(NodeCounts)
    for span in traces.spans:
        if not span.is_call and window.holds(span):
            _count(out[span.service], span)
            out[span.service].requests += 1
    return dict(out)


def edges(traces: Traces, window: Window) -> dict[Edge, EdgeCounts]:
    """Edges whose calls ended in the window."""
    callers = nodes(traces, window)
    out: dict[Edge, EdgeCounts] = defaultdict(EdgeCounts)
    for span in traces.spans:
        if span.is_call and window.holds(span):
            counts = out[traces.edge(span)]
            _count(counts, span)
            counts.calls += 1
    for (caller, _), counts in out.items():
        counts.requests = callers[caller].requests if caller in callers else 0
    return dict(out)


def amplification(traces: Traces, now: Window, usual: Window) -> dict[Edge, Amplification]:
    """Of edges that have a fan-out in both windows."""
    before = {edge: counts.fan_out for edge, counts in edges(traces, usual).items()}
    out = {}
    for edge, counts in edges(traces, now).items():
        fan_out, was = counts.fan_out, before.get(edge)
        if fan_out is not None and was is not None:
            out[edge] = Amplification(fan_out, was)
    return out


def network(traces: Traces, window: Window) -> dict[Edge, Network]:
    """Of calls that ended in the window and whose callee's span is known."""
    found = defaultdict(list)
    for pair in traces.pairs:
        if window.holds(pair.call):
            found[traces.edge(pair.call)].append(pair)
    return {
        edge: Network(
            pairs=len(pairs),
            client_p95_ns=quantile_ns([pair.call.duration_ns for pair in pairs], 95),
            server_p95_ns=quantile_ns([pair.request.duration_ns for pair in pairs], 95),
            median_ns=quantile_ns(
                [pair.call.duration_ns - pair.request.duration_ns for pair in pairs], 50
            ),
        )
        for edge, pairs in found.items()
    }


def reach(traces: Traces, entry: str, found: Iterable[Edge]) -> set[str]:
    """Everything that a request entering at `entry` may come to along these edges, itself too. Behind a
    virtual node are the services that answer there."""
    onward: dict[str, set[str]] = defaultdict(set)
    for caller, callee in found:
        onward[caller].add(callee)
    for target, behind in traces.virtual().items():
        onward[target] |= behind
    seen, waiting = {entry}, [entry]
    while waiting:
        for callee in onward[waiting.pop()] - seen:
            seen.add(callee)
            waiting.append(callee)
    return seen


def quantile_ns(values: Sequence[int], percent: int) -> int:
    """By nearest rank. Raises ValueError without any."""
    if not values:
        raise ValueError("no values: a quantile needs at least one")
    rank = -(-percent * len(values) // 100)
    return sorted(values)[max(rank, 1) - 1]


def _count(counts: NodeCounts | EdgeCounts, span: TraceSpan) -> None:
    counts.failed += span.is_failed
    counts.timeouts += span.is_timeout
