"""The whole path on a secured broker with least access lists: exporter, ingest, evaluate, graph, client, each as
its own user. No secret may show up in what a worker prints."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind

from tests.conftest import SecuredFactory
from tests.kafka import KafkaCluster
from tests.security.test_secured_kafka import TOPICS, USERS, config_of, secured
from tests.streams.live import log_of, until
from tidegate.client import Client
from tidegate.client.otel import KafkaSpanExporter
from tidegate.schemas.scope import lease_key
from tidegate.streams.acls import Role
from tidegate.streams.topics_admin import create_topics

__all__ = ["SecuredFactory", "secured"]

pytestmark = pytest.mark.timeout(180)
PARTITIONS = 2
ROLES = (Role.INGEST, Role.EVALUATE, Role.GRAPH)


def test_spans_become_decisions_with_least_access(secured: KafkaCluster, tmp_path: Path) -> None:
    create_topics(config_of(secured, Role.TOOLS), TOPICS, partitions_count=PARTITIONS)
    logs = [tmp_path / f"{role.value}.log" for role in ROLES]
    workers = [worker(secured, role, log) for role, log in zip(ROLES, logs, strict=True)]
    try:
        assert serve_until_decided(secured), "\n".join(log.read_text()[-3_000:] for log in logs)
        tools = config_of(secured, Role.TOOLS)
        until(lambda: log_of(tools, TOPICS.graph), what="a graph", every_s=0.5)
        lease = lease_key(PARTITIONS).encode()
        until(lambda: lease in {r.key for r in log_of(tools, TOPICS.decisions)}, every_s=0.5)
    finally:
        for process in workers:
            process.terminate()
        codes = [process.wait(30) for process in workers]
    assert codes == [0] * len(ROLES)
    told = "".join(log.read_text() for log in logs)
    assert not [secret for secret in USERS.values() if secret in told]


def worker(cluster: KafkaCluster, role: Role, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tidegate.streams.cli", "run", "--role", role.value]
    command += [
        "--kafka-config",
        str(cluster.config_file(role.value)),
        "--topic-prefix",
        TOPICS.prefix,
    ]
    with log.open("wb") as out:
        return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=dict(os.environ))


def serve_until_decided(cluster: KafkaCluster) -> bool:
    exporter = KafkaSpanExporter(config_of(cluster, Role.EXPORTER), topic=TOPICS.otlp_spans)
    provider = TracerProvider(resource=Resource.create({"service.name": "payments"}))
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=200))
    tracer = provider.get_tracer("test")
    ends_s = time.monotonic() + 120
    with Client(config_of(cluster, Role.CLIENT), topic_prefix=TOPICS.prefix) as client:
        while time.monotonic() < ends_s:
            with tracer.start_as_current_span("GET /", kind=SpanKind.SERVER):
                time.sleep(0.02)
            if client.decide("payments").decision is not None:
                provider.shutdown()
                return exporter.dropped_spans == 0
    provider.shutdown()
    return False
