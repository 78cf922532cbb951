"""Which decoder runs: the kernel for what is ordinary, protobuf's own parser for the rest of a batch, and
for everything where numba is missing or TIDEGATE_NUMBA=0."""

import os
import threading
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tidegate.schemas.columns import SpanColumns
from tidegate.schemas.compiling import HAS_NUMBA
from tidegate.schemas.otlp import kernel
from tidegate.schemas.otlp.classify import joined, target_by_url, weight_of
from tidegate.schemas.otlp.interning import RESOURCES, STATES, TARGETS, Interned, interned
from tidegate.schemas.otlp.json import is_json
from tidegate.schemas.otlp.json_quick import protobuf_from_json
from tidegate.schemas.otlp.kernel import COUNTERS
from tidegate.schemas.otlp.protobuf import decode_by_protobuf
from tidegate.schemas.otlp.reading import RESOURCE_SLOTS, SPAN_SLOTS
from tidegate.schemas.otlp.span_target import TARGET_BY_URL
from tidegate.schemas.otlp.wire import PADDING
from tidegate.schemas.scope import NAME_CHARS_MAX, UNKNOWN_SERVICE, UNKNOWN_TARGET

__all__ = ["USES_KERNEL", "decode", "decode_by_kernel"]

USES_KERNEL = HAS_NUMBA and os.environ.get("TIDEGATE_NUMBA", "1") != "0"

_SPAN_BYTES_GUESS = 64
_START_CAPACITY = 4_096
_NO_SPANS = "no span has an id or a time: metrics or logs on the spans topic?"


def decode(records: Sequence[bytes]) -> SpanColumns:
    """Columns of a batch of Kafka records (`ExportTraceServiceRequest`, protobuf or JSON)."""
    columns = decode_by_kernel(records) if USES_KERNEL else decode_by_protobuf(records)
    return _without_strangers(columns)


