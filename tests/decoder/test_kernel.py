"""The kernel equals protobuf's own parser on whatever that accepts, and never goes astray on the rest.

`python -m tests.decoder.test_kernel CASES` runs as many random cases offline.
"""

import os
import random
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from tests.decoder.spans import comparable, mutated, request, reversed_fields
from tests.fold.oracle import fold as fold_by_oracle
from tidegate.rules.fold import fold
from tidegate.schemas.cells import Cells
from tidegate.schemas.otlp import decode
from tidegate.schemas.otlp.decoding import decode_by_kernel
from tidegate.schemas.otlp.protobuf import decode_by_protobuf

seeds = st.integers(0, 2**48)


def check(data: list[bytes]) -> None:
    quick, slow = decode_by_kernel(data), decode_by_protobuf(data)
    if slow.record_errors or quick.record_errors:
        # What protobuf refuses for something that the kernel skips may be taken for its good part.
        assert set(quick.record_errors) <= set(slow.record_errors)
        good = ~np.isin(quick.record, list(slow.record_errors))
        for name in ("record", "service", "instance", "kind", "outcome", "effect", "target"):
            setattr(quick, name, getattr(quick, name)[good])
        for name in (
            "start_ns",
            "end_ns",
            "trace_hi",
            "trace_lo",
            "span_id",
            "parent_id",
            "weight",
        ):
            setattr(quick, name, getattr(quick, name)[good])
    else:
        assert quick.counters == slow.counters
    assert comparable(quick) == comparable(slow)


def case(seed: int) -> list[bytes]:
    r = random.Random(seed)
    data = []
    for _ in range(r.choice([1, 1, 2, 4])):
        made = request(r)
        written = reversed_fields(made) if r.random() < 0.4 else made.SerializeToString()
        data.append(mutated(r, written) if r.random() < 0.5 else written)
    return data


@settings(max_examples=500, deadline=None)
@given(seeds)
def test_the_kernel_equals_protobufs_parser(seed: int) -> None:
    check(case(seed))


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_the_order_of_fields_does_not_matter(seed: int) -> None:
    made = request(random.Random(seed))
    written, turned = made.SerializeToString(), reversed_fields(made)
    assert type(made).FromString(turned).ByteSize() == len(written)
    one, other = decode_by_kernel([written]), decode_by_kernel([turned])
    assert sorted(one.span_id.tolist()) == sorted(other.span_id.tolist())
    check([turned])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_are_refused_or_read_as_protobuf_does(data: bytes) -> None:
    check([data])


@settings(max_examples=100, deadline=None)
@given(seeds, st.integers(1, 6))
def test_batches_change_nothing_but_numbers(seed: int, count: int) -> None:
    r = random.Random(seed)
    data = [request(r).SerializeToString() for _ in range(count)]
    whole = fold(decode(data))
    alone = [fold(decode([d])) for d in data]
    assert rows_of(whole) == [row for i, cells in enumerate(alone) for row in rows_of(cells, i)]
    assert offers_of(whole) == [row for i, cells in enumerate(alone) for row in offers_of(cells, i)]
    assert instances_of(whole) == [
        row for i, cells in enumerate(alone) for row in instances_of(cells, i)
    ]
    assert whole.counters == dict(sum((Counter(cells.counters) for cells in alone), Counter()))


def offers_of(cells: Cells, record: int | None = None) -> list[tuple[object, ...]]:
    offered = cells.exemplars
    columns = (offered.record, offered.key, offered.bucket, offered.code, offered.bin)
    return [
        (r if record is None else record, cells.keys[k], *rest)
        for r, k, *rest in zip(
            *(c.tolist() for c in (*columns, offered.trace_hi, offered.trace_lo)), strict=True
        )
    ]


def instances_of(cells: Cells, record: int | None = None) -> list[tuple[object, ...]]:
    seen = cells.instances
    columns = (seen.record, seen.key, seen.bucket, seen.name, seen.requests, seen.failed)
    return [
        (r if record is None else record, cells.keys[k], b, seen.names[n], *rest)
        for r, k, b, n, *rest in zip(*(c.tolist() for c in columns), strict=True)
    ]


def rows_of(cells: Cells, record: int | None = None) -> list[tuple[object, ...]]:
    columns = (
        cells.record,
        cells.key,
        cells.bucket,
        cells.code,
        cells.bin,
        cells.count,
        cells.weight,
    )
    return [
        (r if record is None else record, cells.keys[k], *rest)
        for r, k, *rest in zip(*(c.tolist() for c in columns), strict=True)
    ]


@settings(max_examples=300, deadline=None)
@given(seeds)
def test_the_fold_equals_its_oracle(seed: int) -> None:
    r = random.Random(seed)
    columns = decode_by_protobuf([request(r).SerializeToString() for _ in range(3)])
    quick, slow = fold(columns), fold_by_oracle(columns)
    assert rows_of(quick) == rows_of(slow)
    assert quick.counters == slow.counters
    assert offers_of(quick) == offers_of(slow)
    assert instances_of(quick) == instances_of(slow)


def test_metrics_on_the_spans_topic_are_refused() -> None:
    metrics = ExportMetricsServiceRequest()
    made = metrics.resource_metrics.add().scope_metrics.add().metrics.add(name="cpu", unit="1")
    made.gauge.data_points.add(as_int=3, time_unix_nano=5)
    columns = decode([metrics.SerializeToString(), request(random.Random(3)).SerializeToString()])
    assert list(columns.record_errors) == [0]
    assert "metrics or logs" in columns.record_errors[0]


def test_a_million_tiny_spans_in_a_record_are_read() -> None:
    spans = b"\x12\x00" * 1_000_000
    scope = b"\x12" + varint(len(spans)) + spans
    record = b"\x0a" + varint(len(scope)) + scope
    assert len(decode_by_kernel([record]).record) == 1_000_000


def test_a_record_of_twenty_megabytes_is_read() -> None:
    made = request(random.Random(1))
    while not made.resource_spans or not made.resource_spans[0].scope_spans:
        made = request(random.Random(2))
    span = made.resource_spans[0].scope_spans[0].spans.add(span_id=b"12345678", kind=2)
    for i in range(500):
        span.attributes.add(key=f"k{i}").value.string_value = "v" * 40_000
    check([made.SerializeToString()])


@pytest.mark.parametrize("names", [1, 60_000])
def test_names_beyond_what_was_expected_make_room(names: int) -> None:
    made = type(request(random.Random(1)))()
    scope = made.resource_spans.add().scope_spans.add()
    for i in range(names):
        span = scope.spans.add(kind=3, span_id=i.to_bytes(8))
        span.attributes.add(key="peer.service").value.string_value = f"callee-{i}"
    columns = decode_by_kernel([made.SerializeToString()])
    assert len(columns.targets) == names


def varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def test_no_read_leaves_the_buffer() -> None:
    """numba checks every index then; a read beyond would raise."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.decoder.test_kernel", "1500"],
        env={
            **os.environ,
            "NUMBA_BOUNDSCHECK": "1",
            "NUMBA_CACHE_DIR": "/tmp/tidegate-bounds-cache",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]


if __name__ == "__main__":
    cases = int(sys.argv[1])
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    started = time.monotonic()
    for number in range(first, first + cases):
        try:
            check(case(number))
        except BaseException:
            print(f"case {number} failed")
            raise
    print(f"{cases} cases agree, {time.monotonic() - started:.0f} s")
