"""A log of health as several evaluate partitions write it, and what the graph stage publishes for it."""

from collections import Counter
from collections.abc import Iterable, Sequence

from tests.exactness.driving import Feed, LogRecord, Published, published_of, straight_log
from tests.graph_scenes.scenes import scene_named
from tidegate.rules.evaluator import Evaluator
from tidegate.rules.graph.evaluator import GraphEvaluator
from tidegate.rules.outputs import Outputs
from tidegate.rules.policy import builtin_policy
from tidegate.schemas.facts import Fact, Loop
from tidegate.schemas.graph import encode_view
from tidegate.schemas.health import encode_health
from tidegate.schemas.partials import encode_aside
from tidegate.schemas.partitioner import partition_of

__all__ = ["PARTITIONS", "POLICY", "health_log", "published", "run"]

PARTITIONS = 3
POLICY = builtin_policy("default")


def health_log(
    scene: str,
    *,
    facts: tuple[tuple[int, Fact], ...] = (),
    loops: tuple[tuple[int, Loop], ...] = (),
) -> tuple[LogRecord, ...]:
    """Of a scene, with facts and loops at the offsets given (by record of partition 0's partials); parts of
    partitions lie between each other as they were appended."""
    feeds = [
        Feed(record.value, record.kafka_ms, 0, offset)
        for offset, record in enumerate(scene_named(scene).records())
    ]
    rows: list[tuple[int, int, int, LogRecord]] = []
    for partition, log in enumerate(straight_log(feeds, partitions_count=PARTITIONS)):
        evaluator = Evaluator(partition, POLICY, partitions_count=PARTITIONS)
        offset = 0
        for number, record in enumerate(log):
            mine = [f for at, f in facts if at == number and _partition(f.caller) == partition]
            circles = [x for at, x in loops if at == number and _partition(x.path[0]) == partition]
            values = [record.value]
            if mine or circles:
                values.insert(
                    0, encode_aside(partitions_count=PARTITIONS, facts=mine, loops=circles)
                )
            for value in values:
                out = evaluator.feed(value, offset=offset, append_ms=record.append_ms)
                offset += 1
                for health in out.health:
                    rows += [
                        (record.append_ms, len(rows), partition, LogRecord(part, record.append_ms))
                        for part in encode_health(health)
                    ]
    rows.sort(key=lambda row: row[:3])
    return tuple(row[3] for row in rows)


def _partition(service: str) -> int:
    return partition_of(service, PARTITIONS)


def published(outputs: Outputs) -> Published:
    """Everything a feed gave out, ordered by boundary, then key."""
    rows = published_of(outputs, PARTITIONS)
    rows += [(view.boundary, "view", encode_view(view)) for view in outputs.views]
    return sorted(rows, key=lambda row: row[:2])


def run(
    log: Iterable[LogRecord] | Sequence[LogRecord],
    evaluator: GraphEvaluator | None = None,
    *,
    first: int = 0,
) -> tuple[list[Outputs], Counter[str]]:
    """What an undisturbed graph stage gives out, by record, and its counters."""
    evaluator = evaluator or GraphEvaluator(POLICY, partitions_count=PARTITIONS)
    counters: Counter[str] = Counter()
    outputs = []
    for offset, record in enumerate(log, first):
        out = evaluator.feed(record.value, offset=offset, append_ms=record.append_ms)
        counters.update(out.counters)
        outputs.append(out)
    return outputs, counters