def decode_by_kernel(records: Sequence[bytes]) -> SpanColumns:
    """By the kernel, unusual records by protobuf's parser."""
    if any(map(is_json, records)):
        records = [protobuf_from_json(r) or r if is_json(r) else r for r in records]
    space = _workspace()
    buf = np.frombuffer(b"".join((*records, bytes(PADDING))), np.uint8)
    bounds = np.zeros(len(records) + 1, np.int64)
    np.cumsum([len(record) for record in records], out=bounds[1:])
    space.hold(len(buf) // _SPAN_BYTES_GUESS)
    status = np.empty(len(records), np.uint8)
    while True:
        space.clear()
        counters = np.zeros(len(COUNTERS), np.int64)
        count = kernel.decode_records(
            buf,
            bounds,
            space.small,
            space.numbers,
            space.wide,
            *space.known,
            status,
            counters,
            np.zeros_like(counters),
            space.span_slots,
            space.resource_slots,
        )
        if count >= 0:
            break
        space.double()
    columns = _columns(space, buf, count, len(records), counters)
    unusual = np.flatnonzero(status != kernel.OK)
    return _spliced(columns, records, unusual) if len(unusual) else columns


_Odd = dict[str, npt.NDArray[np.int64]]


class _Space:
    """Buffers that a thread uses again for every batch."""

    def __init__(self) -> None:
        self.names_capacity = _START_CAPACITY
        self.span_slots = np.zeros(SPAN_SLOTS, np.int64)
        self.resource_slots = np.zeros(RESOURCE_SLOTS, np.int64)
        self._make(_START_CAPACITY)

    def _make(self, capacity: int) -> None:
        self.capacity = capacity
        self.small = np.empty((3, capacity), np.uint8)
        self.numbers = np.empty((4, capacity), np.int32)
        self.wide = np.empty((6, capacity), np.uint64)
        self.known = interned(self.names_capacity)

    def hold(self, spans: int) -> None:
        """Makes room for so many spans, and gives back what a giant batch took."""
        wanted = max(_START_CAPACITY, spans)
        if not wanted <= self.capacity <= 16 * wanted:
            self.names_capacity = _START_CAPACITY
            self._make(wanted)

    def double(self) -> None:
        """After an output was too small."""
        self.names_capacity *= 2
        self._make(2 * self.capacity)

    def clear(self) -> None:
        """Empties the dictionaries."""
        for which in np.flatnonzero(self.known.counts):
            self.known.tables[which] = -1
        self.known.counts[:] = 0


_local = threading.local()


def _workspace() -> _Space:
    space: _Space | None = getattr(_local, "space", None)
    if space is None:
        space = _local.space = _Space()
    return space


def _columns(
    space: _Space,
    buf: npt.NDArray[np.uint8],
    count: int,
    records_count: int,
    counters: npt.NDArray[np.int64],
) -> SpanColumns:
    data = buf.data
    service_of, instance_of, services, instances, resource_odd = _resources(space.known, data)
    target_of, targets, target_odd = _targets(space.known, data)
    weights = _weights(space.known, data)
    # Copies of whole blocks, whose rows are the columns: the space is used again for the next batch.
    small, wide = space.small[:, :count].copy(), space.wide[:, :count].copy()
    numbers = space.numbers[:, :count]
    resource, target = numbers[kernel.RESOURCE], numbers[kernel.TARGET]
    total = dict(zip(COUNTERS, counters.tolist(), strict=True))
    for counter in ("names_cut", "names_not_utf8"):
        of_resource, of_target = resource_odd[counter], target_odd[counter]
        if of_resource.any() or of_target.any():
            counted = of_resource[resource].sum() + of_target[target[target >= 0]].sum()
            total[counter] = int(counted)
    return SpanColumns(
        records_count,
        record=numbers[kernel.RECORD].copy(),
        service=service_of[resource],
        instance=instance_of[resource],
        kind=small[kernel.KIND],
        outcome=small[kernel.OUTCOME],
        effect=small[kernel.EFFECT],
        start_ns=wide[kernel.START_NS],
        end_ns=wide[kernel.END_NS],
        trace_hi=wide[kernel.TRACE_HI],
        trace_lo=wide[kernel.TRACE_LO],
        span_id=wide[kernel.SPAN_ID],
        parent_id=wide[kernel.PARENT_ID],
        target=target_of[target],  # -1 takes the last element, which is -1
        weight=weights[numbers[kernel.STATE]],  # -1 takes the last, which is one
        services=services,
        instances=instances,
        targets=targets,
        counters={name: n for name, n in total.items() if n},
    )


def _slices(known: Interned, which: int, data: memoryview) -> list[tuple[int, bytes, bytes, bytes]]:
    rows = known.entries[which, : int(known.counts[which])].tolist()
    return [
        (mode, bytes(data[a : a + n]), bytes(data[b : b + m]), bytes(data[c : c + k]))
        for mode, a, n, b, m, c, k in rows
    ]


def _numbered(texts: list[str]) -> tuple[npt.NDArray[np.int32], list[str]]:
    numbers: dict[str, int] = {}
    index = [numbers.setdefault(text, len(numbers)) for text in texts]
    return np.array(index, np.int32), list(numbers)


def _resources(
    known: Interned, data: memoryview
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], list[str], list[str], _Odd]:
    """(service and instance by resource, their names, what is odd about them)."""
    rows = [
        _identity(space, name, inst) for _, space, name, inst in _slices(known, RESOURCES, data)
    ]
    service_of, services = _numbered([service for service, _, _ in rows])
    present = [instance for _, instance, _ in rows if instance]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(present))}
    instance_of = np.array([numbers.get(instance, -1) for _, instance, _ in rows], np.int32)
    return service_of, instance_of, services, list(numbers), _odd([odd for _, _, odd in rows])


@lru_cache(maxsize=16_384)
def _identity(namespace: bytes, name: bytes, instance: bytes) -> tuple[str, str, tuple[int, int]]:
    """(service, instance, how many of both were cut and mended)."""
    if not name:
        service = UNKNOWN_SERVICE
    else:
        service = f"{_text(namespace)}/{_text(name)}" if namespace else _text(name)
    texts = (service, _text(instance))
    odd = (sum(map(_is_long, texts)), sum(map(_is_mended, texts)))
    return texts[0][:NAME_CHARS_MAX], texts[1][:NAME_CHARS_MAX], odd


