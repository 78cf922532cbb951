"""OTLP's messages as protobuf's own parser reads them, but with text as bytes.

The published classes refuse a whole record for one byte that is no UTF-8, in a log line of some attribute
that nobody asked for. The wire form of `string` and `bytes` is the same, so a copy of the definitions with
all text as bytes takes such a record, and names are mended where they are used.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

__all__ = ["parse"]

_FIELD = descriptor_pb2.FieldDescriptorProto


def _with_bytes(message: descriptor_pb2.DescriptorProto) -> None:
    for field in message.field:
        if field.type == _FIELD.TYPE_STRING:
            field.type = _FIELD.TYPE_BYTES
    for nested in message.nested_type:
        _with_bytes(nested)


def _request_class() -> Any:
    pool = descriptor_pool.DescriptorPool()
    for module in (common_pb2, resource_pb2, trace_pb2, trace_service_pb2):
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        for message in file.message_type:
            _with_bytes(message)
        pool.Add(file)
    name = trace_service_pb2.ExportTraceServiceRequest.DESCRIPTOR.full_name
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


_Request = _request_class()


def parse(record: bytes) -> Any:
    """The request, with bytes wherever the definitions say `string`. Raises protobuf's DecodeError."""
    return _Request.FromString(record)
