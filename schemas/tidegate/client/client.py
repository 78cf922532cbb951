"""The thin client: follows the decisions topic in a thread, answers from memory.

It never raises into the caller's request because Kafka is away, and never blocks it: what isn't known,
passes. Make it after a fork: threads and connections don't survive one.
"""

import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaException

from tidegate.client.decider import Decider, DeciderSettings, wall_ms
from tidegate.client.follower import Follower
from tidegate.client.lease import FallbackLevel
from tidegate.client.store import SCOPES_MAX
from tidegate.schemas.topics import Topics

__all__ = ["Client"]


class Client(Decider):
    """Follows the decisions topic. Use it as a context manager, or call `close`."""

    def __init__(
        self,
        config: Mapping[str, Any] | str,
        *,
        topic_prefix: str = "",
        caller: str = "",
        client_id: str = "",
        fallback_level: FallbackLevel = "closed",
        wanted: Callable[[str], bool] | None = None,
        scopes_max: int = SCOPES_MAX,
        now_ms: Callable[[], int] = wall_ms,
    ) -> None:
        """config: librdkafka's settings (see `load_kafka_config`), or just the brokers.

        The rest is described in `DeciderSettings`. Raises ValueError for settings that are wrong; a
        broker that doesn't answer is no error.
        """
        super().__init__(
            DeciderSettings(
                caller=caller,
                client_id=client_id,
                fallback_level=fallback_level,
                wanted=wanted,
                scopes_max=scopes_max,
            ),
            now_ms=now_ms,
        )
        settings = {"bootstrap.servers": config} if isinstance(config, str) else dict(config)
        if not settings.get("bootstrap.servers"):
            raise ValueError('config: no brokers; give "HOST:PORT" or {"bootstrap.servers": ...}')
        try:
            self._follower = Follower(settings, Topics(prefix=topic_prefix).decisions, self)
        except KafkaException as problem:
            raise ValueError(f"config: {problem.args[0].str()}") from problem
        self._thread = threading.Thread(
            target=self._follower.run, name="tidegate-client", daemon=True
        )
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether the topic has been read to its end at least once."""
        return self._follower.is_ready.is_set()

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Waits until everything that was there at the start is known. False after `timeout` s: calls
        pass meanwhile, and the client goes on trying."""
        return self._follower.is_ready.wait(timeout)

    def close(self) -> None:
        """Ends the thread, within a few seconds even without Kafka. What is known stays readable."""
        self._follower.stop()
        if self._thread is not threading.current_thread():  # a listener may close it
            self._thread.join(timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
