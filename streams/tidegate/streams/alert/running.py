"""The sender's life: reads, hands on, ends on a signal after what is under way has been given its time."""

import asyncio
import os
import signal
import time
from collections.abc import Mapping

from tidegate.schemas.topics import Topics
from tidegate.streams.alert.dead_letters import DeadLetters
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
    tasks = sending.tasks()
    try:
        await _live(reader, sending, metrics, tasks, stop)
        log.info("alert sender stops", in_flight=sending.in_flight)
        until_s = time.monotonic() + _DRAIN_S
        while sending.in_flight and time.monotonic() < until_s:
            _raise_if_any(tasks)
            await asyncio.sleep(0.05)
    finally:
        dead_letters.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await sending.close()
        await asyncio.to_thread(_leave, reader, sending.floors())


async def _live(
    reader: AlertReader,
    sending: Sending,
    metrics: AlertMetrics,
    tasks: list[asyncio.Task[None]],
    stop: asyncio.Event,
) -> None:
    said, is_held = "", False
    while not stop.is_set():
        news = await asyncio.to_thread(reader.fetch, _FETCH_S)
        for one in news:
            _apply(one, sending, metrics)
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


def _apply(one: Assigned | Revoked | LogRecord, sending: Sending, metrics: AlertMetrics) -> None:
    match one:
        case Assigned():
            log.info("reads a partition", partition=one.partition, offset=one.begin)
            sending.assigned(one.partition, one.begin, is_first=one.is_first)
            metrics.is_assigned = True
        case Revoked():
            sending.revoked(one.partition)
            metrics.is_assigned = bool(sending.floors())
        case _:
            sending.take(one)


def _leave(reader: AlertReader, floors: Mapping[int, int]) -> None:
    for partition, floor in floors.items():
        reader.commit(partition, floor, is_last=True)
    reader.close()


def _raise_if_any(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()


def _on_signal(stop: asyncio.Event, number: int) -> None:
    if stop.is_set():
        os._exit(128 + number)  # asked twice: whoever asks knows why
    stop.set()
