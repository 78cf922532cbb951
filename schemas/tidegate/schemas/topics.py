"""Every topic that Tidegate uses, in one table: what it is for and how it must be set.

`tidegate topics create|check`, the workers, the clients and the docs all read this table. A
prefix lets several installations share a cluster.
"""

import re

import msgspec

__all__ = ["DEFAULT_PARTITIONS", "TopicSpec", "Topics"]

DEFAULT_PARTITIONS = 8
"""Of the spans and of partials: the most workers that can share the work. Partials' number can't be
changed later; a partition costs an idle worker well under a millisecond per boundary."""

_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS
_NAME = re.compile(r"[A-Za-z0-9._-]*")
_NAME_MAX = 249  # Kafka's limit for a topic's name

_RECORD_BYTES_MAX = 1_048_576
"""Our own records stay under 512 kB by design (section 3); twice that is room for headers."""


def _compacted_soon(*, segment_mib: int) -> dict[str, str]:
    """Segments close every 10 minutes and are cleaned soon after, so that who reads from the beginning meets
    minutes of history, not days (Kafka's default: 7 days)."""
    return {
        "segment.ms": str(10 * _MINUTE_MS),
        "segment.bytes": str(segment_mib * 1_048_576),
        "min.cleanable.dirty.ratio": "0.1",
        "max.compaction.lag.ms": str(20 * _MINUTE_MS),
    }


class TopicSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How one topic should be."""

    name: str
    """Full name, with the prefix."""
    purpose: str
    """One line for people."""
    partitions_count: int
    """When `topics create` makes it."""
    partitions_fixed: int = 0
    """The only number of partitions it may have; 0 where any will do."""
    is_ours: bool = True
    """False for the topic that the user's Collector writes: its settings are the user's, and only
    what would break Tidegate is checked."""
    config: dict[str, str]
    """Kafka's topic settings that differ from its defaults or must not be left to them."""


