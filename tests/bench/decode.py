"""Decode alone, and decode plus fold, one core, warm; protobuf's parser beside it in the same run."""

from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.bench.rows import Row, cpu_s, generated, split_by_trace
from tidegate.rules.fold import fold
from tidegate.schemas.otlp import decode

__all__ = ["run"]

RUNS = 5


def run(folder: Path, *, is_quick: bool) -> list[Row]:
    """At 1,000 spans a record, and at about 1.7 (one record for each resource and trace)."""
    spans = 100_000 if is_quick else 500_000
    records = generated(folder, spans)
    tiny = split_by_trace(records[: max(1, len(records) // 5)])
    out = []
    for shape, data, batch in (
        ("1,000 spans a record", records, 20),
        ("1.7 spans a record", tiny, 4_000),
    ):
        out += _measure(shape, data, batch)
    return out


def _measure(shape: str, records: list[bytes], batch: int) -> list[Row]:
    batches = [records[i : i + batch] for i in range(0, len(records), batch)]
    spans = sum(len(decode(b).record) for b in batches)
    size = sum(map(len, records))
    told = f"{shape}, {size / spans:.0f} bytes a span, {batch} records a batch"

    def decoding() -> None:
        for b in batches:
            decode(b)

    def folding() -> None:
        for b in batches:
            fold(decode(b))

    def parsing() -> None:
        for record in records:
            ExportTraceServiceRequest.FromString(record)

    best = {
        name: min(cpu_s(f) for _ in range(RUNS))
        for name, f in (
            ("decode", decoding),
            ("decode and fold", folding),
            ("protobuf parse alone", parsing),
        )
    }
    rows = [Row(name, spans / s / 1e6, "M spans/CPU s", told) for name, s in best.items()]
    ratio = best["protobuf parse alone"] / best["decode and fold"]
    return [*rows, Row("decode and fold against protobuf parse alone", ratio, "x", told)]
