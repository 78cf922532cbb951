"""What a benchmark reports, and the input they share."""

import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["Row", "generated", "split_by_trace"]

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Row:
    """One figure."""

    name: str
    value: float
    unit: str
    shape: str = ""
    """What it was measured on."""


def generated(
    folder: Path, spans: int, *, rate: int = 20_000, start_ns: int | None = None
) -> list[bytes]:
    """Records of `gen_otlp.py`, kept in the folder. start_ns moves them in time."""
    file = folder / f"spans-{spans}-{rate}-{start_ns or 0}.lenpb"
    if not file.exists():
        sys.stderr.write(f"generating {spans:,} spans (about {spans / 35_000:.0f} s)\n")
        command = [sys.executable, str(HERE / "gen_otlp.py"), str(file), "--spans", str(spans)]
        command += ["--seed", "7", "--rate", str(rate)]
        command += ["--start-ns", str(start_ns)] if start_ns else []
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    data = file.read_bytes()
    out, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        out.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return out


def split_by_trace(records: list[bytes]) -> list[bytes]:
    """The same spans as the Collector's exporter writes them with `partition_traces_by_id`: one record
    for each resource and trace of a batch."""
    out = []
    for record in records:
        for group in ExportTraceServiceRequest.FromString(record).resource_spans:
            by_trace: dict[bytes, ExportTraceServiceRequest] = {}
            for scope in group.scope_spans:
                for span in scope.spans:
                    one = by_trace.get(span.trace_id)
                    if one is None:
                        one = by_trace[span.trace_id] = ExportTraceServiceRequest()
                        made = one.resource_spans.add(schema_url=group.schema_url)
                        made.resource.CopyFrom(group.resource)
                    scopes = one.resource_spans[0].scope_spans
                    if not scopes or scopes[-1].scope.name != scope.scope.name:
                        scopes.add().scope.CopyFrom(scope.scope)
                    scopes[-1].spans.append(span)
            out += [one.SerializeToString() for one in by_trace.values()]
    return out


def cpu_s(function: object, *arguments: object) -> float:
    """CPU seconds of this process for one call."""
    before = time.process_time()
    function(*arguments)  # type: ignore[operator]  # a callable
    return time.process_time() - before
