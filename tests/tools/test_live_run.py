"""A live run on the broker inside the test, recomputed from its log: what was published follows from it."""

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, Producer

from tests.tools import recorded
from tests.tools.test_replay import replay
from tidegate.schemas.decision import decode_decision, encode_decision
from tidegate.schemas.topics import Topics
from tidegate.streams.cli import main
from tidegate.streams.demo.worker import WorkerProcess
from tidegate.streams.embedded import EmbeddedBroker

TOPICS = Topics()
PARTITIONS = 2
SECONDS = 14.0
FAULT = (4.0, 10.0)
FIRST_DECISION_S = 150.0


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    """A broker that has seen a worker decide about a fault, and is left alone since."""
    specs = TOPICS.specs(partitions_count=PARTITIONS)
    with EmbeddedBroker({spec.name: spec.partitions_count for spec in specs}) as broker:
        with WorkerProcess(["run", "--brokers", broker.bootstrap]) as worker:
            _serve(broker.bootstrap, worker)
        yield broker.bootstrap


def _serve(bootstrap: str, worker: WorkerProcess) -> None:
    """Sends the recording as if it happened now, over and over until a decision about it comes."""
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 2})
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test", "log_level": 2})
    consumer.subscribe([TOPICS.decisions])
    made = recorded.requests(SECONDS, fault=FAULT)
    until_s = time.monotonic() + FIRST_DECISION_S
    is_decided = False
    while not is_decided:
        worker.check()
        assert time.monotonic() < until_s, worker.last_words()
        begin_ms = time.time_ns() // 1_000_000
        for number, request in enumerate(made):
            shift_ns = (begin_ms - recorded.T_MS) * 1_000_000
            time.sleep(max(0.0, (begin_ms + number * recorded.RECORD_MS) / 1000 - time.time()))
            shifted = type(request).FromString(request.SerializeToString())
            for resource in shifted.resource_spans:
                for span in resource.scope_spans[0].spans:
                    span.start_time_unix_nano += shift_ns
                    span.end_time_unix_nano += shift_ns
            producer.produce(TOPICS.otlp_spans, shifted.SerializeToString())
            producer.poll(0)
            for message in consumer.consume(100, timeout=0):
                is_decided |= b'"level":"open"' in (message.value() or b"")
    producer.flush(10)
    consumer.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_was_published_equals_what_the_log_gives(brokers: str) -> None:
    status, differences, error = replay("--internal", "--brokers", brokers, "--compare")
    assert (status, differences) == (0, b""), error
    compared = int(error.split()[0].replace(",", ""))
    assert compared > 6


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_dump_says_the_same_as_the_broker(brokers: str, tmp_path: Path) -> None:
    dump = str(tmp_path / "run.dump")
    assert main(["dump", "--brokers", brokers, "--out", dump]) == 0
    status, differences, error = replay("--internal", dump, "--compare")
    assert (status, differences) == (0, b""), error
    from_dump = replay("--internal", dump)
    assert from_dump == replay("--internal", "--brokers", brokers)
    decisions = [decode_decision(line) for line in from_dump[1].splitlines()]
    assert decisions == sorted(decisions, key=lambda d: (d.boundary, d.scope))
    assert {"open", "forced_open"} & {d.level for d in decisions if d.scope == "service:pay"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_another_policy_shows_as_differences(brokers: str) -> None:
    status, differences, _ = replay(
        "--internal", "--brokers", brokers, "--compare", "--policy", "reference"
    )
    assert status == 1
    assert differences


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_forged_decision_is_found(brokers: str) -> None:
    _, out, _ = replay("--internal", "--brokers", brokers)
    forged = decode_decision(out.splitlines()[0])
    value = encode_decision(msgspec.structs.replace(forged, reason="because I say so"))
    producer = Producer({"bootstrap.servers": brokers, "log_level": 2})
    producer.produce(TOPICS.decisions, value, key=forged.scope)
    assert producer.flush(10) == 0
    status, differences, _ = replay("--internal", "--brokers", brokers, "--compare")
    assert status == 1
    assert b"because I say so" in differences
