"""Which spans are looked at, and their records."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pairing.traces import (
    CLIENT,
    INTERNAL,
    SERVER,
    T_MS,
    TRACE,
    Raw,
    as_bytes,
    hash_of,
    is_sampled,
    pairs_of,
    sampled_traces,
)
from tidegate.rules.pairs import (
    HELD_SPANS_MAX,
    PairsPacker,
    pack_facts,
    sampled_spans,
    trace_hash,
)
from tidegate.schemas.facts import Fact, Loop
from tidegate.schemas.otlp import decode
from tidegate.schemas.pairs import PAIRS_FORMAT, decode_pairs, encode_pairs
from tidegate.schemas.partials import RECORD_BYTES_MAX, decode_partials
from tidegate.schemas.partitioner import partition_of

NS = 1_000_000


def one_hash(trace: int) -> int:
    hi, lo = trace >> 64, trace & (1 << 64) - 1
    return int(trace_hash(np.array([hi], np.uint64), np.array([lo], np.uint64))[0])


@pytest.mark.parametrize(
    ("trace", "number"),
    [
        (1, 0xBF58476D1CE4E5B9),
        (0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x171AAD56DE63FA68),
        ((1 << 128) - 1, 0x171BCA574FA18E74),
    ],
)
def test_the_hash_of_a_trace_is_the_same_in_every_version(trace: int, number: int) -> None:
    assert one_hash(trace) == number


@given(st.integers(0, (1 << 128) - 1))
def test_the_hash_is_what_plain_integers_give(trace: int) -> None:
    assert one_hash(trace) == hash_of(trace)


STEPS = [1, 1 << 64, (1 << 64) + 1, 32, 1 << 32, 1 << 59, 1 << 100, (1 << 100) + (1 << 32)]


@pytest.mark.parametrize("step", STEPS)
def test_one_trace_in_32_is_looked_at_however_ids_are_given_out(step: int) -> None:
    partitions = 8
    traces = [(i + 1) * step & (1 << 128) - 1 for i in range(32_000)]
    columns = decode([as_bytes(Raw(trace, 1, 0, "web", SERVER) for trace in set(traces))])
    chosen = sampled_spans(columns)
    assert len(chosen) == sum(is_sampled(trace) for trace in set(traces))
    assert 850 < len(chosen) < 1150
    packer = PairsPacker(partitions)
    packer.add(columns, chosen)
    sizes = [len(decode_pairs(record.value)) for record in packer.flush()]
    assert len(sizes) == partitions
    assert max(sizes) < 2 * len(chosen) / partitions


def test_spans_without_ids_or_with_times_that_cannot_be_are_left_out() -> None:
    not_sampled = next(t for t in range(1, 99) if not is_sampled(t))
    good = [
        Raw(TRACE, 1, 0, "web", SERVER),
        Raw(TRACE, 2, 1, "web", CLIENT, "cart", start=5, end=3),
        Raw(TRACE, 3, 2, "web", INTERNAL, start=-T_MS, end=-T_MS),
    ]
    bad = [
        Raw(not_sampled, 1, 0, "web", SERVER),
        Raw(TRACE, 0, 1, "web", SERVER),
        Raw(0, 9, 1, "web", SERVER),
        Raw(TRACE, 4, 1, "web", SERVER, start=-T_MS),
        Raw(TRACE, 5, 1, "web", SERVER, end=-T_MS),
        Raw(TRACE, 6, 1, "web", SERVER, end=9_300_000_000_000),
        Raw(TRACE, 7, 0, "web", INTERNAL),
    ]
    ((record,),) = pairs_of([as_bytes([*bad[:3], *good, *bad[3:]])])
    spans = decode_pairs(record)
    rows = [
        (
            int(spans.span_id[i]),
            int(spans.parent_id[i]),
            int(spans.kind[i]),
            spans.services[spans.service[i]],
            spans.targets[spans.target[i]],
            int(spans.start_ns[i]),
            int(spans.end_ns[i]),
        )
        for i in range(len(spans))
    ]
    t_ns = T_MS * NS
    assert rows == [
        (1, 0, SERVER, "web", "", t_ns, t_ns + 10 * NS),
        (2, 1, CLIENT, "web", "cart", t_ns + 3 * NS, t_ns + 3 * NS),
        (3, 2, INTERNAL, "web", "", 0, 0),
    ]
    assert {
        (int(h) << 64) | int(low) for h, low in zip(spans.trace_hi, spans.trace_lo, strict=True)
    } == {TRACE}


def test_all_spans_of_a_trace_go_to_one_partition_whatever_record_and_batch_they_were_in() -> None:
    traces = [t for t, _ in zip(sampled_traces(), range(40), strict=False)]
    where: dict[int, set[int]] = {}
    for number in range(3):
        spans = [Raw(t, number + 1, 0, f"s{number}", SERVER) for t in traces[:: number + 1]]
        for partition, records in enumerate(pairs_of([as_bytes(spans)], partitions=4)):
            for record in records:
                for low in decode_pairs(record).trace_lo.tolist():
                    where.setdefault(low, set()).add(partition)
    assert all(len(partitions) == 1 for partitions in where.values())
    assert set.union(*where.values()) == {0, 1, 2, 3}


def test_records_stay_below_the_limit_and_lose_nothing() -> None:
    wide = "w" * 170
    spans = [Raw(TRACE, i + 1, 0, f"{wide}{i}", CLIENT, f"é{wide}{i}") for i in range(4_000)] + [
        Raw(TRACE, i + 1, 0, "web", SERVER) for i in range(20_000)
    ]
    (records,) = pairs_of([as_bytes(spans)])
    assert max(map(len, records)) < RECORD_BYTES_MAX
    assert len(records) < 8
    read = [decode_pairs(record) for record in records]
    names = [s.services[i] for s in read for i in s.service.tolist()]
    assert names == [raw.service for raw in spans]
    assert [s.targets[i] for s in read for i in s.target.tolist()][:4_000] == [
        raw.target for raw in spans[:4_000]
    ]


def test_what_is_held_between_two_flushes_is_bounded_and_counted() -> None:
    packer = PairsPacker(1)
    columns = decode([as_bytes(Raw(TRACE, i + 1, 0, "web", SERVER) for i in range(30_000))])
    for _ in range(4):
        packer.add(columns, sampled_spans(columns))
    assert (len(packer), packer.left_out) == (HELD_SPANS_MAX, 20_000)
    assert sum(len(decode_pairs(r.value)) for r in packer.flush()) == HELD_SPANS_MAX
    assert len(packer) == 0
    assert packer.flush() == []


def test_bytes_that_are_no_pairs_record_are_refused() -> None:
    ((good,),) = pairs_of([as_bytes([Raw(TRACE, 1, 0, "web", SERVER)])])
    spans = decode_pairs(good)
    plain = msgspec.msgpack.decode(good)
    bad = {
        "cut short": good[:-3],
        "nothing": b"",
        "no msgpack": b"\xff\xfe",
        "format": msgspec.msgpack.encode(plain | {"format": PAIRS_FORMAT + 1}),
        "lacks": msgspec.msgpack.encode(plain | {"columns": {}}),
        "wrong length": msgspec.msgpack.encode(
            plain | {"columns": plain["columns"] | {"kind": b"\x02\x02"}}
        ),
        "column": msgspec.msgpack.encode(plain | {"columns": plain["columns"] | {"kind": b"\x09"}}),
        "buffer": msgspec.msgpack.encode(
            plain | {"columns": plain["columns"] | {"span_id": b"\x09"}}
        ),
    }
    for value in bad.values():
        with pytest.raises(ValueError):
            decode_pairs(value)
    for wrong in (
        replace(spans, start_ns=spans.end_ns + 1),
        replace(spans, span_id=spans.span_id * 0),
    ):
        with pytest.raises(ValueError, match="pairs record"):
            decode_pairs(encode_pairs(wrong))
    assert encode_pairs(spans) == good


def test_facts_go_to_their_callers_partition_in_records_below_the_limit() -> None:
    wide = "ü" * 180
    facts = [
        Fact(f"caller{i % 50}", f"{wide}{i}", [f"{wide}{j}" for j in range(8)], T_MS, 1)
        for i in range(500)
    ]
    loops = [Loop([f"caller{i}", "b", f"caller{i}"], "0" * 32, T_MS) for i in range(50)]
    found_facts, found_loops = [], []
    for record in pack_facts(facts, loops, 3):
        assert len(record.value) < RECORD_BYTES_MAX
        read, blocks = decode_partials(record.value)
        assert (read.partitions_count, len(blocks.offset)) == (3, 0)
        assert all(partition_of(f.caller, 3) == record.partition for f in read.facts)
        assert all(partition_of(x.path[0], 3) == record.partition for x in read.loops)
        found_facts += read.facts
        found_loops += read.loops
    assert sorted(found_facts, key=repr) == sorted(facts, key=repr)
    assert sorted(found_loops, key=repr) == sorted(loops, key=repr)
    assert pack_facts([], [], 3) == []
