"""`tidegate alert` with a graph beside the alerts, on a real broker: one page and one end for ten alerts of one
cause, whenever its sender is killed.
"""

import signal
import time
from pathlib import Path

import pytest
from confluent_kafka import Producer
from msgspec.structs import replace

from tests.alert_send.alerts import alert
from tests.alert_send.graphs import DB, DB_SCOPES, view
from tests.alert_send.receiver import Receiver
from tests.alert_send.senders import Bench, Sender, calls
from tests.kafka import KafkaCluster
from tests.streams.live import make_topics, until
from tidegate.schemas.alert import Alert
from tidegate.schemas.graph import GraphView, parts_of

pytestmark = pytest.mark.timeout(150)

DEAD_DB = view(("web", "db", 0.9))


def key(number: int) -> str:
    return f"{number:016x}"


STARTS = [
    alert(incident=key(i), scope=scope, tier="P1", after_s=60 + i)
    for i, scope in enumerate(DB_SCOPES)
]
ENDS = [
    replace(one, event="resolve", number=2, at_ms=one.at_ms + 600_000, level="closed")
    for one in STARTS
]


def publish(bench: Bench, graph: GraphView, *, age_ms: int = 0) -> None:
    """As the graph stage does."""
    producer = Producer(bench.cluster.client_config())
    at_ms = int(time.time() * 1000) - age_ms
    for number, part in enumerate(parts_of(graph)):
        producer.produce(bench.topics.graph, part, key=f"part:{number}".encode(), timestamp=at_ms)
    assert producer.flush(10) == 0


def start(bench: Bench, hook: Receiver, phone: Receiver, *more: str) -> Sender:
    """A sender that has its partition and has read the graph."""
    sender = bench.start(hook, phone, *more)
    until(lambda: any(one["event"] == "reads a partition" for one in sender.lines), what="it reads")
    return sender


def told(receiver: Receiver) -> list[tuple[str, str, int]]:
    """(event, cause, alerts in the list) of what came to the webhook."""
    return [
        (
            got.json["data"]["event"],
            got.json.get("cause", ""),
            got.json["data"].get("group", {"count": 0})["count"],
        )
        for got in receiver.got
    ]


def test_ten_alerts_of_one_cause_are_one_page_and_one_end(bench: Bench) -> None:
    publish(bench, view())
    with Receiver() as hook, Receiver() as phone:
        sender = start(bench, hook, phone)
        bench.produce(*STARTS)
        time.sleep(1)  # people wait: the cause is not known yet
        assert phone.got == []
        publish(bench, replace(DEAD_DB, boundary=1010))
        until(lambda: phone.got and hook.got, what="a page")
        bench.produce(*ENDS)
        until(lambda: bench.committed() == 20, what="everything committed")
        assert sender.stop() == 0
    assert calls(phone) == [("trigger", key(0)), ("resolve", key(0))]
    page = phone.got[0].json["payload"]
    assert page["summary"].startswith("P1 started: db: 10 alerts of one cause (inbound:db, ")
    details = page["custom_details"]
    assert (details["cause"], details["evidence"], len(details["alerts"])) == ("db", DB, 10)
    assert told(hook) == [("start", "db", 10), ("resolve", "db", 10)]


def test_two_causes_are_two_pages(bench: Bench) -> None:
    publish(bench, view(("web", "db", 0.9), ("admin", "audit", 0.8)))
    others = [
        alert(incident=key(20 + i), scope=scope, tier="P1")
        for i, scope in enumerate(("inbound:audit", "edge:admin->audit", "graph:admin"))
    ]
    with Receiver() as hook, Receiver() as phone:
        bench.produce(*STARTS, *others)
        sender = start(bench, hook, phone)
        until(lambda: bench.committed() == 13, what="everything committed")
        assert sender.stop() == 0
    assert sorted(calls(phone)) == [("trigger", key(0)), ("trigger", key(20))]
    assert sorted(told(hook)) == [("start", "audit", 3), ("start", "db", 10)]


def test_a_sender_killed_while_it_pages_pages_for_the_same_group_again(bench: Bench) -> None:
    publish(bench, DEAD_DB)
    with Receiver() as hook, Receiver() as phone:
        sender = start(bench, hook, phone)
        phone.is_serving.clear()
        bench.produce(*STARTS)
        until(lambda: len(phone.got) == 1 and len(hook.got) >= 1, what="the phone hangs")
        assert bench.committed() == 0
        assert sender.stop(signal.SIGKILL) == -signal.SIGKILL
        phone.is_serving.set()
        # The graph is well again when the next one reads them: what was decided stands.
        publish(bench, replace(view(), boundary=1010))
        again = start(bench, hook, phone)
        until(lambda: bench.committed() == 10, what="everything committed")
        assert again.stop(signal.SIGKILL) == -signal.SIGKILL
        last = start(bench, hook, phone)
        bench.produce(*ENDS)
        until(lambda: bench.committed() == 20, what="everything committed")
        assert last.stop() == 0
    assert set(calls(phone)) == {("trigger", key(0)), ("resolve", key(0))}
    assert calls(phone)[:1] == calls(phone)[1:2]
    assert [
        got.json["dedup_key"] for got in phone.got if got.json["event_action"] == "resolve"
    ] == [key(0)]
    assert told(hook)[-1] == ("resolve", "db", 10)


def test_what_waits_when_the_sender_is_killed_is_told_together_by_the_next(bench: Bench) -> None:
    publish(bench, view())
    with Receiver() as hook, Receiver() as phone:
        sender = start(bench, hook, phone)
        bench.produce(*STARTS)
        until(lambda: bench.committed() == 0, what="the first commit")
        assert sender.stop(signal.SIGKILL) == -signal.SIGKILL
        publish(bench, replace(DEAD_DB, boundary=1010))
        again = start(bench, hook, phone)
        until(lambda: bench.committed() == 10, what="everything committed")
        assert again.stop() == 0
    assert calls(phone) == [("trigger", key(0))]


@pytest.mark.parametrize(
    ("age_ms", "more"), [(180_000, ()), (0, ("--group-wait", "0"))], ids=["old graph", "off"]
)
def test_without_a_fresh_graph_each_is_told_at_once(
    bench: Bench, age_ms: int, more: tuple[str, ...]
) -> None:
    publish(bench, DEAD_DB, age_ms=age_ms)
    with Receiver() as hook, Receiver() as phone:
        sender = start(bench, hook, phone, *more)
        bench.produce(*STARTS, *ENDS)
        until(lambda: bench.committed() == 20, what="everything committed")
        assert sender.stop() == 0
    assert calls(phone) == [
        (action, key(i)) for action in ("trigger", "resolve") for i in range(len(STARTS))
    ]
    assert {cause for _, cause, _ in told(hook)} == {""}


def test_without_the_topic_of_graphs_each_is_told(
    kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    bench = Bench(kafka_cluster, topic_prefix, tmp_path)
    make_topics(kafka_cluster.client_config(), bench.topics, leave_out=(bench.topics.graph,))
    two: list[Alert] = STARTS[:2]
    with Receiver() as hook, Receiver() as phone:
        sender = bench.start(hook, phone)
        try:
            bench.produce(*two)
            until(lambda: bench.committed() == 2, what="everything committed")
            assert sender.stop() == 0
        finally:
            sender.process.kill()
    assert calls(phone) == [("trigger", key(0)), ("trigger", key(1))]
    reasons = [line["reason"] for line in sender.lines if line["event"].startswith("no graph")]
    assert reasons == [f"there is no topic {bench.topics.graph}"]
