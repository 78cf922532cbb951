"""Fixtures that every test may use: a real Kafka, shared or its own.

* `kafka_cluster`: one plaintext broker for the whole run; take names from `topic_prefix`.
* `kafka_factory(...)`: a cluster of one's own, to kill, pause or fill; ended after the test.
* `secured_cluster(security, users, acls)`: the same with users and access lists.

Without Java 17+ or Maven these tests are skipped with the reason; with CI=true that is a failure.
"""

import contextlib
import itertools
import signal
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from tests.kafka import Acl, KafkaCluster, KafkaMissingError, Security
from tests.kafka.cluster import is_ci
from tests.kafka.jars import install


class KafkaFactory(Protocol):
    """Starts a cluster that lives until the end of the test."""

    def __call__(
        self,
        *,
        brokers_count: int = 1,
        security: Security = Security.PLAINTEXT,
        users: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> KafkaCluster:
        """As KafkaCluster, whose folder the fixture chooses."""
        ...


class SecuredFactory(Protocol):
    """Starts a secured broker and fills its access list."""

    def __call__(
        self, security: Security, *, users: Mapping[str, str], acls: Iterable[Acl] = ()
    ) -> KafkaCluster:
        """The super user is `admin`; `users` are names to passwords."""
        ...


def pytest_configure() -> None:
    """Processes that tests start end on Ctrl-C even where pytest itself was started in the background,
    by a shell that made it deaf to it: children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes a real broker is marked `kafka`, so that `-m "not kafka"` is the quick half."""
    for item in items:
        names = getattr(item, "fixturenames", ())
        if {"kafka_cluster", "kafka_factory", "secured_cluster"} & set(names):
            item.add_marker(pytest.mark.kafka)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetches Kafka's jars before the first test: its time-out is not meant for a download."""
    if any(item.get_closest_marker("kafka") for item in getattr(session, "items", ())):
        with contextlib.suppress(KafkaMissingError):  # the fixtures say so, each by its own rule
            install()


@pytest.fixture(scope="session")
def kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """One plaintext broker, shared: don't kill it, and use names of your own."""
    cluster = _start(tmp_path_factory.mktemp("kafka"))
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for topics and groups that no other test uses."""
    return f"t{uuid.uuid4().hex[:8]}."


@pytest.fixture
def kafka_factory(tmp_path: Path) -> Iterator[KafkaFactory]:
    """Clusters of the test's own."""
    with_numbers = itertools.count(1)
    started: list[KafkaCluster] = []

    def start(
        *,
        brokers_count: int = 1,
        security: Security = Security.PLAINTEXT,
        users: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> KafkaCluster:
        cluster = _start(
            tmp_path / f"kafka-{next(with_numbers)}",
            brokers_count=brokers_count,
            security=security,
            users=users,
            settings=settings,
        )
        started.append(cluster)
        return cluster

    try:
        yield start
    finally:
        for cluster in started:
            cluster.close()


@pytest.fixture
def secured_cluster(kafka_factory: KafkaFactory) -> SecuredFactory:
    """Brokers with users and access lists, of the test's own."""

    def start(
        security: Security, *, users: Mapping[str, str], acls: Iterable[Acl] = ()
    ) -> KafkaCluster:
        cluster = kafka_factory(security=security, users=users)
        cluster.allow(acls)
        return cluster

    return start


def _start(
    folder: Path,
    *,
    brokers_count: int = 1,
    security: Security = Security.PLAINTEXT,
    users: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
) -> KafkaCluster:
    try:
        return KafkaCluster(
            folder,
            brokers_count=brokers_count,
            security=security,
            users=users,
            settings=settings,
        )
    except KafkaMissingError as missing:
        end: Callable[[str], object] = pytest.fail if is_ci() else pytest.skip
        end(f"no real Kafka here: {missing}")
        raise