def _targets(known: Interned, data: memoryview) -> tuple[npt.NDArray[np.int32], list[str], _Odd]:
    """(target by number of its slices, names, what is odd about them)."""
    rows = [_target(*row) for row in _slices(known, TARGETS, data)]
    target_of, targets = _numbered([text for text, _ in rows])
    return np.append(target_of, np.int32(-1)), targets, _odd([odd for _, odd in rows])


@lru_cache(maxsize=65_536)
def _target(mode: int, a: bytes, b: bytes, c: bytes) -> tuple[str, tuple[int, int]]:
    if mode == TARGET_BY_URL:
        text = target_by_url(_text(a), _text(b), _text(c))
    else:
        text = joined(_text(a), _text(b)) or UNKNOWN_TARGET
    return text[:NAME_CHARS_MAX], (int(_is_long(text)), int(_is_mended(text)))


def _is_long(text: str) -> bool:
    return len(text) > NAME_CHARS_MAX


def _is_mended(text: str) -> bool:
    return "\ufffd" in text


def _odd(rows: list[tuple[int, int]]) -> _Odd:
    """By counter, how many of a value's names were cut, and held bytes that are no UTF-8."""
    cut, mended = np.array(rows or [(0, 0)], np.int64).T
    return {"names_cut": cut, "names_not_utf8": mended}


def _weights(known: Interned, data: memoryview) -> npt.NDArray[np.int32]:
    return np.array(
        [*(_weight(state) for _, state, _, _ in _slices(known, STATES, data)), 64], np.int32
    )


@lru_cache(maxsize=4_096)
def _weight(state: bytes) -> int:
    return weight_of(_text(state))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _spliced(
    columns: SpanColumns, records: Sequence[bytes], unusual: npt.NDArray[np.intp]
) -> SpanColumns:
    """The columns with those of the unusual records put in their places."""
    other = decode_by_protobuf([records[i] for i in unusual])
    other.record = unusual.astype(np.int32)[other.record]
    order = np.argsort(np.concatenate((columns.record, other.record)), kind="stable")
    for name, numbered in (
        ("service", "services"),
        ("instance", "instances"),
        ("target", "targets"),
    ):
        mine: list[str] = getattr(columns, numbered)
        index, texts = _numbered([*mine, *getattr(other, numbered)])
        index = np.append(index, np.int32(-1))  # for -1
        theirs = getattr(other, name)
        shifted = np.where(theirs >= 0, theirs + len(mine), -1)
        both = index[np.concatenate((getattr(columns, name), shifted))]
        setattr(columns, name, both[order])
        setattr(columns, numbered, texts)
    for name in _PLAIN:
        both = np.concatenate((getattr(columns, name), getattr(other, name)))
        setattr(columns, name, both[order])
    columns.record_errors = {int(unusual[i]): why for i, why in other.record_errors.items()}
    columns.counters = dict(Counter(columns.counters) + Counter(other.counters))
    return columns


_PLAIN = (
    *("record", "kind", "outcome", "effect", "start_ns", "end_ns", "trace_hi", "trace_lo"),
    *("span_id", "parent_id", "weight"),
)


def _without_strangers(columns: SpanColumns) -> SpanColumns:
    """Requests of metrics or logs parse as spans without anything that makes a span: not one of theirs
    has an id or a time."""
    is_span = (columns.trace_hi | columns.trace_lo | columns.span_id | columns.end_ns) != 0
    if is_span.all():
        return columns
    has_span = np.bincount(columns.record[is_span], minlength=columns.records_count) > 0
    has_any = np.bincount(columns.record, minlength=columns.records_count) > 0
    strangers = np.flatnonzero(has_any & ~has_span)
    if len(strangers):
        kept = ~np.isin(columns.record, strangers)
        for name in ("service", "instance", "target", *_PLAIN):
            setattr(columns, name, getattr(columns, name)[kept])
        columns.record_errors |= dict.fromkeys(strangers.tolist(), _NO_SPANS)
    return columns
