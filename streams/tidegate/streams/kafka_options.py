"""The options of every command that talks to Kafka, and what they yield: settings and topic names."""

import argparse
import os
from collections.abc import Mapping

from tidegate.schemas.topics import Topics
from tidegate.streams.errors import UsageError

__all__ = ["add_kafka_options", "kafka_config_of", "topics_of"]

ENV_TOPIC_PREFIX = "TIDEGATE_TOPIC_PREFIX"
ENV_SPANS_TOPIC = "TIDEGATE_SPANS_TOPIC"


def add_kafka_options(parser: argparse.ArgumentParser) -> None:
    """Adds --brokers, --kafka-config, --topic-prefix and --spans-topic."""
    group = parser.add_argument_group("kafka")
    group.add_argument(
        "--brokers",
        metavar="HOST:PORT,...",
        help="bootstrap servers (default: $TIDEGATE_BROKERS, or bootstrap.servers of the file)",
    )
    group.add_argument(
        "--kafka-config",
        metavar="FILE",
        help="librdkafka-style key=value lines: security.protocol, sasl.*, ssl.* (default: "
        "$TIDEGATE_KAFKA_CONFIG); $TIDEGATE_KAFKA_<KEY> overrides a line, so "
        "TIDEGATE_KAFKA_SASL_PASSWORD keeps the password out of the file",
    )
    group.add_argument(
        "--topic-prefix",
        metavar="TEXT",
        help="put before every topic, group and application name, so that several installations "
        f"share a cluster (default: ${ENV_TOPIC_PREFIX}, or nothing)",
    )
    group.add_argument(
        "--spans-topic",
        metavar="NAME",
        help="the topic of OTLP spans, taken as it is, without the prefix (default: "
        f"${ENV_SPANS_TOPIC}, or PREFIXotlp_spans)",
    )


def kafka_config_of(
    args: argparse.Namespace, environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Settings for confluent-kafka. Raises UsageError."""
    # Here, since the client's package loads confluent-kafka, which `--help` should not wait for.
    from tidegate.client.kafka_config import KafkaConfigError, load_kafka_config

    try:
        return load_kafka_config(args.kafka_config, environ, args.brokers)
    except KafkaConfigError as problem:
        raise UsageError(str(problem)) from problem


def topics_of(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Topics:
    """Names of this installation. Raises UsageError."""
    prefix, spans = args.topic_prefix, args.spans_topic
    if prefix is None:
        prefix = environ.get(ENV_TOPIC_PREFIX, "")
    if spans is None:
        spans = environ.get(ENV_SPANS_TOPIC, "")
    try:
        return Topics(prefix=prefix, spans=spans)
    except ValueError as problem:
        raise UsageError(str(problem)) from problem
