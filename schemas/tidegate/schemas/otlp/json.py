"""OTLP/JSON requests by protobuf's own JSON parser: hex ids, enums as numbers or names, 64-bit numbers as
text or numbers. Slow (130 us a span); `json_quick` takes what is written as exporters write it."""

import json
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["is_json", "request_from_json"]

_IDS = {"traceId", "trace_id", "spanId", "span_id", "parentSpanId", "parent_span_id"}


def is_json(record: bytes) -> bool:
    """Whether the first byte is `{`: in protobuf's form that would be field 15 of an unknown wire type,
    and no request begins so. White space before it is not looked past: a newline is the tag of field 1,
    and `{` behind it the length of a message of 123 bytes."""
    return record[:1] == b"{"


def request_from_json(record: bytes) -> ExportTraceServiceRequest:
    """Raises ValueError for what is no OTLP/JSON request of traces."""
    try:
        raw = json.loads(record)
        if not isinstance(raw, dict):
            raise ValueError("OTLP/JSON is an object")  # noqa: TRY004 - the bytes are wrong, not a type
        request = ExportTraceServiceRequest()
        json_format.ParseDict(_mended(raw), request, ignore_unknown_fields=True)
    except (json_format.ParseError, RecursionError, UnicodeDecodeError) as problem:
        raise ValueError(f"not OTLP/JSON: {problem}") from None
    if not {"resourceSpans", "resource_spans"} & raw.keys():
        raise ValueError("OTLP/JSON without resourceSpans: metrics or logs on the spans topic?")
    return request


def _mended(value: Any) -> Any:
    """Ids from hex to the base64 that protobuf's parser wants; nulls left out of lists."""
    if isinstance(value, dict):
        return {
            key: _base64(item) if key in _IDS and isinstance(item, str) else _mended(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_mended(item) for item in value if item is not None]
    return value


def _base64(text: str) -> str:
    import base64

    try:
        return base64.b64encode(bytes.fromhex(text)).decode()
    except ValueError:
        return text
