"""For tests of services: a client without Kafka, fed by hand with real decisions."""

from collections.abc import Callable

from tidegate.client.decider import Decider, DeciderSettings
from tidegate.client.lease import LEASE_MS, FallbackLevel
from tidegate.client.store import SCOPES_MAX
from tidegate.schemas.decision import (
    Actions,
    Decision,
    Lease,
    LevelName,
    Signals,
    encode_decision,
    encode_lease,
)
from tidegate.schemas.scope import lease_key

__all__ = ["FeedClient", "decision"]


def decision(
    scope: str,
    level: LevelName,
    *,
    boundary: int = 1,
    enforce: bool = True,
    partition: int = 0,
    **actions: object,
) -> Decision:
    """A decision with unremarkable signals; `actions` are the fields of `Actions`."""
    defaults: dict[str, object] = {"admit_ratio": 1.0, "retry_ratio_max": 0.1}
    return Decision(
        scope=scope,
        level=level,
        score=1.0 if level == "closed" else 0.3,
        mode="enforce" if enforce else "observe",
        actions=Actions(**{**defaults, **actions}),  # type: ignore[arg-type]  # checked by msgspec
        reason=f"{scope} is {level}, a test says so",
        signals=Signals(
            requests=100,
            window_s=5.0,
            error_ratio=0.0,
            own_error_ratio=0.0,
            p50_ms=10.0,
            p95_ms=20.0,
            self_p95_ms=20.0,
            target_ms=None,
            qps=20.0,
            shed=0,
            evidence="none",
            evidence_since_ms=None,
        ),
        window_start_ms=boundary * 500 - 5_000,
        window_end_ms=boundary * 500,
        since_ms=boundary * 500,
        boundary=boundary,
        partition=partition,
        policy="test@0",
        evidence_age_ms=0,
    )


class FeedClient(Decider):
    """`publish` a decision, and `admit` and `decide` answer by it. The clock is yours."""

    def __init__(
        self,
        *,
        now_ms: Callable[[], int],
        client_id: str = "test",
        caller: str = "",
        fallback_level: FallbackLevel = "closed",
        wanted: Callable[[str], bool] | None = None,
        scopes_max: int = SCOPES_MAX,
    ) -> None:
        """As `Client`, without Kafka."""
        super().__init__(
            DeciderSettings(
                client_id=client_id,
                caller=caller,
                fallback_level=fallback_level,
                wanted=wanted,
                scopes_max=scopes_max,
            ),
            now_ms=now_ms,
        )

    def publish(
        self, published: Decision, *, kafka_ms: int | None = None, is_live: bool = True
    ) -> None:
        """As if read from Kafka, right now unless `kafka_ms` says otherwise."""
        self._feed(published.scope.encode(), encode_decision(published), kafka_ms, is_live)

    def lease(
        self,
        partition: int = 0,
        *,
        boundary: int,
        lease_ms: int = LEASE_MS,
        kafka_ms: int | None = None,
        is_live: bool = True,
    ) -> None:
        """A sign of life of the partition's worker."""
        lease = Lease(
            partition=partition, boundary=boundary, window_end_ms=boundary * 500, lease_ms=lease_ms
        )
        self._feed(lease_key(partition).encode(), encode_lease(lease), kafka_ms, is_live)

    def end(self, scope: str) -> None:
        """A tombstone."""
        self._feed(scope.encode(), None, None, True)

    def _feed(self, key: bytes, value: bytes | None, kafka_ms: int | None, is_live: bool) -> None:
        at = self._now_ms() if kafka_ms is None else kafka_ms
        self.apply(key, value, kafka_ms=at, is_live=is_live)
