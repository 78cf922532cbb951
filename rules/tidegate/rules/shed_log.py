"""What decisions turned away over the last 24 hours, or would have under `observe`: 24 sums of an hour."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from tidegate.rules.state_columns import StateColumns
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.decision import Shed

__all__ = ["ShedLog"]

HOURS = 24
_HOUR_BOUNDARIES = 3_600_000 // BUCKET_MS


class ShedLog(StateColumns):
    """Per slot, by hour of the day (event time), in thousandths of a request."""

    spec: ClassVar[dict[str, tuple[type, float, int]]] = {
        "offered": (np.int64, 0, HOURS),
        "turned_away": (np.int64, 0, HOURS),
    }
    offered: npt.NDArray[np.int64]
    """While the key was not closed."""
    turned_away: npt.NDArray[np.int64]

    def turn(self, boundary: int) -> None:
        """Call at every boundary: at a new hour yesterday's sum leaves."""
        if boundary % _HOUR_BOUNDARIES == 0:
            hour = boundary // _HOUR_BOUNDARIES % HOURS
            self.offered[:, hour] = 0
            self.turned_away[:, hour] = 0

    def add(
        self,
        slots: npt.NDArray[np.int64],
        offered: npt.NDArray[np.float64],
        admit_ratio: npt.NDArray[np.float64],
        boundary: int,
    ) -> None:
        """Offered requests merged at a boundary, of keys that are not closed. Shapes (m,)."""
        hour = boundary // _HOUR_BOUNDARIES % HOURS
        milli = (offered * 1000.0).astype(np.int64)
        self.offered[slots, hour] += milli
        self.turned_away[slots, hour] += (milli * (1.0 - admit_ratio)).astype(np.int64)

    def shown(self, slot: int) -> Shed | None:
        """For a decision."""
        offered = int(self.offered[slot].sum())
        if not offered:
            return None
        away = int(self.turned_away[slot].sum())
        return Shed(requests=(offered + 500) // 1000, turned_away=(away + 500) // 1000)
