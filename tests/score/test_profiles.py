"""Scores: what is published, anchor points of the caps, and laws for any signals."""

from math import exp, log
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.rules.policy import PROFILE_NAMES, builtin_policy
from tidegate.rules.policy_types import ProfileSettings
from tidegate.rules.score import PROFILES, Judged, piecewise, score, score_level
from tidegate.schemas.bins import BINS_COUNT, LN_GAMMA, bin_of_ns
from tidegate.schemas.level import Level

NUMBERS = builtin_policy("default").profiles
REFERENCE, GUARDED, ADAPTIVE = range(len(PROFILE_NAMES))
WELL = {
    "error_ratio": 0.0,
    "p95_bin": -1,
    "target_bin": -1,
    "qps": 100.0,
    "expected_qps": -1.0,
    "is_on_evidence": True,
    "window_error_ratio": 0.0,
    "window_requests": 1000.0,
    "window_p95_us": 50_000,
    "usual_p95_us": -1,
    "usual_qps": -1.0,
}


def judged(*rows: dict[str, Any]) -> Judged:
    return Judged(**{name: np.array([row[name] for row in rows]) for name in WELL})


def scored(profile: int, **signals: Any) -> int:
    table = judged(WELL | signals)
    return int(score(table, np.array([profile]), NUMBERS)[0])


def levels_of(
    scores: list[int], profile: int = GUARDED, *, numbers: ProfileSettings = NUMBERS
) -> list[int]:
    table = np.array(scores, np.int32)
    return [int(v) for v in score_level(table, np.full(len(scores), profile), numbers)]


def bin_of_ms(ms: float) -> int:
    return int(bin_of_ns(np.array([int(ms * 1e6)]))[0])


@pytest.mark.parametrize(
    ("what", "signals", "expected"),
    [
        ("all well", {"window_p95_us": 100_000, "qps": 1000.0}, 1000),
        ("a healthy slow service", {"window_p95_us": 400_000, "qps": 10.0}, 502),
        ("a service that fails fast", {"window_error_ratio": 1.0, "window_p95_us": 1_000}, 1000),
        (
            "half of ten percent",
            {"window_error_ratio": 0.05, "window_p95_us": 100_000, "qps": 0.0},
            600,
        ),
        ("all wrong", {"window_error_ratio": 0.5, "window_p95_us": 3_600_000_000, "qps": 0.0}, 0),
        ("P95 below a ms counts as one", {"window_error_ratio": 1.0, "window_p95_us": 1}, 1000),
        ("nineteen requests", {"window_requests": 19.0}, -1),
        (
            "twenty requests",
            {
                "window_requests": 20.0,
                "window_error_ratio": 1.0,
                "window_p95_us": 400_000,
                "qps": 10.0,
            },
            102,
        ),
    ],
)
def test_reference_scores_as_published(what: str, signals: dict[str, Any], expected: int) -> None:
    assert scored(REFERENCE, **signals) == expected


@pytest.mark.parametrize(
    ("error_ratio", "expected", "level"),
    [
        (0.0, 1000, Level.CLOSED),
        (0.05, 800, Level.CLOSED),
        (0.051, 796, Level.DEGRADED_1),
        (0.1, 600, Level.DEGRADED_1),  # the sum without its error term is less than the cap, 0.733
        (0.2, 600, Level.DEGRADED_1),
        (0.21, 593, Level.DEGRADED_2),
        (0.5, 400, Level.DEGRADED_2),
        (0.51, 395, Level.OPEN),
        (0.9, 200, Level.OPEN),
        (0.91, 180, Level.FORCED_OPEN),
        (1.0, 0, Level.FORCED_OPEN),
    ],
)
def test_errors_alone_lead_through_all_bands(
    error_ratio: float, expected: int, level: Level
) -> None:
    found = scored(GUARDED, error_ratio=error_ratio)
    assert found == expected
    assert levels_of([found]) == [level]


@pytest.mark.parametrize(
    ("factor", "about"),
    [(1.0, 1.0), (2.0, 0.79), (4.0, 0.59), (10.0, 0.44), (30.0, 0.3), (500, 0.3)],
)
def test_latency_alone_follows_its_cap_and_is_never_forced_open(
    factor: float, about: float
) -> None:
    target = bin_of_ms(100)
    found = scored(GUARDED, p95_bin=bin_of_ms(100 * factor), target_bin=target)
    assert found == pytest.approx(about * 1000, abs=12)  # a bin is 2 % wide
    assert found >= 290


