"""The least access each role needs on a secured cluster, as data: the docs, the command that prints
it and the tests on a real broker all read this table.
"""

from enum import StrEnum

import msgspec

from tidegate.schemas.topics import Topics

__all__ = ["ROLES", "Access", "Role", "acl_commands", "role_access"]


class Role(StrEnum):
    """Who talks to Kafka."""

    INGEST = "ingest"
    """A worker with `--role ingest`."""
    EVALUATE = "evaluate"
    """A worker with `--role evaluate`."""
    GRAPH = "graph"
    """A worker with `--role graph`."""
    ALERT = "alert"
    """`tidegate alert`."""
    CLIENT = "client"
    """A service with the thin client; `tidegate watch` too."""
    EXPORTER = "exporter"
    """What writes spans: KafkaSpanExporter, a Collector."""
    OPERATOR = "operator"
    """Who runs `tidegate override`, `silence`, `policy push`, `graph` and `findings`."""
    TOOLS = "tools"
    """An operator's `tidegate topics create|check` and `tidegate dump`."""


_LEADER = "leads the group: hands out its topics to workers of all roles"

ROLES: tuple[str, ...] = tuple(role.value for role in Role)


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Operations allowed on one resource."""

    operations: tuple[str, ...]
    """Kafka's names; READ and WRITE include DESCRIBE."""
    resource: str
    """`topic`, `group` or `cluster`."""
    name: str
    why: str


def role_access(role: Role, topics: Topics) -> tuple[Access, ...]:
    """What this role must be allowed; nothing else is needed."""
    if role is Role.INGEST:
        return (
            _topic(topics.otlp_spans, "consumes spans", "READ"),
            _group(topics.ingest_group, "commits what it has delivered"),
            _topic(topics.otlp_metrics, "consumes metrics", "READ"),
            _group(topics.metrics_group, "commits what it has delivered"),
            _topic(topics.partials, "writes blocks and watermarks", "WRITE"),
            _topic(topics.pairs, "writes spans of sampled traces", "WRITE"),
            _topic(topics.dlq, "keeps undecodable records", "WRITE"),
        )
    if role is Role.EVALUATE:
        return (
            _topic(
                topics.partials,
                "consumes blocks; pairing and the sequencer write",
                "READ",
                "WRITE",
            ),
            _topic(topics.control, "what operators ask for", "READ"),
            _topic(topics.pairs, "learns who answers whom", "READ"),
            _group(topics.evaluate_app_id, "commits behind its snapshots"),
            _topic(topics.snapshots_changelog, "snapshots, read back at start", "READ", "WRITE"),
            _topic(topics.decisions, "publishes decisions and leases", "WRITE"),
            _topic(topics.health, "publishes scores; the sequencer writes", "WRITE"),
            _topic(topics.alerts, "publishes alerts", "WRITE"),
            _topic(topics.shadow, "publishes what is tried", "WRITE"),
            _topic(topics.dlq, "keeps undecodable records", "WRITE"),
            _topic(topics.graph_snapshots_changelog, _LEADER, "DESCRIBE"),
        )
    if role is Role.GRAPH:
        return (
            _topic(topics.health, "consumes increments and scores", "READ"),
            *(
                _topic(name, _LEADER, "DESCRIBE")
                for name in (
                    topics.partials,
                    topics.pairs,
                    topics.control,
                    topics.snapshots_changelog,
                )
            ),
            _group(topics.evaluate_app_id, "commits behind its snapshots"),
            _topic(
                topics.graph_snapshots_changelog, "snapshots, read back at start", "READ", "WRITE"
            ),
            _topic(topics.decisions, "publishes decisions and a lease", "WRITE"),
            _topic(topics.alerts, "publishes alerts", "WRITE"),
            _topic(topics.graph, "publishes the graph", "WRITE"),
        )
    if role is Role.ALERT:
        return (
            _topic(topics.alerts, "consumes alerts", "READ"),
            _topic(topics.graph, "groups alerts by their cause", "READ"),
            _group(topics.alert_group, "commits what it has sent"),
            _topic(topics.dlq, "keeps what no channel took", "WRITE"),
        )
    if role is Role.CLIENT:
        return (_topic(topics.decisions, "follows decisions; needs no group", "READ"),)
    if role is Role.EXPORTER:
        return (
            _topic(topics.otlp_spans, "writes spans", "WRITE"),
            _topic(topics.otlp_metrics, "writes metrics", "WRITE"),
        )
    if role is Role.OPERATOR:
        return (
            _topic(topics.control, "asks for policies, overrides, silences", "READ", "WRITE"),
            _topic(topics.decisions, "the kill switch; sees what came of it", "READ", "WRITE"),
            _topic(topics.graph, "sees the graph and its findings", "READ"),
        )
    ours = [spec for spec in topics.specs() if spec.is_ours]
    theirs = [spec for spec in topics.specs() if not spec.is_ours]
    return (
        *(
            _topic(spec.name, "make and check", "CREATE", "DESCRIBE", "DESCRIBE_CONFIGS")
            for spec in theirs
        ),
        *(
            _topic(
                spec.name,
                "make, check, mend, dump",
                "READ",
                "CREATE",
                "DESCRIBE_CONFIGS",
                "ALTER",
                "ALTER_CONFIGS",
            )
            for spec in ours
        ),
    )


def acl_commands(role: str, topics: Topics, principal: str) -> list[str]:
    """kafka-acls.sh commands that allow it."""
    commands = []
    for access in role_access(Role(role), topics):
        operations = " ".join(f"--operation {_shell(name)}" for name in access.operations)
        commands.append(
            f"kafka-acls.sh --add --allow-principal {principal} {operations} "
            f"--{access.resource} {access.name}"
        )
    return commands


def _shell(operation: str) -> str:
    """DESCRIBE_CONFIGS is DescribeConfigs to Kafka's tools."""
    return operation.title().replace("_", "")


def _topic(name: str, why: str, *operations: str) -> Access:
    return Access(operations=operations, resource="topic", name=name, why=why)


def _group(name: str, why: str) -> Access:
    return Access(operations=("READ",), resource="group", name=name, why=why)
