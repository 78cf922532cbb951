"""Least access lists on secured brokers: what each role may do, and that no more is needed."""

from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from tests.conftest import SecuredFactory
from tests.kafka import Acl, KafkaCluster, Security
from tidegate.client.kafka_config import load_kafka_config
from tidegate.schemas.topics import Topics
from tidegate.streams.acls import Access, Role, role_access
from tidegate.streams.errors import Failure
from tidegate.streams.topics_admin import check_topics, create_topics

USERS = {role.value: f"{role.value}-hush" for role in Role}
TOPICS = Topics(prefix="sec.")


def role_acls(role: Role) -> list[Acl]:
    """The table's lines as the test cluster takes them."""
    return [
        Acl(
            user=role.value,
            operation=operation,
            resource=access.resource.upper(),
            name=access.name,
        )
        for access in role_access(role, TOPICS)
        for operation in access.operations
    ]


@pytest.fixture(params=[Security.SCRAM, Security.MTLS])
def secured(request: pytest.FixtureRequest, secured_cluster: SecuredFactory) -> KafkaCluster:
    acls = [acl for role in Role for acl in role_acls(role)]
    return secured_cluster(request.param, users=USERS, acls=acls)


def config_of(cluster: KafkaCluster, user: str) -> dict[str, str]:
    """Through the file and the loader, as users do it."""
    return load_kafka_config(str(cluster.config_file(user)), {}, None)


def test_each_role_can_do_its_work_and_no_other(secured: KafkaCluster) -> None:
    tools = config_of(secured, Role.TOOLS)
    assert create_topics(tools, TOPICS, partitions_count=1).findings == ()
    assert check_topics(tools, TOPICS).findings == ()

    with pytest.raises(Failure, match=r"can't describe topic .* topics acls --role tools"):
        check_topics(config_of(secured, Role.EXPORTER), TOPICS)

    for role in Role:
        for access in role_access(role, TOPICS):
            if access.resource == "topic" and role is not Role.TOOLS:
                assert_works(secured, role, access)
    may_not_write = [
        (Role.CLIENT, TOPICS.decisions),
        (Role.INGEST, TOPICS.decisions),
        (Role.EVALUATE, TOPICS.otlp_spans),
        (Role.EXPORTER, TOPICS.partials),
    ]
    for role, topic in may_not_write:
        # Not idempotent: without WRITE anywhere that alone would be refused, as a fatal error.
        code = write(secured, role, topic, is_idempotent=False)
        assert code == KafkaError.TOPIC_AUTHORIZATION_FAILED


def assert_works(cluster: KafkaCluster, role: Role, access: Access) -> None:
    if "WRITE" in access.operations:
        assert write(cluster, role, access.name) is None
    if "READ" in access.operations:
        # Something to read, written by the super user.
        assert write(cluster, None, access.name) is None
        assert read(cluster, role, access.name)


def write(
    cluster: KafkaCluster, role: Role | None, topic: str, *, is_idempotent: bool = True
) -> int | None:
    """The error's code, or None."""
    config = cluster.client_config() if role is None else config_of(cluster, role)
    codes: list[int | None] = []
    producer = Producer(
        config | {"acks": "all", "enable.idempotence": is_idempotent, "message.timeout.ms": 10_000}
    )
    producer.produce(
        topic,
        b"value",
        key=b"key",
        on_delivery=lambda error, _: codes.append(None if error is None else error.code()),
    )
    producer.flush(15)
    (code,) = codes
    return code


def read(cluster: KafkaCluster, role: Role, topic: str) -> bool:
    """Whether a record arrives: with the role's group, where it has one."""
    groups = [access.name for access in role_access(role, TOPICS) if access.resource == "group"]
    group = groups[0] if groups else "none-of-ours"
    consumer = Consumer(config_of(cluster, role) | {"group.id": group, "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        for _ in range(100):
            message = consumer.poll(0.1)
            if message is not None and message.error() is None:
                if groups:
                    consumer.commit(message=message, asynchronous=False)
                return True
        return False
    finally:
        consumer.close()


def test_a_wrong_password_is_said_at_once_and_not_shown(
    secured_cluster: SecuredFactory, tmp_path: Path
) -> None:
    cluster = secured_cluster(Security.SCRAM, users={"tools": "hush"})
    file = tmp_path / "wrong.properties"
    file.write_text(cluster.config_file("tools").read_text().replace("hush", "not-this-one"))
    config = load_kafka_config(str(file), {}, None)
    with pytest.raises(Failure, match=r"no Kafka broker answered .*uthentication") as caught:
        check_topics(config, TOPICS, timeout_s=20)
    assert "not-this-one" not in str(caught.value)
    right = load_kafka_config(str(file), {"TIDEGATE_KAFKA_SASL_PASSWORD": "hush"}, None)
    with pytest.raises(Failure, match="can't describe topic"):
        check_topics(right, TOPICS)