def test_badness_counts_only_on_evidence() -> None:
    bad = {"error_ratio": 1.0, "p95_bin": bin_of_ms(9000), "target_bin": bin_of_ms(100)}
    assert scored(GUARDED, **bad) == 0
    assert scored(GUARDED, **bad, is_on_evidence=False) == 1000


def test_nothing_is_slow_before_a_target_is_known_or_without_durations() -> None:
    assert scored(GUARDED, p95_bin=BINS_COUNT - 1, target_bin=-1) == 1000
    assert scored(GUARDED, p95_bin=-1, target_bin=5) == 1000


def test_missing_traffic_counts_only_against_what_is_expected() -> None:
    assert scored(GUARDED, qps=0.0) == 1000
    assert scored(GUARDED, qps=0.0, expected_qps=50.0) == 800
    assert scored(GUARDED, qps=25.0, expected_qps=50.0) == 900
    assert scored(GUARDED, qps=500.0, expected_qps=50.0) == 1000


def test_an_unknown_score_asks_for_nothing() -> None:
    assert levels_of([-1]) == [Level.CLOSED]


def test_a_lower_edge_belongs_to_its_band() -> None:
    scores = [1000, 800, 799, 600, 599, 400, 399, 200, 199, 0]
    levels = [Level(v).name for v in levels_of(scores)]
    assert levels == [
        "CLOSED",
        "CLOSED",
        "DEGRADED_1",
        "DEGRADED_1",
        "DEGRADED_2",
        "DEGRADED_2",
        "OPEN",
        "OPEN",
        "FORCED_OPEN",
        "FORCED_OPEN",
    ]


def test_every_profile_has_a_name_a_policy_can_give() -> None:
    assert tuple(profile.__name__ for profile in PROFILES) == PROFILE_NAMES


ratios = st.floats(0, 1)
bins = st.integers(-1, BINS_COUNT - 1)
signals = st.fixed_dictionaries(
    {
        "error_ratio": ratios,
        "p95_bin": bins,
        "target_bin": bins,
        "qps": st.floats(0, 1e9),
        "expected_qps": st.just(-1.0) | st.floats(0.001, 1e9),
        "is_on_evidence": st.booleans(),
        "window_error_ratio": ratios,
        "window_requests": st.floats(0, 1e9),
        "window_p95_us": st.integers(-1, 3_600_000_000),
        "usual_p95_us": st.integers(-1, 3_600_000_000),
        "usual_qps": st.just(-1.0) | st.floats(0.001, 1e9),
    }
)
profiles = st.sampled_from([REFERENCE, GUARDED, ADAPTIVE])


@given(profiles, signals)
def test_a_score_is_within_0_and_1000_or_unknown(profile: int, row: dict[str, Any]) -> None:
    assert -1 <= scored(profile, **row) <= 1000


@given(profiles, signals, ratios)
def test_more_errors_never_score_better(profile: int, row: dict[str, Any], more: float) -> None:
    worse = row | {
        "error_ratio": max(row["error_ratio"], more),
        "window_error_ratio": max(row["window_error_ratio"], more),
    }
    assert scored(profile, **worse) <= scored(profile, **row)


@given(profiles, signals, bins, st.integers(-1, 3_600_000_000))
def test_slower_never_scores_better(
    profile: int, row: dict[str, Any], slower_bin: int, slower_us: int
) -> None:
    worse = row | {
        "p95_bin": max(row["p95_bin"], slower_bin),
        "window_p95_us": max(row["window_p95_us"], slower_us),
    }
    assert scored(profile, **worse) <= scored(profile, **row)


@given(signals)
def test_guarded_without_evidence_is_healthy_whatever_else_is_seen(row: dict[str, Any]) -> None:
    assert scored(GUARDED, **row | {"is_on_evidence": False, "expected_qps": -1.0}) == 1000


@given(st.lists(st.tuples(profiles, signals), min_size=1, max_size=8))
def test_keys_are_scored_apart_from_each_other(rows: list[tuple[int, dict[str, Any]]]) -> None:
    table = judged(*(row for _, row in rows))
    together = score(table, np.array([profile for profile, _ in rows]), NUMBERS)
    assert together.tolist() == [scored(profile, **row) for profile, row in rows]


