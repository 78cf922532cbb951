"""What one worker is told at its start. Checked as a whole before anything connects."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from tidegate.schemas.topics import Topics
from tidegate.streams.errors import UsageError

if TYPE_CHECKING:
    from tidegate.rules.policy import Policy

__all__ = ["EVALUATE", "GRAPH", "INGEST", "ROLES", "WorkerSettings", "check_timing"]

INGEST = "ingest"
EVALUATE = "evaluate"
GRAPH = "graph"
ROLES = (INGEST, EVALUATE, GRAPH)
REBALANCE_MS = 5_000
"""What a takeover takes beside the session timeout: rebalance, snapshot, re-reading the window."""


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Defaults are those of `tidegate run`."""

    kafka: Mapping[str, str]
    """librdkafka-style settings of the connection; holds secrets, never logged."""
    topics: Topics = msgspec.field(default_factory=Topics)
    roles: frozenset[str] = frozenset(ROLES)
    data_dir: str = ""
    """Where Faust keeps its (empty) folder; a temporary one where empty."""
    session_timeout_ms: int = 10_000
    """A worker unheard for so long has its partitions given to others."""
    heartbeat_ms: int = 3_000
    delivery_timeout_ms: int = 120_000
    """After this, a send counts as failed and the stage begins again from what was committed."""
    held_cells_max: int = 3_000_000
    """Cells that ingest holds undelivered before it stops reading: about 30 bytes each."""
    metrics_host: str = "0.0.0.0"  # noqa: S104 - Prometheus scrapes from elsewhere
    metrics_port: int = 0
    """0: none."""


def check_timing(settings: WorkerSettings, policy: "Policy") -> None:
    """Raises UsageError for a session timeout that contradicts the policy's times."""
    takeover_ms = settings.session_timeout_ms + REBALANCE_MS
    lease_ms, wait_ms = policy.timing.lease_ms, policy.source_wait_ms
    if 2 * takeover_ms > lease_ms:
        raise UsageError(
            f"--session-timeout-s {settings.session_timeout_ms / 1000:g}: a takeover would take up to "
            f"{takeover_ms / 1000:g} s, and a lease ({policy.label}: timing.lease_ms {lease_ms}) must "
            f"last twice that; give at most {(lease_ms // 2 - REBALANCE_MS) / 1000:g}"
        )
    if takeover_ms > wait_ms:
        raise UsageError(
            f"--session-timeout-s {settings.session_timeout_ms / 1000:g}: a takeover would take up to "
            f"{takeover_ms / 1000:g} s, and evaluate leaves a source out after {wait_ms / 1000:g} s "
            f"({policy.label}: timing.source_wait_ms); give at most {(wait_ms - REBALANCE_MS) / 1000:g}"
        )
    if settings.heartbeat_ms * 2 > settings.session_timeout_ms:
        raise UsageError(
            f"--session-timeout-s {settings.session_timeout_ms / 1000:g}: is less than two heartbeats "
            f"({settings.heartbeat_ms} ms each); give more"
        )
