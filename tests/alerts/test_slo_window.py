"""Five minutes of every service by a plain recomputation, and the tiers of the design under both packs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.rules.policy import builtin_policy
from tidegate.rules.policy_columns import TIER_NAMES, AlertColumns
from tidegate.rules.slo_window import (
    BAD,
    NUMBERS,
    SLOW_P1,
    SLOW_P2,
    WEIGHT,
    WEIGHT_SQUARED,
    SloWindow,
    feed,
    slo_signals,
    slo_tiers,
    turn,
)
from tidegate.rules.window import Merged
from tidegate.schemas.bins import bin_of_ns
from tidegate.schemas.cells import EFFECT_SHIFT, HAS_CALLS, SELF_TIME
from tidegate.schemas.outcome import Effect, Outcome

START = 60_000_000
SLOTS = 4
IS_FED = np.array([True, True, False, True])
KIND = np.array([0, 1, 0, 0])
LIMITS_MS = (800, 1200)
BINS = [int(b) for b in bin_of_ns(np.array(LIMITS_MS) * 1_000_000)]
DEFAULT, REFERENCE = (builtin_policy(name).columns for name in ("default", "reference"))
WEIGHTS = np.concatenate((DEFAULT.outcome_weights, DEFAULT.outcome_weights))
WEIGHTS[1, Outcome.THROTTLED] = 0.333


def both(a: AlertColumns, b: AlertColumns) -> AlertColumns:
    return AlertColumns(
        **{
            f.name: np.concatenate((getattr(a, f.name), getattr(b, f.name)))
            for f in fields(AlertColumns)
        }
    )


COLUMNS = both(DEFAULT.alerts, REFERENCE.alerts)


@dataclass(frozen=True)
class Cell:
    boundary: int
    """At which it is merged."""
    age: int
    slot: int
    code: int
    bin: int
    count: int
    weight: int

    @property
    def number(self) -> int:
        """Of its 30 s."""
        return (self.boundary - 1 - self.age) // 60


cells = st.builds(
    Cell,
    boundary=st.integers(START, START + 130),
    age=st.sampled_from([0, 0, 0, 1, 10, 58, 59]),
    slot=st.integers(0, SLOTS - 1),
    code=st.builds(
        lambda outcome, effect, bits: int(outcome) | int(effect) << EFFECT_SHIFT | bits,
        st.sampled_from(Outcome),
        st.sampled_from([Effect.NONE] * 4 + [Effect.SHED, Effect.PROBE]),
        st.sampled_from([0, 0, SELF_TIME, HAS_CALLS]),
    ),
    bin=st.sampled_from([0, BINS[0], BINS[0] + 1, BINS[1], BINS[1] + 1]),
    count=st.sampled_from([1, 7]),
    weight=st.sampled_from([64, 64, 200]),
)


def merged(rows: Sequence[Cell]) -> Merged:
    def column(name: str) -> npt.NDArray[np.int64]:
        return np.array([getattr(r, name) for r in rows], np.int64)

    return Merged(*(column(n) for n in ("slot", "age", "code", "bin", "count", "weight")))


def recomputed(rows: Sequence[Cell], boundary: int) -> list[list[int]]:
    """All five numbers of each slot, from all cells of the ten newest sums."""
    newest = (boundary - 1) // 60
    out = [[0] * NUMBERS for _ in range(SLOTS)]
    for r in rows:
        is_request = not r.code & SELF_TIME and not (r.code >> EFFECT_SHIFT) & 7
        if not is_request or not IS_FED[r.slot] or not newest - 10 < r.number <= newest:
            continue
        units = round(float(WEIGHTS[KIND[r.slot], r.code & 7]) * 1000)
        mine = out[r.slot]
        mine[WEIGHT] += r.count * r.weight
        mine[WEIGHT_SQUARED] += r.count * r.weight**2
        mine[BAD] += r.count * r.weight * units
        mine[SLOW_P2] += r.count * r.weight * (r.bin > BINS[0])
        mine[SLOW_P1] += r.count * r.weight * (r.bin > BINS[1])
    return out


@settings(max_examples=40, deadline=None)
@given(st.lists(cells, max_size=60))
def test_five_minutes_equal_a_recomputation_at_every_boundary(rows: list[Cell]) -> None:
    slo = SloWindow(SLOTS)
    for boundary in range(START, START + 760):
        turn(slo, boundary)
        due = [r for r in rows if r.boundary == boundary]
        if due:
            feed(slo, merged(due), IS_FED, WEIGHTS, COLUMNS, KIND, boundary)
        if due or (boundary - 1) % 60 < 2:
            so_far = [r for r in rows if r.boundary <= boundary]
            assert slo.total.tolist() == recomputed(so_far, boundary)
    assert not slo.sums.any()


def of(requests: int, bad: int, slow_p2: int, slow_p1: int, weight: int = 64) -> SloWindow:
    slo = SloWindow(2)
    slo.total[1] = np.array(
        [
            requests * weight,
            requests * weight**2,
            bad * weight * 1000,
            slow_p2 * weight,
            slow_p1 * weight,
        ]
    )
    return slo


def tier_of(slo: SloWindow, columns: AlertColumns) -> str:
    return TIER_NAMES[slo_tiers(slo, np.array([0, 1]), columns, np.array([0, 0]))[1]]


@pytest.mark.parametrize(
    ("pack", "requests", "bad", "slow_p2", "slow_p1", "tier"),
    [
        # Errors: over 1 % is P1, over 0.3 % P2.
        ("reference", 99, 1, 0, 0, "P1"),
        ("reference", 100, 1, 0, 0, "P2"),
        ("reference", 333, 1, 0, 0, "P2"),
        ("reference", 1000, 3, 0, 0, "none"),
        ("reference", 30, 1, 0, 0, "P1"),
        ("default", 30, 1, 0, 0, "none"),
        ("default", 4, 4, 0, 0, "none"),
        ("default", 5, 5, 0, 0, "P1"),
        ("default", 100, 5, 0, 0, "P1"),
        ("default", 1000, 11, 0, 0, "P2"),
        ("default", 1000, 21, 0, 0, "P1"),
        ("default", 10_000, 31, 0, 0, "none"),
        # P95: over 1200 ms where more than a twentieth is slower, over 800 ms likewise.
        ("reference", 100, 0, 6, 6, "P1"),
        ("reference", 100, 0, 6, 5, "P2"),
        ("reference", 100, 0, 5, 5, "none"),
        ("reference", 1, 0, 1, 1, "P1"),
        ("default", 4, 0, 4, 4, "none"),
        ("default", 100, 0, 6, 6, "none"),
        ("default", 100, 0, 15, 15, "P1"),
        ("default", 100, 0, 15, 6, "P2"),
        # Both: the louder one.
        ("default", 100, 5, 15, 0, "P1"),
        ("default", 1000, 11, 100, 0, "P2"),
        ("default", 0, 0, 0, 0, "none"),
    ],
)
def test_the_tier_of_five_minutes(
    pack: str, requests: int, bad: int, slow_p2: int, slow_p1: int, tier: str
) -> None:
    columns = builtin_policy(pack).columns.alerts
    assert tier_of(of(requests, bad, slow_p2, slow_p1), columns) == tier


def test_one_throttled_request_counts_half_and_needs_no_minimum_as_published() -> None:
    slo = of(60, 0, 0, 0)
    slo.total[1, BAD] = 64 * 500
    assert tier_of(slo, REFERENCE.alerts) == "P2"
    assert tier_of(slo, replace(REFERENCE.alerts, bad_min=np.array([2]))) == "none"


def test_sampled_requests_say_as_much_as_their_effective_number() -> None:
    assert tier_of(of(5, 5, 0, 0, weight=6400), DEFAULT.alerts) == "P1"
    assert tier_of(of(4, 4, 0, 0, weight=6400), DEFAULT.alerts) == "none"


def wilson(share: float, n: float, z: float) -> float:
    """Lower bound, as in the textbook (Wilson 1927)."""
    middle = share + z * z / (2 * n)
    return (middle - z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))) / (1 + z * z / n)


@given(
    st.integers(1, 10**6),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(64, 6400),
    st.sampled_from([0.0, 1.96, 2.58]),
)
def test_tiers_equal_wilsons_lower_bound_as_in_the_textbook(
    requests: int, bad: float, slow_p2: float, slow_p1: float, weight: int, z: float
) -> None:
    few, p2, p1 = (round(requests * share**4) for share in (bad, slow_p2, slow_p2 * slow_p1))
    columns = replace(DEFAULT.alerts, z=np.array([z]))
    margins = []
    expected = "none"
    for name, slow, limit in (("P2", p2, 0.003), ("P1", p1, 0.01)):
        bounds = [
            (k, wilson(k / requests, requests, z) - over)
            for k, over in ((few, limit), (slow, 0.05))
        ]
        margins += [abs(margin) for _, margin in bounds]
        if any(k >= 5 and margin > 0 for k, margin in bounds):
            expected = name
    if min(margins) > 1e-9:
        assert tier_of(of(requests, few, p2, p1, weight), columns) == expected


def test_signals_are_what_the_tier_judges() -> None:
    slo = of(410, 41, 82, 20, weight=128)
    p1, p2 = slo_signals(slo, 1, "P1", 1200), slo_signals(slo, 1, "P2", 800)
    assert (p1.requests, p1.error_ratio, p1.slow_ratio, p1.p95_over_ms) == (820, 0.1, 0.0488, 1200)
    assert (p2.slow_ratio, p2.p95_over_ms) == (0.2, 800)
    nothing = slo_signals(slo, 0, "P1", 1200)
    assert (nothing.requests, nothing.error_ratio, nothing.slow_ratio) == (0, None, None)