def plain_guarded(row: dict[str, Any]) -> float:
    """The profile once more, in floating point with real logarithms."""
    on = row["is_on_evidence"]
    e = row["error_ratio"] if on else 0.0
    bins_over = row["p95_bin"] - row["target_bin"] if row["target_bin"] >= 0 else 0
    over = max(0, bins_over) * LN_GAMMA if on else 0.0
    traffic = min(row["qps"] / row["expected_qps"], 1.0) if row["expected_qps"] > 0 else 1.0
    total = 0.4 * (1 - min(e / 0.1, 1)) + 0.4 * exp(-over) + 0.2 * traffic
    error_cap = np.interp(e, [0, 0.05, 0.2, 0.5, 0.9, 1], [1, 0.8, 0.6, 0.4, 0.2, 0])
    latency_cap = np.interp(over, [log(x) for x in (1, 2, 4, 10, 30)], [1, 0.79, 0.59, 0.45, 0.3])
    return float(min(total, error_cap, latency_cap))


@given(signals)
def test_guarded_equals_its_formula(row: dict[str, Any]) -> None:
    assert scored(GUARDED, **row) == pytest.approx(plain_guarded(row) * 1000, abs=0.51)


def test_a_line_through_points_is_flat_beyond_them() -> None:
    points = ((1.0, 0.9), (2.0, 0.5), (4.0, 0.1))
    x = np.array([0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 9.0])
    assert piecewise(x, points).tolist() == pytest.approx([0.9, 0.9, 0.7, 0.5, 0.3, 0.1, 0.1])


def test_bands_of_a_policy_hold() -> None:
    bands = (0.9, 0.5, 0.4, 0.2)
    guarded = msgspec.structs.replace(NUMBERS.guarded, bands=bands)
    numbers = msgspec.structs.replace(NUMBERS, guarded=guarded)
    assert levels_of([950, 899, 500], numbers=numbers) == [0, 1, 1]


@pytest.mark.parametrize(
    ("what", "signals", "expected"),
    [
        ("all as usual", {}, 1000),
        ("seven and a half percent errors", {"window_error_ratio": 0.075}, 750),
        ("fifteen percent errors", {"window_error_ratio": 0.15}, 500),
        ("at its usual P95", {"window_p95_us": 80_000}, 1000),
        ("half as slow again", {"window_p95_us": 120_000}, 800),
        ("twice its usual P95", {"window_p95_us": 160_000}, 600),
        ("ten times its usual P95", {"window_p95_us": 800_000}, 600),
        ("a fifth more traffic", {"qps": 120.0}, 1000),
        ("sixty percent more traffic", {"qps": 160.0}, 950),
        ("sixty percent less traffic", {"qps": 40.0}, 950),
        ("twice the traffic", {"qps": 200.0}, 900),
        ("ten times the traffic", {"qps": 1000.0}, 900),
        ("all wrong", {"window_error_ratio": 1.0, "window_p95_us": 10**9, "qps": 0.0}, 0),
        ("nothing is usual yet", {"usual_p95_us": -1, "usual_qps": -1.0}, 1000),
        ("nineteen requests", {"window_requests": 19.0}, -1),
    ],
)
def test_adaptive_compares_a_key_with_its_own_habit(
    what: str, signals: dict[str, Any], expected: int
) -> None:
    usual = {"usual_p95_us": 80_000, "usual_qps": 100.0}
    assert scored(ADAPTIVE, **(usual | signals)) == expected, what


def test_adaptive_knows_open_and_closed_only() -> None:
    assert levels_of([1000, 600, 599, 0], ADAPTIVE) == [0, 0, Level.OPEN, Level.OPEN]


@given(
    st.floats(0, 1),
    st.integers(1, 10**7),
    st.floats(0, 1000),
    st.floats(0, 0.5),
    st.integers(0, 10**6),
)
def test_adaptive_never_scores_better_for_worse_signals(
    error_ratio: float, p95_us: int, qps: float, more_errors: float, slower_us: int
) -> None:
    usual = {"usual_p95_us": 80_000, "usual_qps": 100.0, "qps": qps}
    base = scored(ADAPTIVE, window_error_ratio=error_ratio, window_p95_us=p95_us, **usual)
    worse = scored(
        ADAPTIVE,
        window_error_ratio=error_ratio + more_errors,
        window_p95_us=p95_us + slower_us,
        **usual,
    )
    assert 0 <= worse <= base <= 1000
