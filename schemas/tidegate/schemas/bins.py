"""Sketch bins: logarithmic, relative error at most 1 % from 1 µs to 1 h (DDSketch, Masson et al., VLDB 2019).

gamma = (1 + a) / (1 - a) with a = 1 %; bin i holds durations in (edge[i-1], edge[i]], edge[i] = 1 µs x
gamma^i in whole nanoseconds. Computed with `decimal`, so equal on every machine.
"""

from decimal import Context, Decimal

import numpy as np
import numpy.typing as npt

__all__ = ["ALPHA", "BINS_COUNT", "BIN_VALUE_NS", "EDGES_NS", "LN_GAMMA", "bin_of_ns"]

ALPHA = 0.01
_CONTEXT = Context(prec=40)
_GAMMA = _CONTEXT.divide(Decimal(101), Decimal(99))
LN_GAMMA = float(_GAMMA.ln(_CONTEXT))
_HOUR_NS = 3_600_000_000_000


def _edges() -> list[int]:
    edges, edge = [1000], Decimal(1000)
    while edges[-1] < _HOUR_NS:
        edge = _CONTEXT.multiply(edge, _GAMMA)
        edges.append(int(edge))
    return edges


EDGES_NS: npt.NDArray[np.int64] = np.array(_edges(), np.int64)
"""Upper edge of each bin but the last, inclusive, nanoseconds, ascending."""
BINS_COUNT = len(EDGES_NS) + 1
"""Bin 0 is everything up to 1 µs, the last one everything beyond 1 h."""
BIN_VALUE_NS: npt.NDArray[np.int64] = np.array(
    [1000]
    + [int(2 * Decimal(int(edge)) / (_GAMMA + 1)) for edge in EDGES_NS[1:]]
    + [int(EDGES_NS[-1])],
    np.int64,
)
"""What a bin stands for, nanoseconds: within 1 % of everything in it."""


def bin_of_ns(duration_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Bin of each duration (0..BINS_COUNT - 1), shape kept."""
    return np.searchsorted(EDGES_NS, duration_ns, side="left").astype(np.int64)
