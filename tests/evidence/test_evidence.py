"""The CUSUM by a plain recomputation, when it starts and ends, and its tables by exact fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.rules import evidence as rules
from tidegate.rules.evidence import Evidence, Increments, few_bad_max, sequential, settle, threshold
from tidegate.rules.logs import half_life_factor, ln
from tidegate.rules.policy import builtin_policy

SETTINGS = builtin_policy("default").evidence
ONE = np.array([0])


def feed(evidence: Evidence, requests: float, bad: float, h: float = 12.0) -> None:
    sequential(
        evidence, Increments(ONE, np.array([requests]), np.array([bad]), np.array([h])), SETTINGS
    )


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), max_size=40))
def test_both_sums_equal_a_plain_recomputation(steps: list[tuple[int, float]]) -> None:
    evidence = Evidence(1)
    sums = {"sharp": 0.0, "mild": 0.0}
    for requests, share in steps:
        bad = round(requests * share)
        feed(evidence, requests, bad)
        for name, p1, h in (("sharp", 0.4, 12.0), ("mild", 0.1, 12.0 + math.log(10))):
            rise, fall = math.log(p1 / 0.02), math.log(0.98 / (1 - p1))
            moved = max(0.0, sums[name] + bad * rise - (requests - bad) * fall)
            sums[name] = min(moved, 1.3 * h)
    assert evidence.sharp_sum[0] == pytest.approx(sums["sharp"], abs=1e-3)
    assert evidence.mild_sum[0] == pytest.approx(sums["mild"], abs=1e-3)


def test_one_call_in_ten_seconds_comes_on_evidence_after_a_few_failures() -> None:
    evidence = Evidence(1)
    h = float(threshold(np.array([0.1]), 50, SETTINGS)[0])
    for _ in range(4):
        assert not evidence.on_sharp[0]
        feed(evidence, 1, 1, h)
    feed(evidence, 1, 1, h)
    assert evidence.on_sharp[0]


def test_two_percent_of_errors_never_are_evidence() -> None:
    evidence = Evidence(1)
    for _ in range(2_000):
        feed(evidence, 50, 1)
    assert not evidence.on_sharp[0]
    assert not evidence.on_mild[0]


def test_a_habit_of_bad_requests_raises_what_counts_as_worse() -> None:
    evidence = Evidence(1)
    rules.learn(evidence, ONE, np.array([100_000.0]), np.array([8_000.0]))
    assert rules.learned_share(evidence, ONE, SETTINGS)[0] == pytest.approx(0.08, abs=1e-3)
    for _ in range(200):
        feed(evidence, 50, 4)
    assert not evidence.on_mild[0]


def test_evidence_ends_when_the_judged_window_refutes_it() -> None:
    evidence = Evidence(1)
    feed(evidence, 20, 20)
    assert evidence.on_sharp[0]
    seen = Increments(ONE, np.array([50.0]), np.array([0.0]), np.array([12.0]))
    settle(evidence, seen, np.array([60.0]), np.array([40.0]), SETTINGS, boundary=7)
    assert evidence.on_sharp[0]
    assert evidence.since_boundary[0] == 7
    settle(evidence, seen, np.array([80.0]), np.array([0.0]), SETTINGS, boundary=8)
    assert not evidence.on_sharp[0]
    assert not evidence.on_mild[0]
    assert evidence.since_boundary[0] == -1


def test_evidence_ends_when_its_sum_has_faded() -> None:
    evidence = Evidence(1)
    feed(evidence, 6, 6)
    assert evidence.on_sharp[0]
    feed(evidence, 30, 0)
    seen = Increments(ONE, np.array([30.0]), np.array([0.0]), np.array([12.0]))
    settle(evidence, seen, np.array([19.0]), np.array([6.0]), SETTINGS, boundary=9)
    assert not evidence.on_sharp[0]


@pytest.mark.parametrize("share", [0.3, 0.1])
def test_so_few_bad_ones_are_as_improbable_as_the_policy_says(share: float) -> None:
    p = Fraction(round(share * 10), 10)
    for n in (20, 21, 40, 77, 150, 256):
        k = int(few_bad_max(np.array([float(n)]), share, 0.001)[0])
        cdf = [Fraction(0)]
        for i in range(n + 1):
            cdf.append(cdf[-1] + math.comb(n, i) * p**i * (1 - p) ** (n - i))
        assert cdf[k + 1] < Fraction(1, 1000)
        assert cdf[k + 2] >= Fraction(1, 1000)


@pytest.mark.parametrize("share", [0.3, 0.1])
def test_beyond_the_table_the_approximation_keeps_evidence_rather_than_ends_it(
    share: float,
) -> None:
    for n in (300, 1_000, 3_000):
        k = int(few_bad_max(np.array([float(n)]), share, 0.001)[0])
        log_cdf = sum(
            math.exp(
                math.lgamma(n + 1)
                - math.lgamma(i + 1)
                - math.lgamma(n - i + 1)
                + i * math.log(share)
                + (n - i) * math.log(1 - share)
            )
            for i in range(k + 1)
        )
        assert 1e-5 < log_cdf < 0.001


@given(st.floats(1, 1e12))
def test_logarithms_are_right_to_a_millionth(value: float) -> None:
    assert ln(np.array([value]))[0] == pytest.approx(math.log(value), abs=1e-6)


def test_a_half_life_halves() -> None:
    assert half_life_factor(60) ** 60 == pytest.approx(0.5, abs=1e-12)


def test_the_threshold_means_one_false_onset_a_month_for_the_installation() -> None:
    assert threshold(np.array([0.0]), 10, SETTINGS)[0] == pytest.approx(math.log(1000), abs=1e-6)
    busy = threshold(np.array([100.0]), 1_000, SETTINGS)[0]
    assert busy == pytest.approx(math.log(100 * 30 * 86_400) + math.log(10), abs=1e-6)
