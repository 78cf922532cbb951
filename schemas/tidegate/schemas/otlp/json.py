"""OTLP/JSON requests: hex ids, enums as numbers or names, 64-bit numbers as text or numbers, in camelCase
or snake_case. Turned into protobuf's form, so that there is one reader of what they mean.

What is odd in a span (an id that is no hex, a time that is no number) is emptied or left out, as the same
span in protobuf's form would be mended; what is no request at all is refused.
"""

import base64
import json
import math
from collections.abc import Callable
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["is_json", "may_be_json", "protobuf_from_any_json"]

_UINT64 = 1 << 64
_NO_ID = base64.b64encode(b"?").decode()
"""One byte: no id has that length, so it is counted as an invalid one."""


def is_json(record: bytes) -> bool:
    """Whether the first byte is `{`: in protobuf's form that would be field 15 of an unknown wire type,
    and no request begins so."""
    return record[:1] == b"{"


def may_be_json(record: bytes) -> bool:
    """Whether `{` is behind white space. Ask only what protobuf's parser refused: a newline is also the
    tag of field 1, and `{` behind it the length of a message of 123 bytes."""
    return record[:64].lstrip(b" \t\r\n")[:1] == b"{"


def protobuf_from_any_json(record: bytes) -> bytes:
    """Raises ValueError for what is no OTLP/JSON request of traces."""
    try:
        raw = json.loads(record.decode("utf-8", "replace"))
        if not isinstance(raw, dict):
            raise ValueError("OTLP/JSON is an object")  # noqa: TRY004 - the bytes are wrong, not a type
        request = ExportTraceServiceRequest()
        json_format.ParseDict(_mended(raw), request, ignore_unknown_fields=True)
    except (json_format.ParseError, RecursionError, OverflowError) as problem:
        raise ValueError(f"not OTLP/JSON: {problem}") from None
    if not {"resourceSpans", "resource_spans"} & raw.keys():
        raise ValueError("OTLP/JSON without resourceSpans: metrics or logs on the spans topic?")
    serialized: bytes = request.SerializeToString()
    return serialized


def _mended(value: Any) -> Any:
    """Ids from hex to the base64 that protobuf's parser wants; nulls left out of lists."""
    if isinstance(value, dict):
        return {
            key: _KINDS[key](item) if key in _KINDS else _mended(item)
            for key, item in value.items()
            if item is not None
        }
    if isinstance(value, list):
        return [_mended(item) for item in value if item is not None]
    if isinstance(value, str):
        return _without_surrogates(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _without_surrogates(text: str) -> str:
    """JSON may escape half a character; protobuf's text may not hold one."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _id(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64encode(bytes.fromhex(value)).decode()
    except ValueError:
        return _NO_ID


def _time(value: Any) -> Any:
    """Nanoseconds as protobuf keeps them; what is beyond 64 bits or no number counts as none."""
    try:
        if isinstance(value, float):
            return int(value) % _UINT64 if math.isfinite(value) else 0
        number = int(value)
    except (TypeError, ValueError):
        return 0
    return number % _UINT64 if -_UINT64 < number < _UINT64 else 0


_KINDS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(
        ("traceId", "trace_id", "spanId", "span_id", "parentSpanId", "parent_span_id"), _id
    ),
    **dict.fromkeys(
        (
            "startTimeUnixNano",
            "start_time_unix_nano",
            "endTimeUnixNano",
            "end_time_unix_nano",
            "timeUnixNano",
            "time_unix_nano",
        ),
        _time,
    ),
}
