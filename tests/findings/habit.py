"""One key's baseline, tick by tick, under the pack `default`: what is fed in is written down in ms."""

import numpy as np

from tidegate.rules import baseline
from tidegate.rules.baseline import Baselines
from tidegate.rules.policy import BaselineSettings, builtin_policy
from tidegate.rules.window import Merged
from tidegate.schemas.bins import bin_of_ns
from tidegate.schemas.cells import WEIGHT_ONE
from tidegate.schemas.outcome import Outcome

__all__ = ["SETTINGS", "TICK_S", "Habit"]

TICK_S = 30
SETTINGS: BaselineSettings = builtin_policy("default").baseline
START = 3_500_000_000
_PACES = np.array([0.8, 0.9, 1.0, 1.1, 1.2])


class Habit:
    """A key in `row` of four."""

    def __init__(self, row: int = 0, settings: BaselineSettings = SETTINGS) -> None:
        self.row, self.settings = row, settings
        self.baselines = Baselines(4)
        self.boundary = START
        self._slots = np.array([row])
        self._is_failed = np.array([[o >= Outcome.THROTTLED for o in range(8)]])

    def feed(self, ms: float, count: int, *, failed: bool = False, is_calm: bool = True) -> None:
        """Requests that take about so long."""
        bins = bin_of_ns((_PACES * ms * 1e6).astype(np.int64)).astype(np.int64)
        width = len(bins)
        code = int(Outcome.SERVER_ERROR if failed else Outcome.OK)
        merged = Merged(
            np.full(width, self.row),
            np.zeros(width, np.int64),
            np.full(width, code),
            bins,
            np.full(width, count // width),
            np.full(width, WEIGHT_ONE),
        )
        learning = np.zeros(4, np.bool_)
        learning[self.row] = is_calm
        baseline.feed(
            self.baselines,
            merged,
            learning,
            np.zeros(4, np.int64),
            self._is_failed,
            self.settings.bad_units,
            self.boundary,
        )

    def tick(self) -> None:
        """Half a minute is over."""
        self.boundary += baseline.TICK_BOUNDARIES
        baseline.tick(self.baselines, self._slots, self.settings)

    def hold(self, ticks: int, *, ms: float, count: int = 100) -> None:
        for _ in range(ticks):
            self.feed(ms, count)
            self.tick()

    @property
    def target_ms(self) -> float:
        return float(self.baselines.target_us[self.row]) / 1000

    @property
    def p50_ms(self) -> float:
        return float(self.baselines.p50_us[self.row]) / 1000

    def is_drifting(self) -> bool:
        return bool(self.baselines.is_drifting[self.row])
