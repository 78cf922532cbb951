"""`tidegate topics create|check|acls`: makes the topics, and says what is wrong with existing ones.

Never deletes anything, never changes the user's topic of spans, and changes ours only with --fix.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from tidegate.schemas.topics import DEFAULT_PARTITIONS, Topics, TopicSpec
from tidegate.streams.acls import ROLES, acl_commands
from tidegate.streams.errors import UsageError
from tidegate.streams.kafka_options import add_kafka_options, kafka_config_of, topics_of
from tidegate.streams.topic_findings import Finding, FoundTopic, compare

if TYPE_CHECKING:
    from tidegate.streams.cluster_admin import ClusterAdmin

__all__ = ["TopicsReport", "add_parser", "check_topics", "create_topics"]

REPLICAS_MAX = 3
"""The replication factor where there are brokers enough."""


class TopicsReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found and what was done."""

    brokers_count: int
    replicas_count: int
    """What was expected, or given to new topics."""
    created: tuple[str, ...] = ()
    fixed: tuple[Finding, ...] = ()
    findings: tuple[Finding, ...] = ()
    """What is left to mend."""


def create_topics(
    config: Mapping[str, str],
    topics: Topics,
    *,
    partitions_count: int | None = None,
    spans_partitions_count: int | None = None,
    replicas_count: int | None = None,
    is_fixing: bool = False,
    timeout_s: float = 30.0,
) -> TopicsReport:
    """Makes what is missing; with `is_fixing`, alters what can be altered; reports the rest.

    `partitions_count` is that of partials (None: what partials has, else the default). Raises
    Failure where the cluster can't be reached or refuses, UsageError for too many replicas.
    """
    from tidegate.streams.cluster_admin import ClusterAdmin

    admin = ClusterAdmin(config, timeout_s)
    report, specs, found = _look(
        admin, topics, partitions_count, spans_partitions_count, replicas_count
    )
    missing = [spec for spec in specs if found[spec.name] is None]
    admin.create(missing, report.replicas_count)
    fixed: list[Finding] = []
    if is_fixing:
        fixed = [f for f in report.findings if f.is_fixable and f.what != "exists"]
        admin.fix(fixed, {spec.name: spec for spec in specs})
    left = [f for f in report.findings if f.what != "exists" and f not in fixed]
    return msgspec.structs.replace(
        report,
        created=tuple(spec.name for spec in missing),
        fixed=tuple(fixed),
        findings=tuple(left),
    )


def check_topics(
    config: Mapping[str, str],
    topics: Topics,
    *,
    partitions_count: int | None = None,
    replicas_count: int | None = None,
    timeout_s: float = 30.0,
) -> TopicsReport:
    """All deviations of the topics as they are. Changes nothing. Raises as `create_topics`."""
    from tidegate.streams.cluster_admin import ClusterAdmin

    admin = ClusterAdmin(config, timeout_s)
    report, _, _ = _look(admin, topics, partitions_count, None, replicas_count)
    return report


def _look(
    admin: "ClusterAdmin",
    topics: Topics,
    partitions_count: int | None,
    spans_partitions_count: int | None,
    replicas_count: int | None,
) -> tuple[TopicsReport, tuple[TopicSpec, ...], dict[str, FoundTopic | None]]:
    brokers_count = admin.brokers_count()
    if replicas_count is not None and replicas_count > brokers_count:
        raise UsageError(
            f"--replication-factor: {replicas_count} replicas need as many brokers, and the cluster "
            f"has {brokers_count}; give at most {brokers_count}"
        )
    replicas = replicas_count or min(REPLICAS_MAX, brokers_count)
    found = admin.describe(spec.name for spec in topics.specs())
    partials = found[topics.partials]
    asked_count = partitions_count
    if partials is not None:
        partitions_count = partials.partitions_count
    specs = tuple(
        _with_min_isr(spec, replicas)
        for spec in topics.specs(
            partitions_count=partitions_count or DEFAULT_PARTITIONS,
            spans_partitions_count=spans_partitions_count or 0,
        )
    )
    findings = [
        finding
        for spec in specs
        for finding in compare(spec, found[spec.name], replicas_count=replicas)
    ]
    if partials is not None and asked_count not in (None, partials.partitions_count):
        findings.append(_fixed_partials(topics, partials.partitions_count, asked_count or 0))
    report = TopicsReport(
        brokers_count=brokers_count, replicas_count=replicas, findings=tuple(findings)
    )
    return report, specs, found


def _fixed_partials(topics: Topics, found_count: int, asked_count: int) -> Finding:
    return Finding(
        topic=topics.partials,
        what="partitions",
        found=str(found_count),
        expected=str(asked_count),
        remedy="the number can't change while workers run, since keys would move: either keep it "
        f"(--partitions {found_count}), or stop all workers, delete {topics.partials}, {topics.health} and "
        f"{topics.snapshots_changelog}, and run `tidegate topics create --partitions "
        f"{asked_count}`; levels then start from closed",
        is_fixable=False,
    )


