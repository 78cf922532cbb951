"""Which spans are looked at to learn who answers whom, and the records they travel in.

Pure: a function of the spans' own bytes. What is looked at is decided by the trace id alone, so that all
workers, whatever they read, choose the same traces, and send all spans of one to the same partition.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tidegate.rules.cutting import target_partitions
from tidegate.rules.packing import PackedRecord
from tidegate.schemas.columns import SpanColumns
from tidegate.schemas.facts import Fact, Loop
from tidegate.schemas.outcome import SpanKind
from tidegate.schemas.pairs import PAIR_ROW_BYTES, PairSpans, encode_pairs
from tidegate.schemas.partials import RECORD_BYTES_MAX, encode_aside

__all__ = [
    "HELD_SPANS_MAX",
    "SAMPLED_ONE_IN",
    "PairsPacker",
    "pack_facts",
    "sampled_spans",
    "trace_hash",
]

SAMPLED_ONE_IN = 32
"""Traces whose hash is in the lowest of so many parts are looked at. Every version must choose the same ones."""
_SAMPLED_BELOW = np.uint64((1 << 64) // SAMPLED_ONE_IN)
HELD_SPANS_MAX = 100_000
"""Between two flushes: 6 MB. What is beyond (a trace of a million spans) is left out, and counted."""
_MIX_HI, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
_TIME_MAX = np.uint64((1 << 63) - 1)
_FIXED_BYTES = 2_000
"""Headers of a record and its columns, with room to spare."""
_NAME_BYTES = 5
"""Header of a name in msgpack."""
_SPANS_PER_RECORD_MAX = 8_000
_FACT_BYTES = 60
"""Of a fact's or loop's numbers and headers, at most; names come on top."""
_ROOM_BYTES = 8_000
"""For a partials record's columns, which are empty, and headers."""
Ints = npt.NDArray[np.int64]
Wide = npt.NDArray[np.uint64]


def trace_hash(trace_hi: Wide, trace_lo: Wide) -> Wide:
    """64 bits of each trace id, of which the highest are well mixed (multiplicative hashing; Knuth, The Art
    of Computer Programming 6.4). Shape kept."""
    mixed = trace_hi * _MIX_HI
    mixed ^= trace_lo
    mixed *= _MIX
    return mixed


def sampled_spans(columns: SpanColumns) -> Ints:
    """Indexes of the spans that are looked at, ascending: of the chosen traces all that have ids and times
    that can be. INTERNAL ones need a parent and no times: they only link a call to its request.

    Measured: 3 ns a span, where decoding and folding take 140."""
    at = np.flatnonzero(trace_hash(columns.trace_hi, columns.trace_lo) < _SAMPLED_BELOW)
    has_ids = (columns.span_id[at] != 0) & ((columns.trace_hi[at] | columns.trace_lo[at]) != 0)
    start, end = columns.start_ns[at], columns.end_ns[at]
    has_times = (start != 0) & (end != 0) & (end <= _TIME_MAX)
    is_link = (columns.kind[at] < SpanKind.SERVER) & (columns.parent_id[at] != 0)
    is_counted = (columns.kind[at] >= SpanKind.SERVER) & has_times
    chosen: Ints = at[has_ids & (is_link | is_counted)]
    return chosen


class PairsPacker:
    """Gathers spans of several batches until `flush`."""

    def __init__(self, partitions_count: int) -> None:
        """partitions_count: of `tidegate.pairs`."""
        self.partitions_count = partitions_count
        self.left_out = 0
        """Spans beyond HELD_SPANS_MAX since it was last looked at and set to 0."""
        self.forget()

    def __len__(self) -> int:
        """Spans held."""
        return self._count

    def forget(self) -> None:
        """Drops what is held."""
        self._held: list[PairSpans] = []
        self._count = 0
        self._services: dict[str, int] = {}
        self._targets: dict[str, int] = {"": 0}

    def add(self, columns: SpanColumns, at: Ints) -> None:
        """Takes spans of a batch by their indexes (of `sampled_spans`)."""
        room = HELD_SPANS_MAX - self._count
        self.left_out += max(0, len(at) - room)
        at = at[:room]
        if not len(at):
            return
        is_link = columns.kind[at] < SpanKind.SERVER
        is_call = (columns.kind[at] == SpanKind.CLIENT) | (columns.kind[at] == SpanKind.PRODUCER)
        end = np.where(is_link, 0, columns.end_ns[at]).astype(np.int64)
        start = np.where(is_link, 0, np.minimum(columns.start_ns[at], columns.end_ns[at]))
        target = np.where(is_call, columns.target[at], -1)
        self._held.append(
            PairSpans(
                trace_hi=columns.trace_hi[at],
                trace_lo=columns.trace_lo[at],
                span_id=columns.span_id[at],
                parent_id=columns.parent_id[at],
                start_ns=start.astype(np.int64),
                end_ns=end,
                service=_numbered(columns.service[at], columns.services, self._services),
                target=_numbered(target, [*columns.targets, ""], self._targets),
                kind=np.maximum(columns.kind[at], np.uint8(SpanKind.INTERNAL)),
                outcome=np.where(is_link, np.uint8(0), columns.outcome[at]),
                services=[],
                targets=[],
            )
        )
        self._count += len(at)

    def flush(self) -> list[PackedRecord]:
        """Everything held, in records below RECORD_BYTES_MAX, by partition."""
        if not self._held:
            return []
        spans = _joined(self._held, list(self._services), list(self._targets))
        partition = _partition_of_trace(spans.trace_hi, spans.trace_lo, self.partitions_count)
        out = []
        for number in np.unique(partition).tolist():
            mine = np.flatnonzero(partition == number)
            out += [PackedRecord(number, value) for value in _records(spans, mine)]
        self.forget()
        return out


