"""`tidegate alert` as a process, and what it works between."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from tests.alert_send.alerts import SECRETS
from tests.alert_send.receiver import Receiver
from tests.kafka import KafkaCluster
from tidegate.schemas.alert import Alert, encode_alert
from tidegate.schemas.topics import Topics

__all__ = ["Bench", "Sender", "calls"]


class Sender:
    """The running command and its log."""

    def __init__(
        self, cluster: KafkaCluster, topics: Topics, channels: str, log: Path, *more: str
    ) -> None:
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tidegate.streams.cli", "alert"),
                    *("--brokers", cluster.bootstrap, "--topic-prefix", topics.prefix),
                    *("--channels", channels, "--log-format", "json", *more),
                ],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **SECRETS},
            )

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(60)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


class Bench:
    """A broker with topics, two receivers (webhook for both tiers, phone for P1), and senders."""

    def __init__(self, cluster: KafkaCluster, prefix: str, folder: Path) -> None:
        self.cluster, self.topics, self.folder = cluster, Topics(prefix=prefix), folder
        self.senders: list[Sender] = []

    def start(self, hook: Receiver, phone: Receiver, *more: str) -> Sender:
        """A sender, with time-outs that hang long enough to be killed in."""
        path = self.folder / "channels.yaml"
        path.write_text(f"""\
tiers: {{P1: [hook, phone], P2: [hook]}}
tries: {{tries_max: 3, wait_first_s: 0.2, wait_max_s: 0.5}}
channels:
  hook: {{type: webhook, url: "{hook.url}/hook", token_env: HOOK_TOKEN, timeout_s: 30}}
  phone: {{type: pagerduty, url: "{phone.url}/v2/enqueue", routing_key_env: PD_KEY, timeout_s: 30}}
""")
        log = self.folder / f"sender-{len(self.senders)}.log"
        sender = Sender(self.cluster, self.topics, str(path), log, *more)
        self.senders.append(sender)
        return sender

    def produce(self, *alerts: Alert | bytes, at_ms: int = 0) -> None:
        """Onto the alerts topic."""
        producer = Producer(self.cluster.client_config())
        for one in alerts:
            value = one if isinstance(one, bytes) else encode_alert(one)
            key = b"k" if isinstance(one, bytes) else one.id.encode()
            producer.produce(
                self.topics.alerts, value, key=key, timestamp=at_ms or int(time.time() * 1000)
            )
        assert producer.flush(10) == 0

    def committed(self) -> int:
        """The group's offset."""
        group = {"group.id": self.topics.alert_group}
        consumer = Consumer({**self.cluster.client_config(), **group})
        try:
            (where,) = consumer.committed([TopicPartition(self.topics.alerts, 0)], timeout=10)
            return where.offset
        except KafkaException:  # a broker that just came back has no coordinator yet
            return -1
        finally:
            consumer.close()

    def dead_letters(self, count: int) -> list[tuple[bytes | None, dict[str, str]]]:
        """(value, headers) of so many."""
        consumer = Consumer({**self.cluster.client_config(), "group.id": "none"})
        consumer.assign([TopicPartition(self.topics.dlq, 0, 0)])
        found: list[tuple[bytes | None, dict[str, str]]] = []
        try:
            for _ in range(300):
                message = consumer.poll(0.1)
                if message is not None and message.error() is None:
                    headers = {
                        str(name): value.decode() if isinstance(value, bytes) else str(value)
                        for name, value in list(message.headers() or [])
                    }
                    found.append((message.value(), headers))
                if len(found) == count:
                    break
        finally:
            consumer.close()
        return found


def calls(receiver: Receiver) -> list[tuple[str, str]]:
    """(action, dedup key) of what came to the phone."""
    return [(got.json["event_action"], got.json["dedup_key"]) for got in receiver.got]
