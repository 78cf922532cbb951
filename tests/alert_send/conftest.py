"""A broker with topics, and senders that are ended whatever happens: none may have shown a secret or a traceback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alert_send.alerts import SECRETS
from tests.alert_send.senders import Bench
from tests.kafka import KafkaCluster
from tests.streams.live import make_topics


@pytest.fixture
def bench(kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path) -> Iterator[Bench]:
    running = Bench(kafka_cluster, topic_prefix, tmp_path)
    make_topics(kafka_cluster.client_config(), running.topics)
    yield running
    for sender in running.senders:
        if sender.process.poll() is None:
            sender.process.kill()
            sender.process.wait(30)
        shown = sender.log.read_text()
        assert not [secret for secret in SECRETS.values() if secret in shown]
        assert "Traceback" not in shown
