"""Traces written down by hand or drawn, their bytes, and a plain oracle: a dictionary over raw spans."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tidegate.rules.pairing import Pairing, Told
from tidegate.rules.pairs import SAMPLED_ONE_IN, PairsPacker, sampled_spans
from tidegate.schemas.otlp import decode
from tidegate.schemas.outcome import SpanKind

T_MS = 1_750_000_000_000
INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = (int(kind) for kind in SpanKind if kind)
Callees = dict[tuple[str, str], set[str]]


@dataclass(frozen=True, slots=True)
class Raw:
    """A span; times in ms from T_MS."""

    trace: int
    id: int
    parent: int
    service: str
    kind: int
    target: str = ""
    start: float = 0
    end: float = 10
    status: int = 200
    """HTTP's."""


def hash_of(trace: int) -> int:
    """`rules.pairs.trace_hash`, written with Python's integers."""
    mask = (1 << 64) - 1
    hi, lo = trace >> 64, trace & mask
    return ((hi * 0x9E3779B97F4A7C15 & mask) ^ lo) * 0xBF58476D1CE4E5B9 & mask


def is_sampled(trace: int) -> bool:
    """Whether a trace is looked at."""
    return hash_of(trace) < (1 << 64) // SAMPLED_ONE_IN


def sampled_traces(start: int = 1) -> Iterator[int]:
    """Trace ids that are looked at."""
    return (i for i in count(start << 64 | 7) if is_sampled(i))


TRACE = next(sampled_traces())


def as_bytes(spans: Iterable[Raw], *, base_ms: int = T_MS) -> bytes:
    """One ExportTraceServiceRequest."""
    out = ExportTraceServiceRequest()
    by_service: dict[str, list[Raw]] = defaultdict(list)
    for raw in spans:
        by_service[raw.service].append(raw)
    for service, mine in by_service.items():
        resource = out.resource_spans.add()
        name = resource.resource.attributes.add()
        name.key, name.value.string_value = "service.name", service
        scope = resource.scope_spans.add()
        for raw in mine:
            span = scope.spans.add()
            span.trace_id = raw.trace.to_bytes(16, "big")
            span.span_id = raw.id.to_bytes(8, "big")
            span.parent_span_id = raw.parent.to_bytes(8, "big") if raw.parent else b""
            span.name, span.kind = "GET /", raw.kind
            span.start_time_unix_nano = base_ms * 1_000_000 + int(raw.start * 1_000_000)
            span.end_time_unix_nano = base_ms * 1_000_000 + int(raw.end * 1_000_000)
            code = span.attributes.add()
            code.key, code.value.int_value = "http.response.status_code", raw.status
            if raw.target:
                peer = span.attributes.add()
                peer.key, peer.value.string_value = "peer.service", raw.target
    value: bytes = out.SerializeToString()
    return value


def pairs_of(records: Sequence[bytes], *, partitions: int = 1) -> list[list[bytes]]:
    """What one ingest worker sends for records of spans, by partition of pairs."""
    packer = PairsPacker(partitions)
    columns = decode(records)
    assert not columns.record_errors
    packer.add(columns, sampled_spans(columns))
    out: list[list[bytes]] = [[] for _ in range(partitions)]
    for record in packer.flush():
        out[record.partition].append(record.value)
    return out


def told_of(spans: Sequence[Raw]) -> Told:
    """All that one record of them tells."""
    pairing = Pairing()
    for record in pairs_of([as_bytes(spans)])[0]:
        pairing.feed(record, T_MS)
    return pairing.finish()


def callees_of(told: Iterable[Told]) -> Callees:
    """By (caller, target), over all facts."""
    out: Callees = defaultdict(set)
    for one in told:
        for fact in one.facts:
            out[fact.caller, fact.target] |= set(fact.callees)
    return dict(out)


def oracle(spans: Iterable[Raw]) -> Callees:
    """Each request is answered to the call whose id is its own, else its parent's; a parent's id that
    stands for a request too means that one."""
    sampled = [raw for raw in spans if is_sampled(raw.trace)]
    calls = {(r.trace, r.id): r for r in sampled if r.kind in (CLIENT, PRODUCER)}
    requests = {(r.trace, r.id): r for r in sampled if r.kind in (SERVER, CONSUMER)}
    out: Callees = defaultdict(set)
    for request in requests.values():
        call = calls.get((request.trace, request.id))
        if call is None and (request.trace, request.parent) not in requests:
            call = calls.get((request.trace, request.parent))
        if call is not None:
            out[call.service, call.target].add(request.service)
    return dict(out)


def round_trips(spans: Iterable[Raw]) -> set[tuple[str, ...]]:
    """Paths of requests that came back to a service, from raw spans, recursively; for traces whose spans
    have ids of their own."""
    sampled = {(r.trace, r.id): r for r in spans if is_sampled(r.trace)}

    def services(raw: Raw) -> list[str]:
        above = sampled.get((raw.trace, raw.parent))
        before = services(above) if above is not None else []
        return before if before and before[-1] == raw.service else [*before, raw.service]

    out = set()
    for raw in sampled.values():
        if raw.kind not in (SERVER, CONSUMER):
            continue
        way = services(raw)
        before = [i for i, service in enumerate(way[:-1]) if service == raw.service]
        if before:
            out.add(tuple(way[before[-1] :]))
    return out
