"""The sender's life: reads, hands on, ends on a signal after what is under way has been given its time."""

import asyncio
import os
import signal
import time
from collections.abc import Mapping

from tidegate.schemas.topics import Topics
from tidegate.streams.alert.dead_letters import DeadLetters
from tidegate.streams.alert.graph_following import GraphFollower
from tidegate.streams.alert.metrics import AlertMetrics
from tidegate.streams.alert.reading import AlertReader, Assigned, Revoked
from tidegate.streams.alert.sending import IN_FLIGHT_MAX, Sending
from tidegate.streams.alert.settings import Setup
from tidegate.streams.kafka_log import LogRecord
from tidegate.streams.logs import get_logger

__all__ = ["run_sender"]

_FETCH_S = 0.25
_DRAIN_S = 15.0
"""What is under way when a signal comes may take so long; the rest is sent again after the next start."""
_KEEP_S = 5.0
"""So long for a note to be kept; then what it is about is sent without: people come first."""

log = get_logger("alert")


async def run_sender(
    setup: Setup, config: Mapping[str, str], topics: Topics, metrics: AlertMetrics
) -> None:
    """Until SIGTERM or SIGINT. Raises Failure where Kafka refuses for good."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop, number)
    reader = AlertReader(config, topics)
    dead_letters = DeadLetters(config, topics)
    sending = Sending(setup, dead_letters, metrics, commit=reader.commit)
    graph = GraphFollower(config, topics)
    tasks = sending.tasks()
    try:
        await _live(reader, sending, graph, metrics, tasks, stop)
        log.info("alert sender stops", in_flight=sending.in_flight)
        until_s = time.monotonic() + _DRAIN_S
        # What waits for its cause is the next sender's.
        while sending.under_way and time.monotonic() < until_s:
            _raise_if_any(tasks)
            await asyncio.sleep(0.05)
    finally:
        dead_letters.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await sending.close()
        await asyncio.to_thread(graph.close)
        await asyncio.to_thread(_leave, reader, sending.floors())


async def _live(
    reader: AlertReader,
    sending: Sending,
    graph: GraphFollower,
    metrics: AlertMetrics,
    tasks: list[asyncio.Task[None]],
    stop: asyncio.Event,
) -> None:
    said, is_held = "", False
    keeper = _Keeper(reader)
    while not stop.is_set():
        news = await asyncio.to_thread(reader.fetch, _FETCH_S)
        for one in news:
            _apply(one, sending, metrics)
        causes = graph.causes(time.time_ns() // 1_000_000)
        sending.decide(causes, is_graph_read=graph.is_read)
        if not sending.has_decided or await keeper.keep(sending.notes()):
            sending.release()
        sending.settle()
        metrics.beat()
        _raise_if_any(tasks)
        if is_held != (sending.in_flight >= IN_FLIGHT_MAX) or (is_held and news):
            is_held = sending.in_flight >= IN_FLIGHT_MAX
            reader.hold(is_held=is_held)
        if reader.problem != said:
            said = reader.problem
            if said:
                log.warning("Kafka complains; goes on trying", reason=said)


class _Keeper:
    """Has notes kept before what they are about is sent."""

    def __init__(self, reader: AlertReader) -> None:
        self._reader = reader
        self._under_way: asyncio.Task[bool] | None = None
        self._failing_since_s: float | None = None

    async def keep(self, notes: list[tuple[int, int, str]]) -> bool:
        """Whether to go on: the notes are kept, or it took too long."""
        if self._failing_since_s is None:
            self._failing_since_s = time.monotonic()
        if self._under_way is None:
            self._under_way = asyncio.create_task(asyncio.to_thread(self._commit, notes))
        else:
            notes = []  # of those under way it isn't known whether they hold these
        await asyncio.wait((self._under_way,), timeout=_KEEP_S)
        if self._under_way.done():
            is_kept, self._under_way = self._under_way.result() and bool(notes), None
            if is_kept:
                self._failing_since_s = None
                return True
        if time.monotonic() - self._failing_since_s < _KEEP_S:
            return False
        log.warning("decisions are not kept; sends without")
        self._failing_since_s = None
        return True

    def _commit(self, notes: list[tuple[int, int, str]]) -> bool:
        return all(self._reader.commit(*one, is_last=True) for one in notes)


def _apply(one: Assigned | Revoked | LogRecord, sending: Sending, metrics: AlertMetrics) -> None:
    match one:
        case Assigned():
            log.info("reads a partition", partition=one.partition, offset=one.begin)
            sending.assigned(one)
            metrics.is_assigned = True
        case Revoked():
            sending.revoked(one.partition)
            metrics.is_assigned = bool(sending.floors())
        case _:
            sending.take(one)


def _leave(reader: AlertReader, floors: list[tuple[int, int, str]]) -> None:
    for one in floors:
        reader.commit(*one, is_last=True)
    reader.close()


def _raise_if_any(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()


def _on_signal(stop: asyncio.Event, number: int) -> None:
    if stop.is_set():
        os._exit(128 + number)  # asked twice: whoever asks knows why
    stop.set()
