"""Workers of the graph stage that are killed and frozen in the middle: what stands on the topics is what follows
from the log, byte for byte, and no boundary is missing.
"""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.exactness.live_golden import Run, law_one
from tests.graph_stage.shop import POLICY, Shop, stands_on
from tests.kafka import KafkaCluster
from tests.streams.live import SESSION_S, Worker, log_of, make_topics, until
from tidegate.schemas.decision import decode_lease
from tidegate.schemas.graph import decode_view
from tidegate.schemas.health import decode_health
from tidegate.schemas.topics import Topics

PARTITIONS = 3
REBUILT = "graph stage rebuilt"


@contextlib.contextmanager
def open_for_business(shop: Shop) -> Iterator[None]:
    """Some times as fast as life; each minute's second half is faulty."""
    ended = threading.Event()

    def write() -> None:
        for number in range(10_000):
            if ended.is_set():
                return
            shop.write(2.0, is_faulty=number % 30 >= 15)
            time.sleep(0.4)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(30)


def has_it(worker: Worker) -> bool:
    """Whether the worker's last rebuilding gave it the stage's partition."""
    return "partitions={0:" in worker.log.rpartition(REBUILT)[2].partition("\n")[0]


def newest_boundary(config: Mapping[str, str], topics: Topics) -> int:
    """Of the stage's lease."""
    return max(
        (
            decode_lease(record.value).boundary
            for record in log_of(config, topics.decisions)
            if record.key == f"lease:{PARTITIONS}".encode() and record.value is not None
        ),
        default=0,
    )


@pytest.mark.timeout(150)
def test_owners_that_are_killed_and_frozen_past_their_session_change_nothing(
    kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    config, topics = kafka_cluster.client_config(), Topics(prefix=topic_prefix)
    make_topics(config, topics, spans=1, partials=PARTITIONS)
    shop = Shop(config, topics, partitions=PARTITIONS)

    def worker(role: str, name: str) -> Worker:
        return Worker(config, topics, tmp_path, "--role", role, name=name)

    def goes_on() -> None:
        at = newest_boundary(config, topics)
        until(
            lambda: newest_boundary(config, topics) >= at + 40,
            what="the stage going on",
            every_s=0.5,
        )

    with (
        worker("evaluate", "e") as evaluate,
        worker("graph", "a") as a,
        worker("graph", "b") as b,
    ):
        for one in (a, b):
            one.wait_for(REBUILT)
        evaluate.wait_for("partitions rebuilt")
        until(lambda: has_it(a) is not has_it(b), what="one owner")
        with open_for_business(shop):
            goes_on()
            first, second = (a, b) if has_it(a) else (b, a)
            rebuilt = first.log.count(REBUILT)
            first.freeze()
            until(lambda: has_it(second), what="a takeover")
            goes_on()
            first.thaw()
            until(lambda: first.log.count(REBUILT) > rebuilt, what="its return")
            owner, other = (first, second) if has_it(first) else (second, first)
            owner.kill()
            until(lambda: has_it(other), what="another takeover")
            goes_on()
            other.kill()
            time.sleep(SESSION_S / 2)  # health goes on alone
        with worker("graph", "c") as c:
            c.wait_for(REBUILT)
            until(lambda: has_it(c), what="the stage's last owner")
            end = health_boundary(config, topics)
            until(lambda: newest_boundary(config, topics) > end - 20, what="the end", every_s=0.5)
            assert c.stop() == 0
        assert evaluate.stop() == 0

    law_one(Run(config, topics, PARTITIONS), POLICY)
    found = stands_on(config, topics, partitions=PARTITIONS)
    shown = sorted({decode_view(value).boundary for _, value in found.graphs})
    assert shown == list(range(shown[0], shown[-1] + 1, 10))
    levels = {value.partition(b'"level":"')[2].partition(b'"')[0] for _, value in found.decisions}
    assert len(levels - {b""}) > 1


def health_boundary(config: Mapping[str, str], topics: Topics) -> int:
    """The last one that evaluate has published."""
    return max(decode_health(r.value or b"").boundary for r in log_of(config, topics.health))
