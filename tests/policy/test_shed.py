"""What the last 24 hours turned away, as `tidegate policy explain --brokers` tells it."""

import json

import msgspec
import pytest
from confluent_kafka import Producer

from tidegate.schemas.decision import Actions, Decision, Shed, Signals, encode_decision
from tidegate.schemas.scope import lease_key
from tidegate.schemas.topics import Topics
from tidegate.streams.cli import main
from tidegate.streams.embedded import EmbeddedBroker
from tidegate.streams.policy_shed import shed_lines, shed_report

BASE = Decision(
    scope="service:pay",
    level="open",
    score=0.3,
    mode="observe",
    actions=Actions(admit_ratio=0.0, retry_ratio_max=0.0),
    reason="",
    signals=Signals(
        requests=0,
        window_s=30,
        error_ratio=0,
        own_error_ratio=0,
        p50_ms=None,
        p95_ms=None,
        self_p95_ms=None,
        target_ms=None,
        qps=0,
        shed=0,
        evidence="none",
        evidence_since_ms=None,
    ),
    window_start_ms=1_767_225_570_000,
    window_end_ms=1_767_225_600_000,
    since_ms=0,
    boundary=10,
    partition=0,
    policy="shop@12345678",
    shed_24h=Shed(requests=12_000, turned_away=3_000),
    evidence_age_ms=0,
)
EDGE = msgspec.structs.replace(BASE, scope="edge:pay->db", mode="enforce", shed_24h=None)


def test_a_table_says_what_was_and_what_would_have_been_turned_away() -> None:
    head, service, edge = shed_lines([BASE, EDGE], "service:pay")
    assert head.split() == [
        "last",
        "24",
        "h",
        "requests",
        "turned",
        "away",
        "share",
        "as",
        "of",
        "mode",
    ]
    assert service.split()[:5] == [
        "service:pay",
        "12,000",
        "3,000",
        "25.0%",
        "2026-01-01T00:00:00Z",
    ]
    assert service.endswith("observe: would have been, under shop@12345678")
    assert edge.split()[:4] == ["edge:pay->db", "0", "0", "0.0%"]
    assert edge.endswith("enforce: were turned away, under shop@12345678")


def test_without_a_decision_that_is_said() -> None:
    told = ["last 24 h: no decision of service:pay was published yet"]
    assert list(shed_lines([], "service:pay")) == told
    assert shed_report([]) == []


def test_the_newest_decision_of_the_service_and_its_edges_is_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    topic = Topics().decisions
    older = msgspec.structs.replace(BASE, boundary=9, shed_24h=None)
    others = [
        msgspec.structs.replace(EDGE, scope=scope) for scope in ("edge:web->pay", "service:pay2")
    ]
    gone = msgspec.structs.replace(EDGE, scope="edge:pay->gone")
    with EmbeddedBroker({topic: 2}) as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap})
        for decision in (BASE, older, EDGE, gone, *others):
            producer.produce(topic, encode_decision(decision), decision.scope.encode())
        producer.produce(topic, None, gone.scope.encode())
        producer.produce(topic, b"{}", lease_key(0).encode())
        producer.produce(topic, b"broken", b"edge:pay->broken")
        producer.flush()
        found = {}
        for args in (["pay"], ["pay", "db"], ["nobody"]):
            command = ["policy", "explain", *args, "--brokers", broker.bootstrap, "--json"]
            assert main(command) == 0
            told = json.loads(capsys.readouterr().out)["last_24h"]
            found[tuple(args)] = [(row["scope"], row["turned_away"]) for row in told]
        assert main(["policy", "explain", "pay", "--brokers", broker.bootstrap]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[-2].split()[:3] == ["service:pay", "12,000", "3,000"]
    assert found == {
        ("pay",): [("service:pay", 3_000), ("edge:pay->db", 0)],
        ("pay", "db"): [("edge:pay->db", 0)],
        ("nobody",): [],
    }
