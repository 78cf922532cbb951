"""A policy's effective content as bytes, as they stand in each partition's log and in snapshots.

Plain data (msgpack, keys sorted, zlib): what a worker needs to decide as the sequencer's worker would,
whatever packs it has itself. Rules under `services` say only what differs, or 1,000 of them were megabytes.
"""

import zlib
from typing import Any

import msgspec

__all__ = ["CONTENT_BYTES_MAX", "decode_content", "encode_content"]

CONTENT_BYTES_MAX = 8 * 1024 * 1024
"""Unpacked; a few bytes of zlib can say gigabytes."""

_encoder = msgspec.msgpack.Encoder(order="deterministic")


def encode_content(raw: dict[str, Any]) -> bytes:
    """Equal data gives equal bytes, in whatever order its keys are."""
    return zlib.compress(_encoder.encode(raw), 9)


def decode_content(data: bytes) -> dict[str, Any]:
    """Raises ValueError, which says why, for bytes that `encode_content` never made."""
    unpacking = zlib.decompressobj()
    try:
        packed = unpacking.decompress(data, CONTENT_BYTES_MAX)
        if not unpacking.eof or unpacking.unused_data:
            raise ValueError(f"is cut, has a tail, or unpacks to over {CONTENT_BYTES_MAX} bytes")
        raw = msgspec.msgpack.decode(packed)
    except (zlib.error, msgspec.DecodeError, RecursionError) as problem:
        raise ValueError(f"is damaged ({problem})") from problem
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise ValueError("holds no mapping of settings")
    return raw
