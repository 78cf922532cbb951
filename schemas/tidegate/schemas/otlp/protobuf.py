"""Decoding by protobuf's own parser, one span at a time: obvious, slow, complete.

The oracle of the kernel's tests, and the fallback where numba is missing.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from tidegate.schemas.cells import WEIGHT_ONE
from tidegate.schemas.columns import SpanColumns
from tidegate.schemas.conventions import INSTANCE, SPAN_FIELDS
from tidegate.schemas.otlp.classify import Value, effect_of, outcome_of, target_of, weight_of
from tidegate.schemas.otlp.json import is_json, may_be_json, protobuf_from_any_json
from tidegate.schemas.otlp.messages import parse
from tidegate.schemas.outcome import SpanKind
from tidegate.schemas.scope import NAME_CHARS_MAX, UNKNOWN_SERVICE

__all__ = ["decode_by_protobuf"]

_CALLS = (int(SpanKind.CLIENT), int(SpanKind.PRODUCER))
_WANTED = {name for names in SPAN_FIELDS.values() for name in names}
_MENDED = "\ufffd"
"""What stands for bytes that are no UTF-8."""


class _Names:
    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        return self.numbers.setdefault(name, len(self.numbers))


class _Rows:
    def __init__(self) -> None:
        self.rows: list[tuple[int, ...]] = []
        self.services, self.instances, self.targets = _Names(), _Names(), _Names()
        self.counters: Counter[str] = Counter()
        self.errors: dict[int, str] = {}


def decode_by_protobuf(records: Sequence[bytes]) -> SpanColumns:
    """Columns of a batch of records; one that can't be parsed has an entry in `record_errors`."""
    out = _Rows()
    for number, record in enumerate(records):
        try:
            request = _parse(record)
        except (DecodeError, ValueError) as problem:
            out.errors[number] = str(problem) or "not an ExportTraceServiceRequest"
            continue
        for resource_spans in request.resource_spans:
            cut: Counter[str] = Counter()
            service, instance = _identity(resource_spans.resource.attributes, out.counters, cut)
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    out.counters.update(cut)  # once for every span that has the name
                    _add(out, number, service, instance, span)
    return _columns(out, len(records))


def _parse(record: bytes) -> Any:
    """The request with its text as bytes. Raises DecodeError or ValueError."""
    if is_json(record):
        return parse(protobuf_from_any_json(record))
    try:
        return parse(record)
    except DecodeError:
        if not may_be_json(record):
            raise
        return parse(protobuf_from_any_json(record))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _name(text: str, counters: Counter[str]) -> str:
    """A name as it is kept, with what was done to it counted."""
    if _MENDED in text:
        counters["names_not_utf8"] += 1
    if len(text) > NAME_CHARS_MAX:
        counters["names_cut"] += 1
        return text[:NAME_CHARS_MAX]
    return text


def _identity(
    attributes: Iterable[Any], counters: Counter[str], cut: Counter[str]
) -> tuple[str, str]:
    found = {_text(a.key): str(v) for a in attributes if (v := _value(a.value)) is not None}
    name = found.get("service.name", "")
    namespace = found.get("service.namespace", "")
    if not name:
        counters["unknown_service"] += 1
        name, namespace = UNKNOWN_SERVICE, ""
    service = f"{namespace}/{name}" if namespace else name
    instance = next((found[key] for key in INSTANCE if found.get(key)), "")
    return _name(service, cut), _name(instance, cut)


def _value(value: Any) -> Value | None:
    """The scalar in an AnyValue, if it is one."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return _text(value.string_value)
    if kind in ("int_value", "bool_value", "double_value"):
        found: Value = getattr(value, kind)
        return found
    return None


def _id(data: bytes, length: int, counters: Counter[str], name: str) -> bytes:
    if len(data) == length:
        return data
    if data:
        counters[name] += 1
    return bytes(length)


def _add(out: _Rows, record: int, service: str, instance: str, span: Any) -> None:
    found: dict[str, Value] = {}
    for attribute in span.attributes:
        key = _text(attribute.key)
        if key in _WANTED and (value := _value(attribute.value)) is not None:
            found[key] = value
    fields = {
        field: found[name]
        for field, names in SPAN_FIELDS.items()
        for name in reversed(names)
        if name in found
    }
    exception = ("", "")
    for event in span.events:
        if event.name == b"exception":
            said = {a.key: _text(a.value.string_value) for a in event.attributes}
            exception = (said.get(b"exception.type", ""), said.get(b"exception.message", ""))
    trace = _id(span.trace_id, 16, out.counters, "invalid_trace_ids")
    span_id = _id(span.span_id, 8, out.counters, "invalid_span_ids")
    parent = _id(span.parent_span_id, 8, out.counters, "invalid_parent_ids")
    kind = span.kind if 0 <= span.kind <= 5 else 0
    target = -1
    if kind in _CALLS:
        target = out.targets.number(_name(target_of(fields, _text(span.name)), out.counters))
    out.rows.append(
        (
            record,
            out.services.number(service),
            out.instances.number(instance) if instance else -1,
            kind,
            outcome_of(fields, span.status.code, _text(span.status.message), exception),
            effect_of(fields),
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            int.from_bytes(trace[:8], "big"),
            int.from_bytes(trace[8:], "big"),
            int.from_bytes(span_id, "big"),
            int.from_bytes(parent, "big"),
            target,
            weight_of(_text(span.trace_state)) if span.trace_state else WEIGHT_ONE,
        )
    )


_COLUMNS = (
    *("record", "service", "instance", "kind", "outcome", "effect", "start_ns", "end_ns"),
    *("trace_hi", "trace_lo", "span_id", "parent_id", "target", "weight"),
)
_TYPES = (
    *(np.int32, np.int32, np.int32, np.uint8, np.uint8, np.uint8),
    *(np.uint64, np.uint64, np.uint64, np.uint64, np.uint64, np.uint64),
    *(np.int32, np.int32),
)


def _columns(out: _Rows, records_count: int) -> SpanColumns:
    columns = list(zip(*out.rows, strict=True)) or [()] * len(_TYPES)
    arrays: list[Any] = [
        np.array(column, dtype) for column, dtype in zip(columns, _TYPES, strict=True)
    ]
    named = dict(zip(_COLUMNS, arrays, strict=True))
    return SpanColumns(
        records_count,
        services=list(out.services.numbers),
        instances=list(out.instances.numbers),
        targets=list(out.targets.numbers),
        record_errors=out.errors,
        counters=dict(out.counters),
        **named,
    )
