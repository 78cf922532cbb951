"""Placement of keys: Java's own vectors, and what librdkafka really does."""

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tidegate.schemas.partitioner import murmur2, partition_of
from tidegate.streams.embedded import EmbeddedBroker

JAVA_VECTORS = {  # org.apache.kafka.common.utils.UtilsTest.testMurmur2
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("data", "hash32"), JAVA_VECTORS.items())
def test_the_hash_is_javas(data: bytes, hash32: int) -> None:
    assert murmur2(data) == hash32 & 0xFFFFFFFF


def test_librdkafka_places_keys_where_we_say() -> None:
    names = [f"{'säge/' * (i % 3)}service-{i}{'x' * (i % 7)}" for i in range(300)]
    with EmbeddedBroker({"placed": 7}) as broker:
        config = {"bootstrap.servers": broker.bootstrap, "partitioner": "murmur2_random"}
        producer = Producer(config)
        for name in names:
            producer.produce("placed", key=name.encode(), value=b"")
        assert producer.flush(20) == 0
        consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "g"})
        consumer.assign([TopicPartition("placed", p, 0) for p in range(7)])
        found: dict[str, int] = {}
        while len(found) < len(names):
            message = consumer.poll(20)
            assert message is not None
            assert message.error() is None
            key, partition = message.key(), message.partition()
            assert key is not None
            assert partition is not None
            found[key.decode()] = partition
        consumer.close()
    assert found == {name: partition_of(name, 7) for name in names}
