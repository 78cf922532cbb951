"""The hash by which clients of any language shed alike."""

import hashlib
import json
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.client.hashing import key_of, position_of, position_of_number

VECTORS: list[dict[str, Any]] = json.loads(
    (files("tidegate.schemas") / "vectors" / "position.json").read_text(encoding="utf-8")
)["rows"]


@pytest.mark.parametrize("row", VECTORS, ids=lambda row: row["key"])
def test_each_vector_for_other_languages_holds_here(row: dict[str, Any]) -> None:
    key = key_of(session=row["session"], trace_id=row["trace_id"])
    assert key == row["key"]
    assert row["sha256"] == hashlib.sha256(row["key"].encode()).hexdigest()
    assert row["bits"] == int(row["sha256"], 16) >> (256 - 53)
    assert position_of(key) == row["position"] == row["bits"] / 2**53
    ratios = (0.05, 0.25, 0.3, 0.5, 0.7, 0.9, 1.0)
    assert [r for r in ratios if position_of(key) < r] == row["passes_at"]


def test_there_are_vectors_for_every_kind_of_key() -> None:
    assert len(VECTORS) >= 15
    assert any(row["session"] and row["trace_id"] for row in VECTORS)
    assert any(not row["key"].isascii() for row in VECTORS)
    assert any(row["trace_id"] != row["key"] and not row["session"] for row in VECTORS)


def test_the_empty_key_hashes_as_the_standard_says() -> None:
    """FIPS 180-4: SHA-256 of nothing is e3b0c44298fc1c14..."""
    assert position_of("") == (0xE3B0C44298FC1C14 >> 11) / 2**53


@given(st.text() | st.binary())
def test_a_position_is_in_the_half_open_unit_interval(key: str | bytes) -> None:
    assert 0.0 <= position_of(key) < 1.0


@given(st.integers(1, 2**128 - 1))
def test_a_trace_id_is_one_key_in_every_form(trace_id: int) -> None:
    text = f"{trace_id:032x}"
    forms = {key_of(trace_id=form) for form in (trace_id, text, text.upper(), bytes.fromhex(text))}
    assert forms == {text}


def test_an_invalid_trace_id_is_no_key() -> None:
    assert key_of(trace_id=0) == key_of(trace_id="") == key_of() == ""


def test_text_that_is_no_unicode_raises_nothing() -> None:
    assert 0.0 <= position_of("\udc80") < 1.0


@pytest.mark.parametrize("kind", ["trace", "number", "sequence"])
def test_positions_are_uniform(kind: str) -> None:
    """Chi-square over 100 cells: 149 is exceeded by a uniform hash once in a thousand."""
    n = 50_000
    if kind == "sequence":
        positions = [position_of_number(i) for i in range(n)]
    else:
        text = "{:032x}" if kind == "trace" else "user-{}"
        positions = [position_of(text.format(i)) for i in range(n)]
    cells = [0] * 100
    for position in positions:
        cells[int(position * 100)] += 1
    expected = n / 100
    assert sum((count - expected) ** 2 / expected for count in cells) < 149
