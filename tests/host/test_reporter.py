"""The reporter inside a service: what it sends, what it counts, and that it is never in the way."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer

from tests.client.live import until
from tests.host.trees import EVENTS, plant, v2
from tidegate.client.host import HostReporter, SentReadings
from tidegate.schemas.otlp.metrics import decode_metrics
from tidegate.schemas.partitioner import partition_of
from tidegate.schemas.points import Metric, MetricPoint
from tidegate.streams.embedded import EmbeddedBroker

NOWHERE = "127.0.0.1:9"
PARTITIONS = 8


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker({"otlp_metrics": PARTITIONS}) as running:
        yield running


def reporter(config: Any, root: Path, **more: Any) -> HostReporter:
    return HostReporter(
        config, **{"service": "shop/pay", "instance": "pay-1", "root": root, "environ": {}, **more}
    )


def read(bootstrap: str, records_count: int) -> list[tuple[bytes | None, int, list[MetricPoint]]]:
    """(key, partition, points) of the records that are there."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "r", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe(["otlp_metrics"])
    found: list[tuple[bytes | None, int, list[MetricPoint]]] = []

    def is_whole() -> bool:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            batch = decode_metrics([message.value() or b""])
            assert not batch.record_errors
            points = [point for _, point in batch.points]
            found.append((message.key(), message.partition() or 0, points))
        return len(found) >= records_count

    until(is_whole)
    consumer.close()
    return found


def test_readings_reach_kafka_by_the_key_of_their_service(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    plant(tmp_path, v2())
    with reporter(broker.bootstrap, tmp_path, every_s=0.1) as running:
        assert until(lambda: running.stats.delivered >= 3)
    sent = running.stats.delivered
    assert running.stats == SentReadings(delivered=sent, failed=0, empty=0, pending=0)
    records = read(broker.bootstrap, sent)
    assert len(records) == sent
    for key, partition, points in records:
        assert key == b"shop/pay"
        assert partition == partition_of("shop/pay", PARTITIONS)
        assert {(p.service, p.instance) for p in points} == {("shop/pay", "pay-1")}
        assert len(points) == 6
    times = [points[0].time_ms for _, _, points in records]
    assert times == sorted(set(times))


def test_a_reading_shows_what_happened_since_the_one_before(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    now_ms = iter(range(10_000, 90_000, 5_000))
    one = reporter(broker.bootstrap, tmp_path, now_ms=lambda: next(now_ms))
    for count in (3, 5):
        plant(tmp_path, {**v2(), EVENTS: f"high {count}\n"})
        assert one.report()
    one.close()
    records = read(broker.bootstrap, 2)
    found = [
        (p.time_ms, p.value) for *_, ps in records for p in ps if p.metric == Metric.MEMORY_HIGH
    ]
    assert found == [(10_000, 3), (15_000, 5)]


def test_a_host_that_says_nothing_sends_nothing_and_each_note_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = reporter(NOWHERE, tmp_path)
    assert [one.report() for _ in range(3)] == [False] * 3
    assert one.stats == SentReadings(delivered=0, failed=0, empty=3, pending=0)
    one.close()
    texts = [record.getMessage() for record in caplog.records if "wait" not in record.getMessage()]
    assert texts == [
        "host: there is no /proc/self/cgroup: memory.events are not sent",
        "host: nothing of this host can be read: no reading is sent",
    ]


def test_without_kafka_readings_fail_by_and_by_and_the_service_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"bootstrap.servers": NOWHERE, "message.timeout.ms": 200}
    with reporter(config, plant(tmp_path, v2()), every_s=0.1) as running:
        assert until(lambda: running.stats.failed >= 3)
        before_s = time.monotonic()
    assert time.monotonic() - before_s < 8
    assert running.stats.delivered == running.stats.pending == 0
    assert not any(thread.name == "tidegate-host" for thread in threading.enumerate())
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == len(set(texts)) <= 4
    assert any("a reading was not delivered to otlp_metrics" in text for text in texts)


def test_a_full_queue_is_counted_and_waits_for_nobody(tmp_path: Path) -> None:
    config = {"bootstrap.servers": NOWHERE, "queue.buffering.max.messages": 2}
    one = reporter(config, plant(tmp_path, v2()))
    before_s = time.monotonic()
    assert [one.report() for _ in range(4)] == [True, True, False, False]
    assert time.monotonic() - before_s < 2
    assert one.stats == SentReadings(delivered=0, failed=2, empty=0, pending=2)
    one.close()
    assert one.stats == SentReadings(delivered=0, failed=4, empty=0, pending=0)


def test_what_goes_wrong_inside_is_counted_and_told_and_never_raised(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="tidegate.client")
    one = reporter(NOWHERE, plant(tmp_path, v2()), now_ms=lambda: 1 // 0)
    assert not one.report()
    assert not one.report()
    assert one.stats.failed == 2
    assert caplog.text.count("can't be reported: ZeroDivisionError") == 1
    one.close()


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"config": ""}, "config: no brokers"),
        ({"config": {}}, "config: no brokers"),
        ({"config": {"bootstrap.servers": "a:1", "no.such.key": "1"}}, "config: "),
        ({"every_s": 0.0}, "every_s: 0.0 is out of range; give 0.1 to 60"),
        ({"every_s": 61.0}, "every_s: 61.0 is out of range"),
        ({"every_s": float("nan")}, "every_s: nan is out of range"),
        ({"service": ""}, "service: no name"),
        ({"topic_prefix": "a b"}, "prefix 'a b' can't be part of a topic's name"),
    ],
)
def test_wrong_settings_are_told_at_once(tmp_path: Path, more: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        reporter(**{"config": "a:1", "root": tmp_path, **more})


def test_start_and_close_may_be_called_twice(broker: EmbeddedBroker, tmp_path: Path) -> None:
    one = reporter(broker.bootstrap, plant(tmp_path, v2()))
    one.start()
    one.start()
    assert sum(thread.name == "tidegate-host" for thread in threading.enumerate()) == 1
    assert until(lambda: one.stats.pending + one.stats.delivered == 1)
    one.close()
    one.close()
    assert one.stats.delivered == 1


FORKING = """
import os, signal, sys, time
from pathlib import Path
from tidegate.client.host import HostReporter
reporter = HostReporter(sys.argv[1], service="pay", root=Path(sys.argv[2]), every_s=0.1)
reporter.start()
while not reporter.stats.delivered: time.sleep(0.01)
child = os.fork()
if child == 0:
    signal.alarm(50)
    reporter.close()          # the parent's: nothing to do
    reporter.start()
    while not reporter.stats.delivered: time.sleep(0.01)
    reporter.close()
    sys.exit(4)
_, status = os.waitpid(child, 0)
reporter.close()
print(os.waitstatus_to_exitcode(status), reporter.stats.failed)
"""


def test_after_a_fork_the_other_process_starts_its_own(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKING, broker.bootstrap, str(plant(tmp_path, v2()))],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "4 0\n", "")
