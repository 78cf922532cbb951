"""Root causes: where what is bad in a graph begins.

Badness flows from the entry along the calls that are bad. At each node it splits: what its own bad calls explain
goes on to their callees, in proportion; the rest begins here. So a caller of a dead, silent callee keeps nothing,
and a node whose dependencies are well keeps all that reaches it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["BadCall", "Blame", "blame"]

Floats = npt.NDArray[np.float64]
ROUNDS_MAX = 64
"""In a circle what goes round gets less each time; what is left then stays where it is."""


@dataclass(frozen=True, slots=True)
class BadCall:
    """An edge of which something is bad."""

    edge: int
    callee: int
    weight: float
    """How much of its caller's badness it can explain: bad calls per request that hurt it, 0..1."""


@dataclass(frozen=True, slots=True)
class Blame:
    """Of one node, in one graph."""

    node: int
    begins: float
    """How much of what is bad begins here, 0..1."""
    passes: float
    """How much comes by here, at most 1."""
    explained: float
    """How much of that its own calls explain."""
    by: int
    """The edge by which most of it came; -1 for the entry."""


def blame(entry: int, bad: Floats, calls: dict[int, list[BadCall]]) -> list[Blame]:
    """Of all nodes that badness reaches, most blamed first; ties in the order of nodes as numbered.

    bad: share of bad requests by node, as it sees itself; 0 where it is silent or well. calls: bad ones by
    caller, the numbers of the nodes in an order that doesn't depend on arrival.
    """
    frontier: dict[int, float] = {entry: 1.0}
    passes: dict[int, float] = {}
    begins: dict[int, float] = {}
    explains: dict[int, float] = {}
    best: dict[int, tuple[float, int]] = {entry: (0.0, -1)}
    for _ in range(ROUNDS_MAX):
        following: dict[int, float] = {}
        for node in sorted(frontier):
            mass = frontier[node]
            passes[node] = passes.get(node, 0.0) + mass
            out = calls.get(node, [])
            total = sum(call.weight for call in out)
            explained = min(1.0, total / bad[node]) if bad[node] > 0.0 else min(1.0, total)
            explains[node] = explained
            begins[node] = begins.get(node, 0.0) + mass * (1.0 - explained)
            for call in out:
                part = mass * explained * call.weight / total
                following[call.callee] = following.get(call.callee, 0.0) + part
                if part > best.get(call.callee, (0.0, -1))[0]:
                    best[call.callee] = (part, call.edge)
        frontier = {node: mass for node, mass in following.items() if mass > 1e-4}
        if not frontier:
            break
    for node, mass in frontier.items():
        begins[node] = begins.get(node, 0.0) + mass
        passes.setdefault(node, mass)
    found = [
        Blame(n, begins[n], min(1.0, passes[n]), explains.get(n, 0.0), best[n][1]) for n in begins
    ]
    return sorted(found, key=lambda one: (-one.begins, one.node))
