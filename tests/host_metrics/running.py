"""Runs MetricsIngest: inside a test, or as a process of its own that can be killed."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping

from tidegate.schemas.topics import Topics
from tidegate.streams.metrics import WorkerMetrics
from tidegate.streams.metrics_ingest import MetricsIngest
from tidegate.streams.worker_settings import WorkerSettings

__all__ = ["child", "running"]


def settings_of(
    config: Mapping[str, str], topics: Topics, delivery_timeout_ms: int = 10_000
) -> WorkerSettings:
    return WorkerSettings(
        kafka=config,
        topics=topics,
        session_timeout_ms=6_000,
        heartbeat_ms=1_000,
        delivery_timeout_ms=delivery_timeout_ms,
    )


@contextlib.contextmanager
def running(
    config: Mapping[str, str], topics: Topics, *, delivery_timeout_ms: int = 10_000
) -> Iterator[WorkerMetrics]:
    """Started, and stopped in good order; what it counts."""
    metrics = WorkerMetrics()
    stop = threading.Event()

    async def live() -> None:
        service = MetricsIngest(settings_of(config, topics, delivery_timeout_ms), metrics)
        await service.start()
        await asyncio.to_thread(stop.wait)
        assert not service.crashed
        await service.stop()

    thread = threading.Thread(target=asyncio.run, args=(live(),))
    thread.start()
    try:
        yield metrics
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


@contextlib.contextmanager
def child(config: Mapping[str, str], topics: Topics) -> Iterator[subprocess.Popen[bytes]]:
    """The same as a process; killed at the end, unless it has ended."""
    command = [sys.executable, "-m", "tests.host_metrics.running"]
    process = subprocess.Popen([*command, config["bootstrap.servers"], topics.prefix])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def main() -> None:
    bootstrap, prefix = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with running({"bootstrap.servers": bootstrap}, Topics(prefix=prefix)):
        signal.pause()


if __name__ == "__main__":
    main()
