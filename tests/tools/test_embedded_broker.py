"""The broker inside the process, with both Kafka clients and from another process."""

import asyncio
import subprocess
import sys
import time

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import Consumer, Message, Producer

from tidegate.streams.embedded import EmbeddedBroker

QUIET = {"log_level": 2}


def consume(bootstrap: str, topic: str, count: int, group: str = "g") -> list[Message]:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest"} | QUIET
    )
    consumer.subscribe([topic])
    found: list[Message] = []
    until_s = time.monotonic() + 20
    while len(found) < count and time.monotonic() < until_s:
        found += [m for m in consumer.consume(count, timeout=0.2) if m.error() is None]
    consumer.commit(asynchronous=False)
    consumer.close()
    return found


def test_topics_have_the_partitions_that_were_asked_for() -> None:
    with EmbeddedBroker({"three": 3, "one": 1}) as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap} | QUIET)
        topics = producer.list_topics(timeout=10).topics
        assert {name: len(topic.partitions) for name, topic in topics.items()} == {
            "three": 3,
            "one": 1,
        }


def test_confluent_clients_produce_and_consume_in_a_group() -> None:
    with EmbeddedBroker({"t": 2}) as broker:
        producer = Producer(
            {"bootstrap.servers": broker.bootstrap, "enable.idempotence": True} | QUIET
        )
        for i in range(100):
            producer.produce("t", f"{i}".encode(), partition=i % 2)
        assert producer.flush(10) == 0
        found = consume(broker.bootstrap, "t", 100)
        assert sorted(int(m.value() or b"") for m in found) == list(range(100))


def test_aiokafka_reads_what_confluent_wrote_and_the_other_way_round() -> None:
    async def exchange(bootstrap: str) -> bytes:
        consumer = AIOKafkaConsumer(
            "t", bootstrap_servers=bootstrap, group_id="a", auto_offset_reset="earliest"
        )
        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap, enable_idempotence=True, acks="all"
        )
        await consumer.start()
        await producer.start()
        try:
            record = await asyncio.wait_for(consumer.getone(), 20)
            await consumer.commit()
            await producer.send_and_wait("back", record.value)
            return bytes(record.value)
        finally:
            await producer.stop()
            await consumer.stop()

    with EmbeddedBroker({"t": 1, "back": 1}) as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap} | QUIET)
        producer.produce("t", b"there")
        producer.flush(10)
        assert asyncio.run(exchange(broker.bootstrap)) == b"there"
        assert [m.value() for m in consume(broker.bootstrap, "back", 1)] == [b"there"]


def test_another_process_reaches_it() -> None:
    code = (
        "import sys, confluent_kafka as k;"
        "p = k.Producer({'bootstrap.servers': sys.argv[1], 'log_level': 2});"
        "p.produce('t', b'from afar'); sys.exit(p.flush(10))"
    )
    with EmbeddedBroker({"t": 1}) as broker:
        subprocess.run([sys.executable, "-c", code, broker.bootstrap], check=True, timeout=60)
        assert [m.value() for m in consume(broker.bootstrap, "t", 1)] == [b"from afar"]


def test_a_broker_that_is_down_takes_no_records_until_it_is_up_again() -> None:
    with EmbeddedBroker({"t": 1}) as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap} | QUIET)
        producer.list_topics(timeout=10)
        broker.set_down(is_down=True)
        producer.produce("t", b"later")
        assert producer.flush(1) == 1
        broker.set_down(is_down=False)
        assert producer.flush(20) == 0


def test_two_brokers_at_a_time_know_nothing_of_each_other() -> None:
    with EmbeddedBroker({"a": 1}) as one, EmbeddedBroker({"b": 1}) as other:
        assert one.bootstrap != other.bootstrap
        producer = Producer({"bootstrap.servers": one.bootstrap} | QUIET)
        assert list(producer.list_topics(timeout=10).topics) == ["a"]


def test_stopping_twice_does_no_harm_and_a_stopped_broker_says_so() -> None:
    broker = EmbeddedBroker({"t": 1}).start()
    broker.stop()
    broker.stop()
    with pytest.raises(RuntimeError, match="isn't running"):
        broker.create_topic("u", 1)


def test_topics_that_can_not_be_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        EmbeddedBroker({"t": 0})
    with EmbeddedBroker({"t": 1}) as broker, pytest.raises(RuntimeError, match="exists"):
        broker.create_topic("t", 1)
