"""Where a request lies in 0..1: the stable hash by which clients of any language shed alike.

SHA-256, because every language's standard library has it; its first 53 bits, because a double holds
them exactly. Conformance vectors: `tidegate/schemas/vectors/position.json`. About 0.7 µs a key.
"""

import hashlib

__all__ = ["key_of", "position_of", "position_of_number"]

_BITS = 53
_ONE = 1 << _BITS
_GOLDEN = 0x9E3779B97F4A7C15
_MASK_64 = (1 << 64) - 1


def position_of(key: str | bytes) -> float:
    """First 53 bits of SHA-256 of the key's UTF-8 bytes, divided by 2^53: 0 <= position < 1.

    A request passes at ratio r where its position is below r, so what passes at 0.3 passes at 0.5.
    """
    # A lone surrogate (a header decoded leniently) must not raise into the caller's request.
    data = key.encode(errors="replace") if isinstance(key, str) else key
    return (int.from_bytes(hashlib.sha256(data).digest()[:8], "big") >> (64 - _BITS)) / _ONE


def position_of_number(sequence: int) -> float:
    """A position for the n-th request without any key: multiples of the golden ratio's fraction, which
    fill 0..1 evenly (Knuth, TAOCP 3, 6.4)."""
    return (((sequence * _GOLDEN) & _MASK_64) >> (64 - _BITS)) / _ONE


def key_of(*, session: str | bytes = "", trace_id: str | bytes | int = "") -> str | bytes:
    """What is hashed: the session as it is; without one the trace id as 32 lower-case hex characters,
    also where it is given as OpenTelemetry's int or as 16 bytes. Empty without both (an all-zero
    trace id is invalid by W3C Trace Context, so it counts as none)."""
    if session:
        return session
    if isinstance(trace_id, int):
        return f"{trace_id:032x}" if trace_id > 0 else ""
    if isinstance(trace_id, bytes):
        return trace_id.hex()
    return trace_id.lower()
