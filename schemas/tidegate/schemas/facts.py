"""What pairing learns from sampled traces: who answers a caller's target, and requests that go round.

A call's span says whom it is for (its target), not who answers. Both spans are seen where a trace is
sampled for pairing; what follows is a *fact* about (caller, target), and travels in records of partials.
"""

import msgspec

__all__ = ["Fact", "Loop"]


class Fact(msgspec.Struct, frozen=True, array_like=True):
    """(caller, target) is answered by callees: what was seen since the fact before, and of whom lately."""

    caller: str
    target: str
    callees: list[str]
    """Everyone who answered in the last 10 min, sorted. Several: a mesh or a gateway; the target stays a
    virtual node."""
    seen_ms: int
    """Event time of the newest pair: the end of the callee's span, in ms since the Unix epoch."""
    pairs: int
    """Pairs since the fact before; one trace in 32 is looked at."""
    outlived: int = 0
    """Of these, callees that went on after their caller's span had ended: work for nobody."""
    outlived_ms: int = 0
    """By how much, together."""


class Loop(msgspec.Struct, frozen=True, array_like=True):
    """One request that came back to a service that it had come through."""

    path: list[str]
    """Services in the order of the calls; the first one is the last one too."""
    trace_id: str
    """32 hex characters."""
    seen_ms: int
    """Event time: the end of the span that closes the circle."""
