"""What is known per service rather than per key: since when it is seen, and how old its spans arrive."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from tidegate.rules.state_columns import StateColumns
from tidegate.rules.window import WINDOW_BUCKETS
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.compiling import kernel

__all__ = ["LAGS", "Services", "age_ms", "feed", "seen_buckets"]

LAGS = 64
"""Ages are kept in buckets of 500 ms; the last one holds everything beyond 31.5 s."""


class Services(StateColumns):
    """By service slot (`Keys.service_slot`)."""

    spec: ClassVar[dict[str, tuple[type, float, int]]] = {
        "seen_from": (np.int64, -1, 0),
        "seen_last": (np.int64, -1, 0),
        "lags": (np.int64, 0, LAGS),
    }
    seen_from: npt.NDArray[np.int64]
    """Bucket since which the service is seen without a gap of a window."""
    seen_last: npt.NDArray[np.int64]
    lags: npt.NDArray[np.int64]


@kernel
def feed(
    lags: npt.NDArray[np.int64],
    seen_from: npt.NDArray[np.int64],
    seen_last: npt.NDArray[np.int64],
    service_slot: npt.NDArray[np.int64],
    slot: npt.NDArray[np.int32],
    bucket: npt.NDArray[np.int64],
    lag: npt.NDArray[np.uint8],
    count: npt.NDArray[np.int32],
    boundary: int,
) -> None:
    """Adds what a boundary merged. First ages, then the oldest and newest bucket of each service."""
    for i in range(len(slot)):
        s = service_slot[slot[i]]
        lags[s, lag[i]] += count[i]
        if seen_last[s] < boundary - 1 - WINDOW_BUCKETS:  # new, or back after a window of silence
            seen_from[s] = bucket[i]
            seen_last[s] = boundary - 1 - WINDOW_BUCKETS
        if bucket[i] < seen_from[s]:
            seen_from[s] = bucket[i]
    for i in range(len(slot)):
        s = service_slot[slot[i]]
        if bucket[i] > seen_last[s]:
            seen_last[s] = bucket[i]


def seen_buckets(
    services: Services, service_slots: npt.NDArray[np.int64], boundary: int
) -> npt.NDArray[np.int64]:
    """Length of the part of the window in which the service was seen, 1..60 buckets. Shape kept."""
    since = np.maximum(services.seen_from[service_slots], boundary - WINDOW_BUCKETS)
    out: npt.NDArray[np.int64] = np.clip(boundary - since, 1, WINDOW_BUCKETS)
    return out


def age_ms(services: Services, service_slots: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """P90 of (Kafka time - span end) in ms, in steps of 500; 0 before anything is known. Shape kept."""
    lags = services.lags[service_slots]
    total = lags.sum(axis=1)
    reached = np.cumsum(lags, axis=1) * 10 >= np.maximum(total, 1)[:, None] * 9
    return np.where(total > 0, reached.argmax(axis=1) * BUCKET_MS, 0)
