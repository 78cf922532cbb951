"""`tidegate alert` as a process on a real broker: each event once, nothing skipped whatever is killed, a
hanging channel holds up no other, dead letters, and no secret in what it prints or keeps.
"""

import signal
import time
import urllib.request
from pathlib import Path

import pytest

from tests.alert_send.alerts import SECRETS, STORY, alert
from tests.alert_send.receiver import Answer, Receiver
from tests.alert_send.senders import Bench, calls
from tests.conftest import KafkaFactory
from tests.kafka import KafkaCluster
from tests.kafka.broker import free_ports
from tests.streams.live import make_topics, until
from tidegate.schemas.alert import encode_alert

pytestmark = pytest.mark.timeout(150)


def keys(receiver: Receiver) -> list[str]:
    """Idempotency keys of what came to the webhook, in its order."""
    return [got.headers["Idempotency-Key"] for got in receiver.got]


ID = STORY[0].id
ALL = [f"{ID}-{number}" for number in range(1, 5)]


def test_each_event_is_sent_once_in_order_to_the_channels_of_its_tier(bench: Bench) -> None:
    with Receiver() as hook, Receiver() as phone:
        bench.produce(*STORY[:2])
        sender = bench.start(hook, phone)
        until(lambda: len(hook.got) == 2, what="two events sent")
        # Doubles, as a worker that was frozen writes them, and one that is silenced.
        bench.produce(STORY[0], STORY[1], alert(incident="b" * 16, silenced="ops: upgrade"))
        bench.produce(*STORY[2:])
        until(lambda: bench.committed() == 7, what="everything committed")
        assert sender.stop() == 0
        assert keys(hook) == ALL
        # Escalated to the phone by the second event: so the last one closes what is open there.
        assert calls(phone) == [("trigger", ID), ("resolve", ID)]

        again = bench.start(hook, phone)
        bench.produce(alert(incident="c" * 16))
        until(lambda: len(hook.got) == 5, what="a new event after a restart")
        assert again.stop(signal.SIGINT) == 0
    assert keys(hook) == [*ALL, f"{'c' * 16}-1"]
    assert len(phone.got) == 2
    assert [line["event"] for line in sender.lines if line["level"] != "info"] == []


def test_what_a_killed_sender_had_sent_but_not_committed_is_sent_again_under_the_same_key(
    bench: Bench,
) -> None:
    with Receiver() as hook, Receiver() as phone:
        sender = bench.start(hook, phone)
        bench.produce(STORY[0])
        until(lambda: bench.committed() == 1, what="the first event committed")
        phone.is_serving.clear()
        bench.produce(*STORY[1:])
        # The phone hangs on the second event; the webhook has them all.
        until(lambda: len(hook.got) == 4 and len(phone.got) == 1, what="the phone hangs")
        assert bench.committed() == 1
        assert sender.stop(signal.SIGKILL) == -signal.SIGKILL
        phone.is_serving.set()
        again = bench.start(hook, phone)
        until(lambda: bench.committed() == 4, what="everything committed")
        assert again.stop() == 0
    assert keys(hook) == [*ALL, *ALL[1:]]
    assert [got.body for got in hook.got[1:4]] == [got.body for got in hook.got[4:]]
    assert calls(phone) == [("trigger", ID), ("trigger", ID), ("resolve", ID)]
    assert phone.got[0].body == phone.got[1].body