class Topics(msgspec.Struct, frozen=True, kw_only=True):
    """Names of topics, groups and applications of one installation."""

    prefix: str = ""
    """Before every name: letters, digits, `.`, `_` and `-`."""
    spans: str = ""
    """Another name for the topic of OTLP spans, which a Collector may have made; the prefix is not
    put before it."""

    def __post_init__(self) -> None:
        """Raises ValueError for a name that Kafka would refuse."""
        for what, text in (("prefix", self.prefix), ("spans topic", self.spans)):
            if not _NAME.fullmatch(text) or len(text) > _NAME_MAX - 60:
                raise ValueError(
                    f"{what} {text!r} can't be part of a topic's name; use up to {_NAME_MAX - 60} "
                    "letters, digits, `.`, `_` and `-`"
                )

    @property
    def otlp_spans(self) -> str:
        """OTLP spans in."""
        return self.spans or f"{self.prefix}otlp_spans"

    @property
    def partials(self) -> str:
        """Blocks and watermarks, from ingest to evaluate."""
        return f"{self.prefix}tidegate.partials"

    @property
    def decisions(self) -> str:
        """Decisions and leases out."""
        return f"{self.prefix}tidegate.decisions"

    @property
    def health(self) -> str:
        """Scores of every boundary."""
        return f"{self.prefix}tidegate.health"

    @property
    def dlq(self) -> str:
        """Records that could not be decoded."""
        return f"{self.prefix}tidegate.dlq"

    @property
    def otlp_metrics(self) -> str:
        """OTLP metrics in: goroutines, and what the host reporter sends."""
        return f"{self.prefix}otlp_metrics"

    @property
    def control(self) -> str:
        """What operators ask for: policies, roll-outs, overrides, silences."""
        return f"{self.prefix}tidegate.control"

    @property
    def alerts(self) -> str:
        """Alerts out."""
        return f"{self.prefix}tidegate.alerts"

    @property
    def shadow(self) -> str:
        """Decisions of a policy that is tried beside the one in force; never obeyed."""
        return f"{self.prefix}tidegate.shadow"

    @property
    def pairs(self) -> str:
        """Spans of sampled traces, from ingest to pairing."""
        return f"{self.prefix}tidegate.pairs"

    @property
    def graph(self) -> str:
        """The dependency graph as it is now."""
        return f"{self.prefix}tidegate.graph"

    @property
    def alert_group(self) -> str:
        """Consumer group of `tidegate alert`."""
        return f"{self.prefix}tidegate-alert"

    @property
    def metrics_group(self) -> str:
        """Consumer group of ingest for metrics."""
        return f"{self.prefix}tidegate-ingest-metrics"

    @property
    def ingest_group(self) -> str:
        """Consumer group of ingest."""
        return f"{self.prefix}tidegate-ingest"

    @property
    def evaluate_app_id(self) -> str:
        """Faust application id of evaluate, which is its consumer group too."""
        return f"{self.prefix}tidegate-evaluate"

    @property
    def snapshots_table(self) -> str:
        """Name of the Faust table that holds evaluate's snapshots."""
        return "snapshots"

    @property
    def snapshots_changelog(self) -> str:
        """The table's changelog, named as Faust names it: application, table, `changelog`."""
        return f"{self.evaluate_app_id}-{self.snapshots_table}-changelog"

    @property
    def graph_snapshots_table(self) -> str:
        """Name of the Faust table that holds the graph stage's snapshots."""
        return "graph-snapshots"

    @property
    def graph_snapshots_changelog(self) -> str:
        """Its changelog."""
        return f"{self.evaluate_app_id}-{self.graph_snapshots_table}-changelog"

    def specs(
        self, *, partitions_count: int = DEFAULT_PARTITIONS, spans_partitions_count: int = 0
    ) -> tuple[TopicSpec, ...]:
        """All topics; `partitions_count` is that of partials, `spans_partitions_count` that of the
        spans (0: the same)."""
        return (
            TopicSpec(
                name=self.otlp_spans,
                purpose="OTLP spans, from a Collector or from services",
                partitions_count=spans_partitions_count or partitions_count,
                is_ours=False,
                config={"cleanup.policy": "delete"},
            ),
            TopicSpec(
                name=self.otlp_metrics,
                purpose="OTLP metrics (goroutines, host reporter), from a Collector or from services",
                partitions_count=1,
                is_ours=False,
                config={"cleanup.policy": "delete"},
            ),
            TopicSpec(
                name=self.control,
                purpose="policies, roll-outs, overrides and silences: the history of an installation",
                partitions_count=1,
                partitions_fixed=1,  # its offsets number everything that operators ask for
                config={
                    "cleanup.policy": "delete",
                    # Effective boundaries are counted from when a record was appended.
                    "message.timestamp.type": "LogAppendTime",
                    "retention.ms": "-1",
                    "retention.bytes": "-1",
                    "max.message.bytes": str(_RECORD_BYTES_MAX),
                },
            ),
            TopicSpec(
                name=self.partials,
                purpose="blocks and watermarks, from ingest to evaluate",
                partitions_count=partitions_count,
                config={
                    "cleanup.policy": "delete",
                    # evaluate clamps watermarks to the time of append: the broker must stamp it.
                    "message.timestamp.type": "LogAppendTime",
                    # Bounds the longest outage of evaluate that is survived exactly.
                    "retention.ms": str(6 * _HOUR_MS),
                    "max.message.bytes": str(_RECORD_BYTES_MAX),
                },
            ),
            TopicSpec(
                name=self.decisions,
                purpose="the newest decision of each scope, and leases",
                partitions_count=1,
                config={
                    "cleanup.policy": "compact",
                    # Clients judge a decision's age by when it was appended.
                    "message.timestamp.type": "LogAppendTime",
                    "max.message.bytes": str(_RECORD_BYTES_MAX),
                    # A client reads from the beginning when it starts. Leases come every 10 s for
                    # each partition, so old records pile up in the head that compaction has not
                    # reached yet.
                    **_compacted_soon(segment_mib=16),
                    # A client that was away for a while must still meet the tombstones.
                    "delete.retention.ms": str(24 * _HOUR_MS),
                },
            ),
            TopicSpec(
                name=self.health,
                purpose="scores of every boundary, for the graph stage and dashboards",
                partitions_count=1,
                partitions_fixed=1,  # the graph stage pools all callers: one reader
                config={
                    "cleanup.policy": "delete",
                    "message.timestamp.type": "LogAppendTime",
                    "retention.ms": str(_HOUR_MS),
                    "max.message.bytes": str(_RECORD_BYTES_MAX),
                },
            ),
            TopicSpec(
                name=self.pairs,
                purpose="spans of one trace in 32, from ingest to pairing: who answers whom",
                partitions_count=partitions_count,
                config={
                    "cleanup.policy": "delete",
                    # Pairing's clock: a trace is held for a minute of it.
                    "message.timestamp.type": "LogAppendTime",
                    "retention.ms": str(_HOUR_MS),
                    "max.message.bytes": str(_RECORD_BYTES_MAX),
                },
            ),
            TopicSpec(
                name=self.graph,
                purpose="the dependency graph as it is now",
                partitions_count=1,
                config={
                    "cleanup.policy": "compact",
                    "max.message.bytes": str(_RECORD_BYTES_MAX),
                    **_compacted_soon(segment_mib=16),
                },
            ),
            TopicSpec(
                name=self.alerts,
                purpose="alerts: start, change, repeat and resolve of incidents",
                partitions_count=1,
                config={
                    "cleanup.policy": "delete",
                    "retention.ms": str(7 * 24 * _HOUR_MS),
                    "max.message.bytes": str(_RECORD_BYTES_MAX),
                },
            ),
            TopicSpec(
                name=self.shadow,
                purpose="decisions of a policy that is tried beside the one in force; never obeyed",
                partitions_count=1,
                config={
                    "cleanup.policy": "delete",
                    "message.timestamp.type": "LogAppendTime",
                    "retention.ms": str(7 * 24 * _HOUR_MS),
                    "max.message.bytes": str(_RECORD_BYTES_MAX),
                },
            ),
            TopicSpec(
                name=self.dlq,
                purpose="records that could not be decoded, unchanged, with the reason as a header",
                partitions_count=1,
                config={
                    "cleanup.policy": "delete",
                    "retention.ms": str(7 * 24 * _HOUR_MS),
                    # Whatever the spans topic let in must fit here, headers included.
                    "max.message.bytes": str(32 * 1_048_576),
                },
            ),
            *(
                TopicSpec(
                    name=name,
                    purpose=purpose,
                    # A Faust table and the topic it is keyed by need the same number.
                    partitions_count=count,
                    partitions_fixed=count,
                    config={
                        "cleanup.policy": "compact",
                        "max.message.bytes": str(_RECORD_BYTES_MAX),
                        # A worker that takes over reads all of it: deleted snapshots must go soon.
                        **_compacted_soon(segment_mib=64),
                        # Workers rebuild from the whole changelog, so tombstones need not last.
                        "delete.retention.ms": str(_HOUR_MS),
                    },
                )
                for name, purpose, count in (
                    (
                        self.snapshots_changelog,
                        "evaluate's snapshots (changelog of a Faust table)",
                        partitions_count,
                    ),
                    (
                        self.graph_snapshots_changelog,
                        "the graph stage's snapshots (changelog of a Faust table)",
                        1,
                    ),
                )
            ),
        )
