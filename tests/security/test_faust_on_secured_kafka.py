"""Faust's own driver reaches secured brokers with the translated credentials."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from tests.conftest import SecuredFactory
from tests.kafka import Acl, Security
from tidegate.client.kafka_config import load_kafka_config
from tidegate.schemas.topics import Topics
from tidegate.streams.acls import Role, role_access
from tidegate.streams.faust_security import broker_credentials

TOPICS = Topics()


@pytest.mark.parametrize("security", [Security.SCRAM, Security.MTLS])
def test_evaluates_access_list_is_enough_for_aiokafka(
    secured_cluster: SecuredFactory, security: Security
) -> None:
    acls = [
        Acl(user="evaluate", operation=op, resource=access.resource.upper(), name=access.name)
        for access in role_access(Role.EVALUATE, TOPICS)
        for op in access.operations
    ]
    cluster = secured_cluster(security, users={"evaluate": "hush"}, acls=acls)
    for name in (TOPICS.partials, TOPICS.snapshots_changelog):
        cluster.create_topic(name)
    config = load_kafka_config(str(cluster.config_file("evaluate")), {}, None)
    asyncio.run(asyncio.wait_for(write_read_commit(config), timeout=60))


async def write_read_commit(config: dict[str, str]) -> None:
    auth = credentials_to_aiokafka_auth(broker_credentials(config))
    servers = config["bootstrap.servers"]
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, enable_idempotence=True, acks="all", **auth
    )
    await producer.start()
    try:
        await producer.send_and_wait(TOPICS.snapshots_changelog, b"value", key=b"key")
    finally:
        await producer.stop()
    consumer = AIOKafkaConsumer(
        TOPICS.snapshots_changelog,
        TOPICS.partials,
        bootstrap_servers=servers,
        group_id=TOPICS.evaluate_app_id,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        **auth,
    )
    await consumer.start()
    try:
        record = await consumer.getone()
        assert (record.key, record.value) == (b"key", b"value")
        await consumer.commit()
    finally:
        await consumer.stop()
