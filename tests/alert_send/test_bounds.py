"""The sender inside the test, with small limits: what waits is bounded, and a signal does not wait for ever."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Producer

from tests.alert_send.alerts import alert
from tests.alert_send.receiver import Receiver
from tests.streams.live import until
from tidegate.schemas.alert import encode_alert
from tidegate.schemas.topics import Topics
from tidegate.streams.alert import reading, running
from tidegate.streams.alert.metrics import AlertMetrics
from tidegate.streams.alert.settings import load_channels
from tidegate.streams.embedded import EmbeddedBroker

TOPICS = Topics()
EVENTS = 60


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker({TOPICS.alerts: 1, TOPICS.dlq: 1}) as started:
        yield started


def send(
    broker: EmbeddedBroker, receiver: Receiver, play: Callable[[AlertMetrics], None]
) -> AlertMetrics:
    """Runs a sender while `play` acts in another thread; then a signal ends it."""
    text = f"""\
tiers: {{P1: [hook], P2: [hook]}}
channels:
  hook: {{type: webhook, url: "{receiver.url}", timeout_s: 60}}
"""
    setup = load_channels(text, where="c.yaml", environ={})
    metrics = AlertMetrics(("hook",))
    problems: list[BaseException] = []

    def act() -> None:
        try:
            until(lambda: metrics.is_assigned, what="a partition")
            play(metrics)
        except BaseException as problem:  # noqa: BLE001 - raised again in the test's own thread
            problems.append(problem)
        os.kill(os.getpid(), signal.SIGTERM)

    acting = threading.Thread(target=act)
    acting.start()
    config = {"bootstrap.servers": broker.bootstrap}
    asyncio.run(running.run_sender(setup, config, TOPICS, metrics))
    acting.join()
    assert not problems, problems[0]
    return metrics


def produce(broker: EmbeddedBroker, count: int) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 2})
    for i in range(count):
        producer.produce(TOPICS.alerts, encode_alert(alert(incident=f"{i:016x}")))
    assert producer.flush(10) == 0


def value(metrics: AlertMetrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"tidegate_alert_{name}", labels) or 0.0


def test_reading_stops_while_too_much_waits_and_goes_on_afterwards(
    broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "IN_FLIGHT_MAX", 5)
    monkeypatch.setattr(reading, "_BATCH_RECORDS_MAX", 2)
    read_while_hung = []
    with Receiver() as receiver:
        receiver.is_serving.clear()

        def play(metrics: AlertMetrics) -> None:
            produce(broker, EVENTS)
            until(lambda: value(metrics, "records_total") >= 5, what="some read")
            time.sleep(1.5)  # six rounds in which it could read on
            read_while_hung.append(value(metrics, "records_total"))
            receiver.is_serving.set()
            until(lambda: value(metrics, "sent_total", channel="hook") == EVENTS, what="all sent")

        metrics = send(broker, receiver, play)
        numbers = [int(got.headers["Idempotency-Key"][:16], 16) for got in receiver.got]
    assert 5 <= read_while_hung[0] <= 6
    assert numbers == list(range(EVENTS))
    assert value(metrics, "waiting", channel="hook") == 0


def test_a_signal_waits_for_what_is_under_way_but_not_for_ever(
    broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_DRAIN_S", 1.0)
    ended_s = []
    with Receiver() as receiver:
        receiver.is_serving.clear()

        def play(_: AlertMetrics) -> None:
            produce(broker, 2)
            until(lambda: receiver.got, what="a request")
            ended_s.append(time.monotonic())

        metrics = send(broker, receiver, play)
        assert 1.0 <= time.monotonic() - ended_s[0] < 20
        assert value(metrics, "sent_total", channel="hook") == 0
        receiver.is_serving.set()

        def wait(metrics: AlertMetrics) -> None:
            until(lambda: value(metrics, "sent_total", channel="hook") == 2, what="both sent")

        send(broker, receiver, wait)
        keys = [got.headers["Idempotency-Key"] for got in receiver.got]
    assert keys == [f"{0:016x}-1", f"{0:016x}-1", f"{1:016x}-1"]
