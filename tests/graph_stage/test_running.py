"""The graph stage in a worker: what comes out of it, from where it goes on, and what it answers over HTTP."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from tests.graph_stage.shop import POLICY, Shop, follows_from_health, stands_on, stored_manifests
from tests.kafka import KafkaCluster
from tests.streams.evaluating import Running, committed, manifests, running
from tests.streams.live import log_of, make_topics
from tidegate.rules.standing import Manifest
from tidegate.schemas.decision import decode_decision
from tidegate.schemas.graph import decode_view
from tidegate.schemas.topics import Topics
from tidegate.streams.dump import internal_log
from tidegate.streams.graph_pages import Findings
from tidegate.streams.kafka_log import log_spans
from tidegate.streams.metrics import MetricsServer
from tidegate.streams.recompute import Comparison, Recomputed, compare, recompute

PARTITIONS = 3


class Stage:
    """Topics of one test, and a shop."""

    def __init__(self, cluster: KafkaCluster, prefix: str, folder: Path) -> None:
        self.config, self.topics = cluster.client_config(), Topics(prefix=prefix)
        self.folder = folder
        make_topics(self.config, self.topics, spans=1, partials=PARTITIONS)
        self.shop = Shop(self.config, self.topics, partitions=PARTITIONS)

    async def read_all(self, worker: Running) -> None:
        """Until partials and then health have been fed."""
        await worker.read_to_the_end(self.config, self.topics.partials)
        await worker.until(lambda: worker.evaluation._busy_since_s is None)
        (span,) = log_spans(self.config, [self.topics.health])

        def is_read() -> bool:
            assert worker.graph is not None
            one = worker.graph._owned.get(0)
            is_busy = worker.graph._busy_since_s is not None
            return one is not None and one.expected >= span.end and not is_busy

        await worker.until(is_read)

    def check(self) -> None:
        """What stands on the topics is what follows from health."""
        expected = follows_from_health(self.config, self.topics, partitions=PARTITIONS)
        found = stands_on(self.config, self.topics, partitions=PARTITIONS)
        assert found.decisions == expected.decisions
        assert found.graphs == expected.graphs

    def forget_health(self, *, until: int) -> None:
        """As retention does."""
        admin = AdminClient({**self.config, "log_level": 0})
        place = TopicPartition(self.topics.health, 0, until)
        for done in admin.delete_records([place]).values():
            done.result(30)

    def compared(self) -> tuple[Recomputed, Comparison]:
        """What `tidegate replay --internal --compare` finds."""
        header, records = internal_log(self.config, self.topics)
        recomputed, published = recompute(header, records, POLICY)
        return recomputed, compare(header, recomputed, published)

    def manifest(self) -> Manifest:
        """Of the newest snapshot of the graph stage."""
        return stored_manifests(self.config, self.topics, partitions=PARTITIONS)[-1]


@pytest.fixture
def stage(kafka_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path) -> Stage:
    return Stage(kafka_cluster, topic_prefix, tmp_path)


def test_what_comes_out_follows_from_health_and_both_tables_are_rebuilt(stage: Stage) -> None:
    """One app, two tables with different numbers of partitions."""

    async def run() -> dict[str, dict[int, int]]:
        async with running(stage.config, stage.topics, stage.folder, has_graph=True) as worker:
            await stage.read_all(worker)
            assert worker.graph is not None
            starts: dict[str, dict[int, int]] = {}
            for one in (worker.evaluation, worker.graph):
                for tp, offset in one.start_offsets().items():
                    starts.setdefault(tp.topic, {})[tp.partition] = offset
            return starts

    stage.shop.write(50)
    asyncio.run(run())
    restored = {p: manifests(stage.config, stage.topics, p)[0] for p in range(PARTITIONS)}
    graph = stage.manifest()
    assert committed(stage.config, stage.topics, 0, topic=stage.topics.health) == graph.start_offset
    stage.shop.write(45, is_faulty=True)
    assert asyncio.run(run()) == {
        stage.topics.partials: {p: one.start_offset for p, one in restored.items()},
        stage.topics.health: {0: graph.start_offset},
    }
    assert graph.start_offset > 0
    stage.check()

    published = stands_on(stage.config, stage.topics, partitions=PARTITIONS)
    keys = {key.decode() for key, _ in published.decisions}
    assert {"graph:web", "inbound:cart", "inbound:db", "inbound:pay", "lease:3"} <= keys
    worst = {
        decision.scope
        for key, value in published.decisions
        if not key.startswith(b"lease:")
        for decision in (decode_decision(value),)
        if decision.level != "closed"
    }
    assert {"inbound:db", "graph:web"} <= worst
    assert "inbound:pay" not in worst
    boundaries = sorted(decode_view(value).boundary for _, value in published.graphs)
    assert boundaries == list(range(boundaries[0], boundaries[-1] + 1, 10))


def test_health_that_begins_late_is_recomputed_from_a_snapshot_or_left_out_aloud(
    stage: Stage,
) -> None:
    """As an hour later, when retention has removed the oldest records."""

    async def run() -> None:
        async with running(stage.config, stage.topics, stage.folder, has_graph=True) as worker:
            for _ in range(4):
                stage.shop.write(15)
                await stage.read_all(worker)

    asyncio.run(run())
    stored = stored_manifests(stage.config, stage.topics, partitions=PARTITIONS)
    continued, newest = next(one for one in stored if one.start_offset > 0), stored[-1]
    stage.forget_health(until=continued.start_offset)
    recomputed, result = stage.compared()
    assert recomputed.begins_after == {PARTITIONS: continued.boundary}
    assert (result.differences, recomputed.left_out) == ([], [])
    assert result.before > 0
    stage.forget_health(until=newest.offset)
    recomputed, result = stage.compared()
    assert len(recomputed.left_out) == 1
    assert result.differences == []
    assert result.compared > 0  # of evaluate


def test_a_worker_answers_with_the_graph_and_its_findings_or_says_why_not(stage: Stage) -> None:
    async def run() -> None:
        async with running(stage.config, stage.topics, stage.folder, has_graph=True) as worker:
            await worker.until(lambda: worker.graph is not None and worker.graph.is_owner)
            with served(worker) as ask:
                status, body = await asyncio.to_thread(ask, "/graph")
                assert (status, b"no graph has come out" in body) == (404, True)
                stage.shop.write(60)
                await stage.read_all(worker)
                status, body = await asyncio.to_thread(ask, "/graph")
                assert status == 200
                view = decode_view(body)
                assert {node.name for node in view.nodes} == {"web", "cart", "pay", "db"}
                edges = {(edge.caller, edge.callee) for edge in view.edges}
                assert edges == {("web", "cart"), ("web", "pay"), ("cart", "db")}
                status, body = await asyncio.to_thread(ask, "/findings?x=1")
                shown = msgspec.json.decode(body, type=Findings)
                assert (status, shown.boundary) == (200, view.boundary)
                assert shown.findings == view.findings
                known = [record.value or b"" for record in log_of(stage.config, stage.topics.graph)]
                assert msgspec.structs.replace(view, parts=1) in list(map(decode_view, known))
                async with running(
                    stage.config, stage.topics, stage.folder / "other", has_graph=True
                ) as other:
                    await other.until(
                        lambda: other.evaluation.is_owner and worker.evaluation.is_owner
                    )
                    (idle,) = (w for w in (worker, other) if w.graph and not w.graph.is_owner)
                    with served(idle) as ask_idle:
                        status, body = await asyncio.to_thread(ask_idle, "/findings")
                    assert (status, b"another worker" in body) == (404, True)
                    assert stage.topics.graph.encode() in body

    (stage.folder / "other").mkdir()
    asyncio.run(run())


def test_a_worker_without_the_stage_says_so(stage: Stage) -> None:
    async def run() -> None:
        async with running(stage.config, stage.topics, stage.folder) as worker:
            with served(worker) as ask:
                status, body = await asyncio.to_thread(ask, "/graph")
            assert (status, b"runs without the graph stage" in body) == (404, True)

    asyncio.run(run())


@contextmanager
def served(worker: Running) -> Iterator[Callable[[str], tuple[int, bytes]]]:
    """Its port; what a path answers."""
    server = MetricsServer(worker.metrics, host="127.0.0.1", port=0)
    server.start()

    def ask(path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as got:
                return got.status, got.read()
        except urllib.error.HTTPError as problem:
            return problem.code, problem.read()

    try:
        yield ask
    finally:
        server.stop()
