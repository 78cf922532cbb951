"""Graph health: how likely a request that enters at a node is served well, 0..1.

    served(v) = min( own(v), product over v's calls e = (v, w) of (1 - H(e) * min(1, f(e) * (1 - min(h(e), served(w))))) )

own(v): score of v's own view; 1 where nothing is known (a virtual node says nothing itself). h(e): score of the
edge, as its caller sees it. f(e): calls a request of v makes to w on average (fan-out). H(e): how hard the edge is,
P(request fails given the call fails), at least `optional_cost`; so min(1, f(e) * (1 - ...)) bounds the probability
that one of a request's calls goes wrong (union bound), and H(e) says what that does to the request. The minimum with
own(v) keeps what v has inherited from being counted twice: it is in both.

Properties, tested as laws: within 0..1; monotone in own and h; 1 exactly where all that is reachable by calls is 1;
equal to own(v) in a graph of one; a dead optional callee costs `optional_cost`, one that every request needs all.
With circles the equations have many solutions; the greatest is taken (nothing is bad without a cause), reached from
above by going round until nothing changes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["ROUNDS_MAX", "Calls", "served"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ROUNDS_MAX = 64
"""Longer chains, and circles that approach their solution slowly, end here: from above, so too mildly."""
_LEAST_STEP = 1e-6


@dataclass(slots=True)
class Calls:
    """m edges, sorted by caller."""

    caller: Ints
    """Index of a node, ascending, shape (m,) as all below."""
    callee: Ints
    score: Floats
    fan_out: Floats
    hard: Floats


def served(own: Floats, calls: Calls) -> Floats:
    """By node. own: shape (n,), 0..1."""
    now = own.copy()
    if not len(calls.caller):
        return now
    starts = np.flatnonzero(np.diff(calls.caller, prepend=-1))
    callers = calls.caller[starts]
    for _ in range(ROUNDS_MAX):
        lost = calls.fan_out * (1.0 - np.minimum(calls.score, now[calls.callee]))
        kept = 1.0 - calls.hard * np.minimum(1.0, lost)
        of_calls = np.multiply.reduceat(kept, starts)
        new = np.minimum(own[callers], of_calls)
        moved = now[callers] - new > _LEAST_STEP
        if not moved.any():
            break
        now[callers[moved]] = new[moved]
    return now
