"""Which decoder runs: the kernel where numba is there, else protobuf's own parser."""

from collections.abc import Sequence

from tidegate.schemas.columns import SpanColumns
from tidegate.schemas.otlp.protobuf import decode_by_protobuf

__all__ = ["decode"]


def decode(records: Sequence[bytes]) -> SpanColumns:
    """Columns of a batch of Kafka records (`ExportTraceServiceRequest`, protobuf or JSON)."""
    return decode_by_protobuf(records)
