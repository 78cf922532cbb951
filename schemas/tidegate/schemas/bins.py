"""Bins of the duration sketch: DDSketch (Masson et al., VLDB 2019) with a relative error of 1 %.

Bin i holds durations in (EDGES_NS[i-1], EDGES_NS[i]]; bin 0 all up to 1 µs, the last bin all above 1 h.
Edges and values are committed integers: no logarithm of any machine decides where a duration falls.
"""

import numpy as np
import numpy.typing as npt

from tidegate.schemas import bin_edges

__all__ = [
    "ALPHA",
    "BINS_COUNT",
    "BIN_VALUE_NS",
    "EDGES_NS",
    "LN_GAMMA",
    "bin_of_ns",
    "bin_upper_ms",
    "bin_value_ns",
    "bin_value_us",
]

ALPHA = 0.01
"""Relative error of a bin's value."""
LN_GAMMA = bin_edges.LN_GAMMA
"""Width of a bin in the logarithm: gamma = 101/99."""
EDGES_NS: npt.NDArray[np.int64] = np.array(bin_edges.EDGES_NS, np.int64)
"""Upper edges in ns, inclusive, shape (BINS_COUNT - 1,): 1 µs ... 1 h, each at most 101/99 of the one before."""
BINS_COUNT = len(bin_edges.EDGES_NS) + 1
BIN_VALUE_NS: npt.NDArray[np.int64] = np.array(bin_edges.VALUES_NS, np.int64)
"""What a bin stands for, in ns, shape (BINS_COUNT,): within 1 % (and half a ns) of all that bins 1 to
BINS_COUNT - 2 hold; the two end bins stand for 1 µs and 1 h."""

EDGES_NS.flags.writeable = False
BIN_VALUE_NS.flags.writeable = False


def bin_of_ns(duration_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Bin of each duration in ns, shape kept; negative ones fall into bin 0."""
    return np.searchsorted(EDGES_NS, duration_ns, side="left").astype(np.int64)


def bin_value_ns(bin_index: int) -> int:
    """The duration a bin stands for, in ns. Raises IndexError beyond BINS_COUNT."""
    return bin_edges.VALUES_NS[bin_index]


def bin_value_us(bin_index: int) -> int:
    """As `bin_value_ns`, to the nearest µs and at least 1."""
    return (bin_edges.VALUES_NS[bin_index] + 500) // 1000


def bin_upper_ms(bin_index: int) -> int:
    """The smallest whole ms that no duration of the bin exceeds; one hour for the last bin, which has no end."""
    edge = bin_edges.EDGES_NS[min(bin_index, BINS_COUNT - 2)]
    return -(-edge // 1_000_000)
