"""The committed bins are what the formula gives, and keep its promise."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tables import make_tables
from tidegate.schemas import bins

HOUR_NS = 3_600_000_000_000


def test_the_committed_table_is_what_the_script_makes() -> None:
    assert make_tables.TARGET.read_text() == make_tables.bin_edges_source()


def test_the_number_of_bins_is_wire_format() -> None:
    assert bins.BINS_COUNT == 1103
    assert len(bins.BIN_VALUE_NS) == bins.BINS_COUNT


@pytest.mark.parametrize(
    ("duration_ns", "bin_index"),
    [
        (-5, 0),
        (0, 0),
        (1_000, 0),
        (1_001, 1),
        (1_020, 1),
        (1_021, 2),
        (HOUR_NS, bins.BINS_COUNT - 2),
        (HOUR_NS + 1, bins.BINS_COUNT - 1),
        (2**63 - 1, bins.BINS_COUNT - 1),
    ],
)
def test_a_duration_falls_into_its_bin(duration_ns: int, bin_index: int) -> None:
    assert bins.bin_of_ns(np.array([duration_ns], np.int64)).tolist() == [bin_index]


def test_a_bins_value_is_within_one_percent_of_both_its_ends() -> None:
    edges = bins.EDGES_NS.tolist()
    for i in range(1, len(edges)):
        for end in (edges[i - 1] + 1, edges[i]):
            assert abs(bins.bin_value_ns(i) - end) <= Fraction(end, 100) + Fraction(1, 2)


@given(st.integers(1_001, HOUR_NS))
def test_a_durations_bin_stands_for_it_within_one_percent(duration_ns: int) -> None:
    found = int(bins.bin_of_ns(np.array([duration_ns]))[0])
    assert abs(bins.bin_value_ns(found) - duration_ns) * 100 <= duration_ns + 50
    assert bins.bin_upper_ms(found) * 1_000_000 >= duration_ns


def test_values_and_upper_ends_grow_with_the_bin() -> None:
    assert (np.diff(bins.BIN_VALUE_NS) > 0).all()
    uppers = [bins.bin_upper_ms(i) for i in range(bins.BINS_COUNT)]
    assert uppers == sorted(uppers)
    assert bins.bin_value_us(0) == 1
