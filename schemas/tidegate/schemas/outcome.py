"""Closed sets of numbers that blocks carry: span kinds, outcomes and own effects.

The numbers are wire format (block format 1): never renumber, only append.
"""

from enum import IntEnum

__all__ = ["FAILED_OUTCOMES", "Effect", "Outcome", "SpanKind"]


class SpanKind(IntEnum):
    """OTLP's `Span.SpanKind` (opentelemetry-proto, trace.proto)."""

    UNSPECIFIED = 0
    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


class Outcome(IntEnum):
    """How a request ended, one class per span; the protocol's code decides before the span's status."""

    OK = 0
    CLIENT_ERROR = 1
    CANCELLED = 2
    THROTTLED = 3
    SERVER_ERROR = 4
    TIMEOUT = 5


class Effect(IntEnum):
    """`tidegate.effect` of a span: what a thin client did to the call. Own effects are not evidence."""

    NONE = 0
    SHED = 1
    CUT = 2
    FALLBACK = 3
    PROBE = 4


FAILED_OUTCOMES = frozenset({Outcome.THROTTLED, Outcome.SERVER_ERROR, Outcome.TIMEOUT})
"""Outcomes whose default weight is at least 0.5. Fixed per block format: it decides which of the two
sketches a duration goes to and which spans are offered as exemplars."""