def test_what_no_try_delivers_is_dead_lettered_and_the_rest_goes_on(bench: Bench) -> None:
    refusing = Answer(400, f"unknown key {SECRETS['PD_KEY']}".encode())
    port, *_ = free_ports(1)
    with Receiver(last=Answer(500, b"ill")) as hook, Receiver(last=refusing) as phone:
        bench.produce(STORY[1], b"garbage", b'{"id": 3}')
        sender = bench.start(hook, phone, "--metrics-port", str(port))
        until(lambda: bench.committed() == 3, what="everything committed")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            metrics = answer.read().decode()
        for path in ("healthz", "readyz"):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
                assert answer.read() == b"ok\n"
        assert sender.stop() == 0
        assert (len(hook.got), len(phone.got)) == (3, 1)
    letters = bench.dead_letters(4)
    source = {
        "tidegate.source.topic": bench.topics.alerts,
        "tidegate.source.partition": "0",
        "tidegate.source.offset": "0",
    }
    of_alert = source | {"tidegate.alert.id": ID, "tidegate.alert.number": "2"}
    by_channel = {headers.get("tidegate.alert.channel", ""): headers for _, headers in letters}
    assert by_channel["hook"] == of_alert | {
        "tidegate.alert.channel": "hook",
        "tidegate.reason": "HTTP 500: ill (tries: 3)",
    }
    assert by_channel["phone"] == of_alert | {
        "tidegate.alert.channel": "phone",
        "tidegate.reason": "HTTP 400: unknown key *** (tries: 1)",
    }
    values = sorted(value or b"" for value, _ in letters)
    assert values == sorted([encode_alert(STORY[1])] * 2 + [b"garbage", b'{"id": 3}'])
    assert not [secret for secret in SECRETS.values() if secret in f"{letters}{metrics}"]
    for sample in (
        "tidegate_alert_records_total 3.0",
        "tidegate_alert_undecodable_records_total 2.0",
        'tidegate_alert_dead_lettered_total{channel="hook"} 1.0',
        'tidegate_alert_dead_lettered_total{channel="phone"} 1.0',
        'tidegate_alert_retries_total{channel="hook"} 2.0',
        'tidegate_alert_sent_total{channel="phone"} 0.0',
        'tidegate_alert_waiting{channel="hook"} 0.0',
    ):
        assert f"{sample}\n" in metrics


def test_a_group_that_never_ran_does_not_call_people_about_last_week(bench: Bench) -> None:
    now_ms = int(time.time() * 1000)
    with Receiver() as hook, Receiver() as phone:
        bench.produce(alert(incident="d" * 16), at_ms=now_ms - 3_600_000)
        bench.produce(alert(incident="e" * 16), at_ms=now_ms - 60_000)
        sender = bench.start(hook, phone)
        until(lambda: bench.committed() == 2, what="everything committed")
        assert sender.stop() == 0
    assert keys(hook) == [f"{'e' * 16}-1"]


def test_another_sender_takes_over(bench: Bench) -> None:
    with Receiver() as hook, Receiver() as phone:
        bench.start(hook, phone)
        bench.produce(STORY[0])
        until(lambda: bench.committed() == 1, what="the first event committed")
        bench.start(hook, phone)
        until(lambda: len(assignments(bench)) == 2, what="the partition given anew")
        owner = max(assignments(bench))[1]
        assert bench.senders[owner].stop(signal.SIGKILL) == -signal.SIGKILL
        bench.produce(*STORY[1:])
        until(lambda: bench.committed() == 4, what="everything committed")
        assert bench.senders[1 - owner].stop() == 0
    assert keys(hook) == ALL
    assert calls(phone) == [("trigger", ID), ("resolve", ID)]


def assignments(bench: Bench) -> list[tuple[str, int]]:
    """(when, number of the sender) of each time that the partition came to one."""
    return [
        (line["timestamp"], number)
        for number, sender in enumerate(bench.senders)
        for line in sender.lines
        if line["event"] == "reads a partition"
    ]


def test_it_waits_for_a_topic_that_is_not_there_yet(
    kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    bench = Bench(kafka_cluster, topic_prefix, tmp_path)
    with Receiver() as hook, Receiver() as phone:
        sender = bench.start(hook, phone)
        try:
            until(
                lambda: any("complains" in line["event"] for line in sender.lines),
                what="a warning",
            )
            make_topics(kafka_cluster.client_config(), bench.topics)
            bench.produce(STORY[0])
            until(lambda: keys(hook) == ALL[:1], what="the event sent")
            assert sender.stop() == 0
        finally:
            sender.process.kill()


def test_a_broker_that_goes_away_is_waited_for(
    kafka_factory: KafkaFactory, topic_prefix: str, tmp_path: Path
) -> None:
    cluster = kafka_factory()
    bench = Bench(cluster, topic_prefix, tmp_path)
    make_topics(cluster.client_config(), bench.topics)
    with Receiver() as hook, Receiver() as phone:
        sender = bench.start(hook, phone)
        try:
            bench.produce(STORY[0])
            until(lambda: bench.committed() == 1, what="the first event committed")
            cluster.kill()
            until(
                lambda: any("complains" in line["event"] for line in sender.lines),
                what="a warning",
            )
            cluster.start()
            bench.produce(STORY[1])
            until(lambda: bench.committed() == 2, what="the second event committed")
            assert sender.stop() == 0
        finally:
            sender.process.kill()
    # A commit may have been under way: an event may be sent again, under the same key.
    assert list(dict.fromkeys(keys(hook))) == ALL[:2]
