"""The language of traffic: what reads as what, what is refused and why, and that writing is reading's inverse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.policy_test.files import series
from tidegate.streams.policy_test.series import (
    ATTRIBUTES,
    OUTCOME_SHARES,
    Segment,
    Series,
    format_series,
    parse_series,
)
from tidegate.streams.policy_test.values import Ramp, Share

GOOD = [
    ("200rps for 60s", {"rps": Ramp(200, 200), "for_ms": 60_000}),
    ("6rpm for 1m", {"rps": Ramp(0.1, 0.1), "for_ms": 60_000}),
    ("0rps for 500ms", {"rps": Ramp(0, 0), "for_ms": 500}),
    ("200..1000rps for 1h", {"rps": Ramp(200, 1000), "for_ms": 3_600_000}),
    ("1rps p50=1.5ms p95=2s for 1m30s", {"p50_us": Ramp(1500, 1500), "p95_us": Ramp(2e6, 2e6)}),
    ("1rps p95=80ms..2s for 1s", {"p95_us": Ramp(80_000, 2_000_000)}),
    ("1rps errors=0.1% for 1s", {"errors": Share(Ramp(0.1, 0.1))}),
    ("1rps errors=0..40% for 1s", {"errors": Share(Ramp(0, 40))}),
    ("1rps errors=1/30 for 1s", {"errors": Share(hits=1, of=30)}),
    ("for 1s errors=5% 1rps", {"errors": Share(Ramp(5, 5)), "for_ms": 1_000}),
    ("1rps instances=10 bad_instance=1 for 1s", {"instances": 10, "bad_instance": 1}),
    (
        "1rps export=5s delay=2s skew=-250ms for 1s",
        {"export_ms": 5000, "delay_ms": 2000, "skew_ms": -250},
    ),
    (
        "1rps sampled=10% timeout=3s for 1s",
        {"sampled": Share(Ramp(10, 10)), "timeout_us": 3_000_000},
    ),
    ("1rps heartbeats=2rps for 1s", {"heartbeats": Ramp(2, 2)}),
]
REFUSED = [
    ("", "is empty; give a series such as `200rps p50=20ms for 60s`"),
    ("200rps", "says not how long it lasts; end with `for 60s`"),
    ("for 60s", "gives no rate; begin with one: 200rps"),
    ("200 for 60s", "'200' is no rate; give requests per second or minute: 200rps, 6rpm"),
    ("200000rps for 1s", "200000rps: give 0rps, or 0.0001rps to 100000rps"),
    ("1rps p50=20 for 1s", "p50: '20' is no time; give one with its unit: 20ms, 1.5s, 2m, 1m30s"),
    ("1rps p50=0ms for 1s", "p50: 0ms: nothing takes no time; give at least 1us"),
    ("1rps p50=0.0001ms for 1s", "p50: '0.0001ms' is finer than a microsecond"),
    ("1rps p50=90ms p95=20ms for 1s", "p95=20ms is below p50=90ms; give both"),
    ("1rps errors=0.4 for 1s", "errors: '0.4' is no share; give 40%"),
    ("1rps errors=40 for 1s", "errors: '40' is no share; give 40%"),
    ("1rps errors=much for 1s", "errors: 'much' is no share; give 40% (by chance) or 1/30 (exactly)"),
    ("1rps errors=101% for 1s", "errors: 101% is more than all"),
    ("1rps errors=2/1 for 1s", "errors: 2/1: give at least one of them, and no more than all: 1/30"),
    ("1rps errors=60% timeouts=50% for 1s", "errors and timeouts are 110% together; give at most 100%"),
    ("1rps error=1% for 1s", "'error' is no attribute; did you mean `errors`?"),
    ("1rps fr 1s", "'fr' is no word of a series; did you mean `for`?"),
    ("1rps 2rps for 1s", "rps stands twice; keep one of them"),
    ("1rps p50=1ms p50=2ms for 1s", "p50 stands twice; keep one of them"),
    ("1rps for 250ms", "for: 250ms is between two boundaries; give a multiple of 500ms"),
    ("1rps for 0s", "for: 0s is no time; give at least 500ms"),
    ("1rps for 49h", "for: '49h' is longer than 48h"),
    ("1rps for 1s; 2rps for 1s", "has a `;` without `then`; write `for 60s; then errors=40% for 30s`"),
    ("1rps for 1s; then", "has an empty segment; give something between `then` and `;`"),
    ("1rps for 1s; then p50=x for 1s", "segment 2: p50: 'x' is no time; give one with its unit: 20ms, 1.5s, 2m, 1m30s"),
    ("1rps bad_instance=1 for 1s", "bad_instance=1 is none of 0 instances; give instances=N with at least 1"),
    ("1rps instances=-1 for 1s", "instances: '-1' is no count; give a whole number from 0 to 1000"),
    ("1rps export=0s for 1s", "export=0s: give at least 500ms, a record a bucket"),
    ("1rps sampled=0% for 1s", "sampled=0% keeps nothing; give 0rps for silence"),
    ("1rps for 1s" + "; then for 1s" * 200, "has 201 segments; give at most 200"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "fields"), GOOD)
def test_a_segment_reads_as_it_looks(text: str, fields: dict[str, object]) -> None:
    (segment,) = series(text).segments
    assert {name: getattr(segment, name) for name in fields} == fields


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_is_wrong_is_refused_with_what_would_be_right(text: str, message: str) -> None:
    told: list[str] = []
    parse_series(text, told.append)
    assert message in told


def test_everything_wrong_with_a_series_is_told_at_once() -> None:
    told: list[str] = []
    parse_series("p50=1 errors=2 for 1; then oops", told.append)
    assert len(told) >= 5


def test_what_a_segment_leaves_out_stays_as_it_was_but_not_its_length() -> None:
    first, second = series("200rps p50=5ms errors=1% for 60s; then errors=40% for 30s").segments
    assert (second.rps, second.p50_us, second.for_ms) == (first.rps, first.p50_us, 30_000)
    assert second.errors == Share(Ramp(40, 40))
    told: list[str] = []
    parse_series("1rps for 1s; then 2rps", told.append)
    assert told == ["segment 2: says not how long it lasts; end with `for 60s`"]


rates = st.one_of(st.just(0.0), st.integers(1, 2_000_000).map(lambda n: n / 1000))
times_us = st.integers(1, 10_000_000).map(float)
percents = st.integers(0, 20_000).map(lambda n: n / 1000)


def ramps(values: st.SearchStrategy[float]) -> st.SearchStrategy[Ramp]:
    return st.builds(Ramp, values, values)


shares = st.one_of(
    st.builds(Share, ramps(percents)),
    st.integers(6, 1000).flatmap(
        lambda of: st.builds(Share, hits=st.integers(1, of // 6), of=st.just(of))
    ),
)
steps = st.integers(0, 7200).map(lambda n: n * 500)
kept = st.integers(1, 100_000).map(lambda n: Share(Ramp(n / 1000, n / 1000)))


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    p50 = draw(ramps(times_us))
    longer = draw(ramps(times_us))
    instances = draw(st.integers(0, 1000))
    given = {name: draw(shares) for name in (*OUTCOME_SHARES, "shed", "cut", "fails_request")}
    return Segment(
        for_ms=draw(steps) + 500,
        rps=draw(ramps(rates)),
        p50_us=p50,
        p95_us=Ramp(p50.start + longer.start, p50.end + longer.end),
        timeout_us=draw(st.integers(1, 10**9)),
        heartbeats=draw(ramps(rates)),
        instances=instances,
        bad_instance=draw(st.integers(0, instances)),
        export_ms=draw(steps) + 500,
        delay_ms=draw(steps),
        skew_ms=draw(st.integers(-10_000_000, 10_000_000)),
        sampled=draw(kept),
        **given,
    )


@given(st.lists(segments(), min_size=1, max_size=4))
def test_reading_what_was_written_gives_the_same(made: list[Segment]) -> None:
    whole = Series(tuple(made))
    assert series(format_series(whole)) == whole


def test_writing_is_short() -> None:
    text = "200rps p50=10ms p95=80ms errors=0.1% for 1m; then errors=40% for 30s; then 0..200rps for 1h"
    assert format_series(series(text)) == text.replace("0..200rps", "0rps..200rps")


def test_every_field_has_a_word() -> None:
    assert {"for_ms", "rps", *(a.field for a in ATTRIBUTES)} == set(Segment.__slots__)
