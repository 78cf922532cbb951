"""Offline: the same pairing, on the clock of the records, whatever batches they come in."""

from dataclasses import replace

import pytest

from tests.pairing.test_orders import drawn
from tests.pairing.traces import (
    T_MS,
    Raw,
    as_bytes,
    callees_of,
    oracle,
    round_trips,
)
from tidegate.rules.pairing import Told
from tidegate.rules.pipeline import Offline
from tidegate.rules.policy import builtin_policy
from tidegate.schemas.partials import decode_partials

Heard = list[tuple[int, int, Told]]


def recording() -> tuple[list[tuple[bytes, int]], list[Raw]]:
    """90 s: records of some spans each, in the order of their times, the spans of a trace over several."""
    spans = sorted(
        (
            replace(raw, start=number * 15, end=number * 15 + 10)
            for number, raw in enumerate(drawn(3, traces=400)[:6_000])
        ),
        key=lambda raw: (raw.end + raw.id % 7 * 300, raw.trace, raw.id),
    )
    groups = [spans[at : at + 11] for at in range(0, len(spans), 11)]
    return [(as_bytes(mine), T_MS + int(max(raw.end for raw in mine))) for mine in groups], spans


def heard_of(records: list[tuple[bytes, int]], batch: int) -> tuple[Heard, Offline]:
    """(offset, append time, what was told) of each record that the evaluator was fed."""
    offline = Offline(builtin_policy("default"))
    heard: Heard = []
    feed = offline._evaluator.feed

    def listen(record: bytes, *, offset: int, append_ms: int) -> object:
        read, _ = decode_partials(record)
        if read.facts or read.loops:
            heard.append((offset, append_ms, Told(read.facts, read.loops)))
        return feed(record, offset=offset, append_ms=append_ms)

    offline._evaluator.feed = listen  # type: ignore[method-assign,assignment] # looked at, passed on
    for at in range(0, len(records), batch):
        offline.feed(records[at : at + batch])
    offline.finish()
    return heard, offline


@pytest.mark.parametrize("batch", [1, 7, 100_000])
def test_facts_reach_the_evaluator_at_the_same_places_whatever_the_batches(batch: int) -> None:
    records, spans = recording()
    heard, offline = heard_of(records, batch)
    assert heard == heard_of(records, 50)[0]
    told = [one for _, _, one in heard]
    assert callees_of(told) == oracle(spans)
    assert {tuple(loop.path) for one in told for loop in one.loops} <= round_trips(spans)
    assert any(one.loops for one in told)
    assert not any(offline.counters[name] for name in offline.counters if "pairs" in name)
    times_ms = [append_ms for _, append_ms, _ in heard]
    assert times_ms == sorted(times_ms)
    assert times_ms[0] < T_MS + 5_000  # who answers is news
    assert len(heard) < 150


def test_a_recording_that_ends_soon_tells_its_loops() -> None:
    records, _ = recording()
    heard, _ = heard_of(records[:200], 50)
    assert any(told.loops for _, _, told in heard)
