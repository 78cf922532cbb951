"""The stages that are functions of a log: evaluate reads partials, the graph stage reads health.

What tells them apart, in one place, for the worker that runs them (`evaluate.Evaluation`) and for
`tidegate replay --internal`, which feeds the same logs to the same evaluators.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from tidegate.schemas.topics import Topics

if TYPE_CHECKING:
    from tidegate.rules.evaluator import Evaluator
    from tidegate.rules.graph.evaluator import GraphEvaluator
    from tidegate.rules.policy import Policy
    from tidegate.streams.metrics import StageName

__all__ = [
    "AnyEvaluator",
    "Evaluators",
    "LogStage",
    "evaluate_stage",
    "evaluators_of_graph",
    "evaluators_of_partials",
    "graph_stage",
]

AnyEvaluator: TypeAlias = "Evaluator | GraphEvaluator"


@dataclass(frozen=True, slots=True)
class Evaluators:
    """How a stage's evaluators come about. Each has a number: in decisions, leases and keys of snapshots."""

    first_number: int
    """Of the one that reads the log's partition 0; the others follow."""
    begin: Callable[[int], AnyEvaluator]
    """By number: one that has heard nothing."""
    restore: Callable[[int, bytes, list[bytes]], AnyEvaluator]
    """By number, from a manifest and its chunks. Raises ValueError where they aren't whole."""


@dataclass(frozen=True, slots=True)
class LogStage:
    """A stage of workers."""

    name: "StageName"
    log: str
    """Topic that it reads; each partition has an evaluator of its own."""
    table: str
    """Name of the Faust table with its snapshots; as many partitions as the log."""
    changelog: str
    evaluators: Evaluators


def evaluators_of_partials(policy: "Policy", *, partitions_count: int) -> Evaluators:
    """`policy` is in force until the log says otherwise; `partitions_count` is that of partials."""
    from tidegate.rules.evaluator import Evaluator

    return Evaluators(
        first_number=0,
        begin=lambda number: Evaluator(number, policy, partitions_count=partitions_count),
        restore=lambda number, manifest, chunks: Evaluator.restore(
            number, policy, manifest, chunks, partitions_count=partitions_count
        ),
    )


def evaluators_of_graph(policy: "Policy", *, partitions_count: int) -> Evaluators:
    """As `evaluators_of_partials`; there is one, and its number follows that of the last partition."""
    from tidegate.rules.graph.evaluator import GraphEvaluator

    return Evaluators(
        first_number=partitions_count,
        begin=lambda _: GraphEvaluator(policy, partitions_count=partitions_count),
        restore=lambda _, manifest, chunks: GraphEvaluator.restore(
            policy, manifest, chunks, partitions_count=partitions_count
        ),
    )


def evaluate_stage(topics: Topics, policy: "Policy", *, partitions_count: int) -> LogStage:
    """Of partials."""
    return LogStage(
        name="evaluate",
        log=topics.partials,
        table=topics.snapshots_table,
        changelog=topics.snapshots_changelog,
        evaluators=evaluators_of_partials(policy, partitions_count=partitions_count),
    )


def graph_stage(topics: Topics, policy: "Policy", *, partitions_count: int) -> LogStage:
    """Of health."""
    return LogStage(
        name="graph",
        log=topics.health,
        table=topics.graph_snapshots_table,
        changelog=topics.graph_snapshots_changelog,
        evaluators=evaluators_of_graph(policy, partitions_count=partitions_count),
    )
