"""What a client remembers of one scope between requests. A value: admission makes a new one.

Bounded by construction: counts of four priorities over two windows, two token buckets, a number.
"""

import msgspec

from tidegate.client.hashing import position_of

__all__ = ["PRIORITIES", "AdmissionState", "first_state", "seen"]

PRIORITIES = 4
SHARES_WINDOW_MS = 10_000
"""Shares of the priorities are those of this window and the one before."""
_NONE = (0,) * PRIORITIES


class AdmissionState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Made by `first_state`, moved by `admit`."""

    phase: float = 0.0
    """0..1, by hash of the client's id and the scope: where its bucket of probes begins."""
    sequence: int = 0
    """Requests so far: stands in for a key where a request has none."""
    window_ms: int = 0
    """Begin of the present window."""
    counts: tuple[int, ...] = _NONE
    """Requests by priority in the present window."""
    before: tuple[int, ...] = _NONE
    """And in the one before it."""
    retry_tokens: int = 1_000_000
    """Retries that may be sent, in millionths. A client that has just started may send one."""
    probe_tokens: float = 0.0
    probe_ms: int = 0
    """When the bucket was last filled."""
    probe_since_ms: int = -1
    """`since_ms` of the decision whose probes are counted."""

    def count(self, priority: int) -> int:
        """Requests of a priority seen lately."""
        return self.counts[priority] + self.before[priority]


def first_state(client_id: str, scope: str) -> AdmissionState:
    """Before any request."""
    return AdmissionState(phase=position_of(f"{client_id}/{scope}"))


def seen(state: AdmissionState, priority: int, now_ms: int) -> AdmissionState:
    """One more request of this priority."""
    counts, before, window_ms = state.counts, state.before, state.window_ms
    elapsed_ms = now_ms - window_ms
    if not 0 <= elapsed_ms < SHARES_WINDOW_MS:
        # Two windows on, or a clock set back: nothing known is recent.
        before = counts if 0 <= elapsed_ms < 2 * SHARES_WINDOW_MS else _NONE
        counts, window_ms = _NONE, now_ms
    counts = (*counts[:priority], counts[priority] + 1, *counts[priority + 1 :])
    return msgspec.structs.replace(
        state, counts=counts, before=before, window_ms=window_ms, sequence=state.sequence + 1
    )
