"""The kill switch: what it says, that it is newer than any before, and that clients obey it without a worker."""

import time

import pytest

from tests.client.live import lease, now_boundary, publish, until
from tests.control.asked import T_MS, WHO, override
from tests.control.commands import Kafka, ask_ok
from tests.kafka import KafkaCluster
from tests.streams.live import log_of
from tidegate.client import Client
from tidegate.client.testing import FeedClient, decision
from tidegate.schemas.control import OverrideClear, OverrideSet, decode_control
from tidegate.schemas.decision import LevelName, encode_decision
from tidegate.schemas.level import LEVEL_NAMES
from tidegate.streams.kafka_log import LogRecord
from tidegate.streams.kill_switch import newest_boundary, newest_switch, switch_decision

SCOPE = "edge:web->payments"
SWITCH_S_MAX = 2.0
B = T_MS // 500


@pytest.fixture
def kafka(kafka_cluster: KafkaCluster, topic_prefix: str) -> Kafka:
    return Kafka(kafka_cluster, topic_prefix)


def record(boundary: int | None, *, until_ms: int = T_MS + 1, key: str = "override:*") -> LogRecord:
    """Of the decisions topic; None is a tombstone."""
    asked = override("*", until_ms=until_ms)
    value = None if boundary is None else encode_decision(switch_decision(asked, boundary=boundary))
    return LogRecord("decisions", 0, 0, 0, key.encode(), value)


# ---- what it says ----


@pytest.mark.parametrize("level", LEVEL_NAMES)
def test_any_level_can_be_asked_for_and_clients_do_what_it_asks(level: LevelName) -> None:
    asked = OverrideSet(scope="*", level=level, until_ms=T_MS + 60_000, **WHO)  # type: ignore[arg-type]  # fields by name
    feed = FeedClient(now_ms=lambda: T_MS)
    feed.publish(switch_decision(asked, boundary=B))
    answer = feed.decide("payments")
    assert (answer.status, answer.level, answer.mode) == ("override", level, "enforce")
    passes = [feed.admit("payments", trace_id=f"t{i}").passes for i in range(200)]
    if level in ("closed", "degraded_1"):
        assert all(passes) or level == "degraded_1"
    if level in ("open", "forced_open", "locked"):
        assert not any(passes)


def test_it_names_who_and_why() -> None:
    said = switch_decision(override("*"), boundary=B)
    assert said.reason == "kill switch by kim: a test"
    assert said.override is not None
    assert (said.override.scope, said.override.by, said.override.reason) == ("*", "kim", "a test")


# ---- newer than any before ----


@pytest.mark.parametrize(
    ("records", "newest", "in_force"),
    [
        ([], -1, None),
        ([record(5)], 5, 5),
        ([record(5), record(9), record(7)], 9, 7),
        ([record(5), record(None)], 5, None),
        ([record(5), record(None), record(6)], 6, 6),
        ([record(5, until_ms=T_MS)], 5, None),
        ([record(5), record(8, key="service:a")], 5, 5),
        ([record(5), LogRecord("decisions", 0, 0, 0, b"override:*", b"{}")], 5, None),
    ],
)
def test_the_newest_boundary_counts_ended_ones_too(
    records: list[LogRecord], newest: int, in_force: int | None
) -> None:
    assert newest_boundary(records) == newest
    switch = newest_switch(records, now_ms=T_MS)
    assert (None if switch is None else switch.boundary) == in_force


# ---- on Kafka ----


def test_it_is_in_force_within_two_seconds_without_a_worker_and_ends_as_quickly(
    kafka: Kafka,
) -> None:
    opened = decision(SCOPE, "open", boundary=now_boundary(), admit_ratio=0.0)
    publish(kafka.config, kafka.topics.decisions, opened, lease())
    with Client(kafka.config, topic_prefix=kafka.topics.prefix) as client:
        assert client.wait_ready(30)
        assert not client.admit(SCOPE, trace_id="a").passes
        heard_s: list[float] = []
        client.on_change(lambda *_: heard_s.append(time.monotonic()))
        began_s = time.monotonic()
        said = ask_ok(kafka, "set", "*", "closed", "--for", "10m", "--by", "kim", "--reason", "x")
        assert client.admit(SCOPE, trace_id="a").passes
        took_s = heard_s[0] - began_s
        assert took_s < SWITCH_S_MAX, f"{took_s:.1f} s from the command's start"
        assert client.decide("never-decided").status == "override"
        assert "clients obey it" in said.err
        assert kafka.list("override")["overrides"][0]["scope"] == "*"
        ask_ok(kafka, "clear", "*", "--by", "kim", "--reason", "over")
        assert until(lambda: not client.admit(SCOPE, trace_id="a").passes, SWITCH_S_MAX)
        # Again, in the same 500 ms or with a clock that went back: newer than the one that ended.
        ask_ok(kafka, "set", "*", "closed", "--for", "1m", "--reason", "again")
        assert until(lambda: client.admit(SCOPE, trace_id="a").passes, SWITCH_S_MAX)
    history = [decode_control(r.value or b"") for r in log_of(kafka.config, kafka.topics.control)]
    assert [type(asked) for asked in history] == [OverrideSet, OverrideClear, OverrideSet]


def test_it_is_newer_than_one_of_a_writer_whose_clock_was_ahead(kafka: Kafka) -> None:
    ahead = now_boundary() + 1_000_000
    publish(kafka.config, kafka.topics.decisions, switch_decision(override("*"), boundary=ahead))
    ask_ok(kafka, "set", "*", "open", "--for", "1m", "--reason", "x")
    records = [r for r in log_of(kafka.config, kafka.topics.decisions) if r.key == b"override:*"]
    assert newest_boundary(records) == ahead + 1


def test_its_record_in_the_history_may_fail_and_clients_obey_it_all_the_same(
    kafka_cluster: KafkaCluster, topic_prefix: str
) -> None:
    kafka = Kafka(kafka_cluster, topic_prefix, leave_out=("control",))
    told = kafka.run("override", "set", "*", "closed", "--for", "10m", "--reason", "x")
    assert told.status == 1
    assert "clients obey it, but its record in the history was not written" in told.err
    with Client(kafka.config, topic_prefix=kafka.topics.prefix) as client:
        assert client.wait_ready(30)
        assert client.decide("payments").status == "override"