def pack_facts(
    facts: Sequence[Fact], loops: Sequence[Loop], partitions_count: int
) -> list[PackedRecord]:
    """Records of partials below RECORD_BYTES_MAX: facts in their caller's partition, loops in that of the
    first service of the path; in the order they have here."""
    told: list[Fact | Loop] = [*facts, *loops]
    keys = [(one.caller if isinstance(one, Fact) else one.path[0], "") for one in told]
    of_partition: dict[int, list[Fact | Loop]] = {}
    for partition, one in zip(
        target_partitions(keys, partitions_count, {}).tolist(), told, strict=True
    ):
        of_partition.setdefault(partition, []).append(one)
    out: list[PackedRecord] = []
    for partition, mine in sorted(of_partition.items()):
        some: list[Fact | Loop] = []
        size = _ROOM_BYTES
        for one in mine:
            more = _told_bytes(one)
            if some and size + more > RECORD_BYTES_MAX:
                out.append(PackedRecord(partition, _aside(some, partitions_count)))
                some, size = [], _ROOM_BYTES
            some.append(one)
            size += more
        out.append(PackedRecord(partition, _aside(some, partitions_count)))
    return out


def _aside(told: list[Fact | Loop], partitions_count: int) -> bytes:
    return encode_aside(
        partitions_count=partitions_count,
        facts=[one for one in told if isinstance(one, Fact)],
        loops=[one for one in told if isinstance(one, Loop)],
    )


def _told_bytes(one: Fact | Loop) -> int:
    names = [one.caller, one.target, *one.callees] if isinstance(one, Fact) else one.path
    return _FACT_BYTES + sum(len(name.encode()) + _NAME_BYTES for name in names)


def _partition_of_trace(trace_hi: Wide, trace_lo: Wide, partitions_count: int) -> Wide:
    """By bits that say nothing of whether a trace is looked at."""
    hashes = trace_hash(trace_hi, trace_lo)
    mixed = (hashes ^ (hashes >> np.uint64(32))) * _MIX_HI
    return (mixed >> np.uint64(32)) % np.uint64(partitions_count)


def _numbered(
    index: npt.NDArray[np.int32], names: list[str], known: dict[str, int]
) -> npt.NDArray[np.int32]:
    """Numbers of names, given out in the order of first use; -1 is the last name."""
    used, first, place = np.unique(index, return_index=True, return_inverse=True)
    number = np.empty(len(used), np.int32)
    for i in np.argsort(first).tolist():
        number[i] = known.setdefault(names[used[i]], len(known))
    return number[place]


def _joined(held: list[PairSpans], services: list[str], targets: list[str]) -> PairSpans:
    """As one; arrays are copied."""
    columns = {
        name: np.concatenate([getattr(spans, name) for spans in held])
        for name in PairSpans.__slots__
        if name not in ("services", "targets")
    }
    return PairSpans(**columns, services=services, targets=targets)


def _records(spans: PairSpans, rows: Ints) -> list[bytes]:
    """Each takes as many of these rows as fit with their names."""
    budget = RECORD_BYTES_MAX - _FIXED_BYTES
    costs = [
        np.array([len(name.encode()) + _NAME_BYTES for name in names], np.int64)
        for names in (spans.services, spans.targets)
    ]
    out = []
    while len(rows):
        some = rows[:_SPANS_PER_RECORD_MAX]
        cost = np.full(len(some), PAIR_ROW_BYTES, np.int64)
        for index, bytes_of in zip((spans.service[some], spans.target[some]), costs, strict=True):
            first = np.unique(index, return_index=True)[1]
            cost[first] += bytes_of[index[first]]
        fits = max(1, int(np.searchsorted(np.cumsum(cost), budget, side="right")))
        out.append(_record(spans, some[:fits]))
        rows = rows[fits:]
    return out


def _record(spans: PairSpans, rows: Ints) -> bytes:
    services: dict[str, int] = {}
    targets: dict[str, int] = {}
    columns = {
        name: getattr(spans, name)[rows]
        for name in PairSpans.__slots__
        if name not in ("service", "target", "services", "targets")
    }
    return encode_pairs(
        PairSpans(
            **columns,
            service=_numbered(spans.service[rows], spans.services, services),
            target=_numbered(spans.target[rows], spans.targets, targets),
            services=list(services),
            targets=list(targets),
        )
    )
