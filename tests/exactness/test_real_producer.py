"""No hand-made bytes: the OpenTelemetry SDK and its OTLP exporter, a Collector-compatible agent, a real
Kafka, a worker, and the client in a service that calls.
"""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import rotel
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from tests.kafka import KafkaCluster
from tests.kafka.broker import free_ports
from tests.streams.live import Worker, make_topics, until
from tidegate.client import Client
from tidegate.schemas.topics import Topics

POLICY = "name: shop\nsettings:\n  mode: enforce\n"
EDGE = "edge:web->payments"


@contextmanager
def agent(folder: Path, brokers: str, topic: str) -> Iterator[int]:
    """rotel: OTLP over HTTP in, Kafka out. Yields its port."""
    grpc, http = free_ports(2)
    binary = Path(rotel.__file__).parent / "rotel-agent"
    with (folder / "rotel.log").open("wb") as log:
        process = subprocess.Popen(
            [
                str(binary),
                "start",
                f"--pid-file={folder / 'rotel.pid'}",
                f"--otlp-grpc-endpoint=127.0.0.1:{grpc}",
                f"--otlp-http-endpoint=127.0.0.1:{http}",
                "--exporter=kafka",
                f"--kafka-exporter-brokers={brokers}",
                f"--kafka-exporter-traces-topic={topic}",
                "--kafka-exporter-format=protobuf",
                "--kafka-exporter-acks=all",
                "--batch-timeout=200ms",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield http
        finally:
            process.terminate()
            process.wait(10)


class Shop:
    """`web` calls `payments`; both are instrumented."""

    def __init__(self, port: int) -> None:
        self._providers = {name: self._provider(name, port) for name in ("web", "payments")}
        self._web, self._payments = (
            self._providers[name].get_tracer("shop") for name in ("web", "payments")
        )
        self.calls = 0

    @staticmethod
    def _provider(service: str, port: int) -> TracerProvider:
        provider = TracerProvider(resource=Resource.create({"service.name": service}))
        exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}/v1/traces")
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=250))
        return provider

    def pay(self, *, fails: bool) -> None:
        """One call and the request it makes."""
        code = 500 if fails else 200
        with self._web.start_as_current_span("POST", kind=SpanKind.CLIENT) as call:
            call.set_attribute("server.address", "payments")
            call.set_attribute("http.response.status_code", code)
            parent = trace.set_span_in_context(call)
            with self._payments.start_as_current_span(
                "POST /pay", context=parent, kind=SpanKind.SERVER
            ) as request:
                request.set_attribute("http.response.status_code", code)
                if fails:
                    request.set_status(StatusCode.ERROR)
                time.sleep(0.005)
        self.calls += 1

    def run(self, seconds: float, *, fails: bool, until_true: object = None) -> None:
        """Thirty calls a second, for so long or until something is true."""
        ends_s = time.monotonic() + seconds
        while time.monotonic() < ends_s:
            self.pay(fails=fails)
            if callable(until_true) and until_true():
                return
            time.sleep(0.028)

    def close(self) -> None:
        for provider in self._providers.values():
            provider.shutdown()


@pytest.mark.timeout(150)
def test_an_error_burst_in_instrumented_services_reaches_the_client_that_calls(
    kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    config, topics = kafka_cluster.client_config(), Topics(prefix=topic_prefix)
    make_topics(config, topics, spans=2, partials=2)
    policy = tmp_path / "shop.yaml"
    policy.write_text(POLICY)
    with (
        Worker(config, topics, tmp_path, "--policy", str(policy)) as worker,
        agent(tmp_path, kafka_cluster.bootstrap, topics.otlp_spans) as port,
        Client(config["bootstrap.servers"], topic_prefix=topics.prefix) as client,
    ):
        worker.wait_for("partitions rebuilt")
        shop = Shop(port)
        try:
            shop.run(30, fails=False, until_true=lambda: client.decide(EDGE).decision)
            shop.run(5, fails=False)
            assert client.decide(EDGE).level == client.decide("payments").level == "closed"
            assert all(client.admit(EDGE, trace_id=f"{i:032x}").passes for i in range(50))

            def is_known() -> bool:
                answers = [client.decide(scope) for scope in (EDGE, "payments")]
                return all(answer.level == "open" or "forced" in answer.level for answer in answers)

            shop.run(40, fails=True, until_true=is_known)
            assert is_known()
        finally:
            shop.close()
        until(lambda: client.decide(EDGE).decision is not None)
        decision = client.decide(EDGE).decision
        assert decision is not None
        assert decision.signals.error_ratio > 0.5
        assert decision.exemplars
        assert "error ratio" in decision.reason
        # Turned away now: all but what probes or heartbeats may pass.
        passed = sum(client.admit(EDGE, trace_id=f"{i:032x}").passes for i in range(200))
        assert passed <= 10
