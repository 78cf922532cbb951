"""The client against the broker inside this process: catch-up, changes, no Kafka, a missing topic."""

import logging
import threading
import time
from collections.abc import Iterator

import pytest

from tests.client.live import SCOPE, lease, now_boundary, publish, until
from tidegate.client import Client
from tidegate.client.testing import decision
from tidegate.schemas.decision import Decision, Lease
from tidegate.schemas.topics import Topics
from tidegate.streams.embedded import EmbeddedBroker

TOPIC = Topics().decisions


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker({TOPIC: 3}) as running:
        yield running


def send(
    broker: EmbeddedBroker, *records: Decision | Lease | str, kafka_ms: int | None = None
) -> None:
    publish({"bootstrap.servers": broker.bootstrap}, TOPIC, *records, kafka_ms=kafka_ms)


def opened(boundary: int, scope: str = SCOPE) -> Decision:
    return decision(scope, "open", boundary=boundary, admit_ratio=0.0)


def test_a_client_is_ready_when_it_has_caught_up_and_hears_changes(broker: EmbeddedBroker) -> None:
    boundary = now_boundary()
    many = [decision(f"service:s{i}", "closed", boundary=boundary) for i in range(300)]
    send(broker, *many, opened(boundary), lease())
    with Client(broker.bootstrap) as client:
        assert client.wait_ready(15)
        assert client.stats()["scopes"] == 301
        assert not client.admit(SCOPE, trace_id="a").passes
        changes: list[str] = []
        client.on_change(lambda scope, _: changes.append(scope))
        send(broker, decision(SCOPE, "closed", boundary=boundary + 1))
        assert until(lambda: client.admit(SCOPE, trace_id="a").passes)
        send(broker, SCOPE)
        assert until(lambda: client.decide(SCOPE).decision is None)
        assert changes == [SCOPE, SCOPE]


def test_all_partitions_are_read_before_the_client_is_ready(broker: EmbeddedBroker) -> None:
    boundary = now_boundary()
    send(broker, *(opened(boundary, f"service:s{i}") for i in range(30)))
    with Client(broker.bootstrap) as client:
        assert client.wait_ready(15)
        assert all(not client.admit(f"s{i}", trace_id="a").passes for i in range(30))


def test_an_empty_topic_is_caught_up_at_once(broker: EmbeddedBroker) -> None:
    with Client(broker.bootstrap) as client:
        assert client.wait_ready(15)
        assert client.stats()["scopes"] == 0


def test_a_lease_that_was_over_before_the_client_came_is_told_and_not_obeyed(
    broker: EmbeddedBroker, caplog: pytest.LogCaptureFixture
) -> None:
    old = now_boundary() - 240
    send(broker, opened(old), lease(boundary=old), kafka_ms=old * 500)
    with Client(broker.bootstrap) as client:
        assert client.wait_ready(15)
        assert client.decide(SCOPE).status == "shown"
        assert client.admit(SCOPE, trace_id="a").passes
        assert until(lambda: "nobody evaluates partition 0" in caplog.text)


def test_a_service_keeps_only_what_concerns_it(broker: EmbeddedBroker) -> None:
    boundary = now_boundary()
    send(broker, *(decision(f"service:s{i}", "closed", boundary=boundary) for i in range(50)))
    with Client(broker.bootstrap, wanted=lambda scope: scope == "service:s7") as client:
        assert client.wait_ready(15)
        assert client.stats()["scopes"] == 1


def test_a_listener_that_fails_and_garbage_end_nothing(broker: EmbeddedBroker) -> None:
    with Client(broker.bootstrap) as client:
        client.on_change(lambda scope, said: 1 / 0)  # type: ignore[arg-type]  # it fails on purpose
        assert client.wait_ready(15)
        boundary = now_boundary()
        send(broker, opened(boundary))
        assert until(lambda: client.stats()["listener_failures"] == 1)
        send(broker, decision(SCOPE, "closed", boundary=boundary + 1))
        assert until(lambda: client.admit(SCOPE, trace_id="a").passes)


def test_without_kafka_calls_pass_at_once_and_it_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="tidegate.client")
    client = Client({"bootstrap.servers": "127.0.0.1:9", "reconnect.backoff.max.ms": 100})
    try:
        slowest_s = 0.0
        ends_s = time.monotonic() + 4.0
        while time.monotonic() < ends_s:
            before_s = time.perf_counter()
            assert client.admit(SCOPE, trace_id="a").passes
            assert client.decide("payments").level == "closed"
            slowest_s = max(slowest_s, time.perf_counter() - before_s)
            time.sleep(0.001)
        assert not client.wait_ready(0.01)
        assert slowest_s < 0.2  # a broker takes seconds; this bounds a busy machine's scheduling
        texts = [record.getMessage() for record in caplog.records]
        assert texts
        assert len(texts) == len(set(texts)) <= 2
    finally:
        before_s = time.monotonic()
        client.close()
        assert time.monotonic() - before_s < 6


def test_close_ends_the_thread_and_what_is_known_stays_readable(broker: EmbeddedBroker) -> None:
    send(broker, opened(now_boundary()))
    client = Client(broker.bootstrap, client_id="closing")
    assert client.wait_ready(15)
    before_s = time.monotonic()
    client.close()
    client.close()
    assert time.monotonic() - before_s < 3
    assert not any(thread.name == "tidegate-client" for thread in threading.enumerate())
    assert not client.admit(SCOPE, trace_id="a").passes


def test_a_listener_may_close_the_client(broker: EmbeddedBroker) -> None:
    with Client(broker.bootstrap) as client:
        client.on_change(lambda scope, said: client.close())
        assert client.wait_ready(15)
        send(broker, opened(now_boundary()))
        assert until(lambda: not any(t.name == "tidegate-client" for t in threading.enumerate()))