def _with_min_isr(spec: TopicSpec, replicas_count: int) -> TopicSpec:
    """With three replicas, two must have a record before it counts as written."""
    if not spec.is_ours:
        return spec
    min_isr = "2" if replicas_count >= REPLICAS_MAX else "1"
    return msgspec.structs.replace(spec, config=spec.config | {"min.insync.replicas": min_isr})


# ---- the command ----

_CREATE_EXAMPLES = """\
examples:
  tidegate topics create --brokers localhost:9092
  tidegate topics create --brokers localhost:9092 --partitions 16 --replication-factor 3
  tidegate topics create --kafka-config admin.properties --fix

Running it again does no harm: existing topics stay as they are, unless --fix is given.
exit status: 0 all topics are as they should be, 1 something is left to mend, 2 wrong usage"""
_CHECK_EXAMPLES = """\
examples:
  tidegate topics check --brokers localhost:9092
  tidegate topics check --kafka-config admin.properties --json

exit status: 0 all topics are as they should be, 1 something is to mend, 2 wrong usage"""
_ACLS_EXAMPLES = """\
examples:
  tidegate topics acls --role evaluate --principal User:tidegate-worker
  tidegate topics acls --role client --principal User:checkout --topic-prefix staging.

Prints kafka-acls.sh commands; the options that reach your cluster are yours to add."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `topics create`, `topics check` and `topics acls`."""
    topics = subparsers.add_parser(
        "topics", help="make and check Tidegate's topics", description=sys.modules[__name__].__doc__
    )
    commands = topics.add_subparsers(title="commands", metavar="COMMAND", dest="topics_command")

    create = _add(commands, "create", "make the topics that are missing", _CREATE_EXAMPLES, _create)
    add_kafka_options(create)
    _add_shape(create)
    create.add_argument(
        "--spans-partitions",
        type=_count,
        metavar="N",
        help="of the spans topic, if it is to be made (default: as many as --partitions)",
    )
    create.add_argument(
        "--fix", action="store_true", help="alter settings of existing topics that can be altered"
    )

    check = _add(commands, "check", "say what is wrong and how to mend it", _CHECK_EXAMPLES, _check)
    add_kafka_options(check)
    _add_shape(check)

    acls = _add(commands, "acls", "print a role's least access list", _ACLS_EXAMPLES, _acls)
    acls.add_argument("--role", required=True, choices=ROLES, help="whose access list")
    acls.add_argument(
        "--principal", required=True, metavar="User:NAME", help="as the brokers know the user"
    )
    acls.add_argument("--topic-prefix", metavar="TEXT", help="as for the other commands")
    acls.add_argument("--spans-topic", metavar="NAME", help="as for the other commands")


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    examples: str,
    handler: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(handler=handler)
    return parser


def _add_shape(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--partitions",
        type=_count,
        metavar="N",
        help="of partials: the most workers that can share the work; fixed once made (default: "
        f"what partials has, or {DEFAULT_PARTITIONS})",
    )
    parser.add_argument(
        "--replication-factor",
        type=_count,
        metavar="N",
        help=f"(default: {REPLICAS_MAX}, or the number of brokers if there are fewer)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    parser.add_argument(
        "--timeout-s", type=float, default=30.0, metavar="S", help="for each answer (default 30)"
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def _create(args: argparse.Namespace) -> int:
    report = create_topics(
        kafka_config_of(args),
        topics_of(args),
        partitions_count=args.partitions,
        spans_partitions_count=args.spans_partitions,
        replicas_count=args.replication_factor,
        is_fixing=args.fix,
        timeout_s=args.timeout_s,
    )
    return _print(report, is_json=args.json)


def _check(args: argparse.Namespace) -> int:
    report = check_topics(
        kafka_config_of(args),
        topics_of(args),
        partitions_count=args.partitions,
        replicas_count=args.replication_factor,
        timeout_s=args.timeout_s,
    )
    return _print(report, is_json=args.json)


def _acls(args: argparse.Namespace) -> int:
    for command in acl_commands(args.role, topics_of(args), args.principal):
        sys.stdout.write(f"{command}\n")
    return 0


def _print(report: TopicsReport, *, is_json: bool) -> int:
    if is_json:
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _lines(report))
    return 1 if report.findings else 0


def _lines(report: TopicsReport) -> Iterable[str]:
    for name in report.created:
        yield f"created {name}"
    for finding in report.fixed:
        yield f"fixed {finding.topic}: {finding.what} {finding.found} -> {finding.expected}"
    for finding in report.findings:
        yield f"{finding.topic}: {finding.what}: found {finding.found}, expected {finding.expected}"
        yield f"    {finding.remedy}"
    if not report.findings:
        yield "all topics are as they should be"
