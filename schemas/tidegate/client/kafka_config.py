"""Kafka's connection and security settings, alike for workers, tools and clients.

One file of librdkafka's `key=value` lines, the environment above it, an explicit address above
both. Never prints or logs a value: `redact` does that.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path

from tidegate.client.kafka_keys import FROM_JAVA, KNOWN, OURS, SECRET

__all__ = ["KafkaConfigError", "load_kafka_config", "redact"]

ENV_BROKERS = "TIDEGATE_BROKERS"
ENV_FILE = "TIDEGATE_KAFKA_CONFIG"
ENV_PREFIX = "TIDEGATE_KAFKA_"
ENV_OTHERS = frozenset({ENV_FILE, "TIDEGATE_KAFKA_HOME", "TIDEGATE_KAFKA_JVM"})
"""Begin like settings and are none: the file's path, and where tests keep Kafka's jars."""

PROTOCOLS = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
PORT_MAX = 65_535
PASSWORD_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
FILE_KEYS = ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location")


class KafkaConfigError(ValueError):
    """Settings that can't be right. Says where, what was found, what was expected, what to do."""


def load_kafka_config(
    path: str | None, environ: Mapping[str, str], brokers: str | None
) -> dict[str, str]:
    """Settings for confluent-kafka, `bootstrap.servers` always among them.

    Later ones win: the file (`path`, else $TIDEGATE_KAFKA_CONFIG); TIDEGATE_KAFKA_<KEY> with
    underscores for dots (TIDEGATE_KAFKA_SASL_PASSWORD); $TIDEGATE_BROKERS; `brokers`.
    Raises KafkaConfigError.
    """
    config: dict[str, str] = {}
    origin: dict[str, str] = {}
    file = path or environ.get(ENV_FILE)
    if file:
        _read_file(file, config, origin)
    for variable, value in sorted(environ.items()):
        # Empty is unset: that is what compose files and CI systems make of a missing variable.
        if value and variable.startswith(ENV_PREFIX) and variable not in ENV_OTHERS:
            key = _canonical(_key_of(variable), variable)
            config[key], origin[key] = value, variable
    for source, text in ((ENV_BROKERS, environ.get(ENV_BROKERS)), ("--brokers", brokers)):
        if text:
            config["bootstrap.servers"], origin["bootstrap.servers"] = text, source
    _check(config, origin)
    return config


def redact(config: Mapping[str, str]) -> dict[str, str]:
    """The same settings for logs and messages, secrets replaced by `***`."""
    return {key: "***" if _is_secret(key) else value for key, value in config.items()}


def _is_secret(key: str) -> bool:
    # Beside the known ones, whatever is named like one: a future key must not leak.
    return key in SECRET or any(word in key for word in ("password", "secret", "key.pem", "jaas"))


def _read_file(file: str, config: dict[str, str], origin: dict[str, str]) -> None:
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except OSError as problem:
        raise KafkaConfigError(
            f"{file}: can't be read ({problem.strerror}); --kafka-config or ${ENV_FILE} should name "
            "a file of key=value lines"
        ) from problem
    except UnicodeDecodeError as problem:
        raise KafkaConfigError(f"{file}: is not text; expected key=value lines") from problem
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"{file}:{number}"
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        name, equals, value = stripped.partition("=")
        if not equals:
            # The line is not shown: it may be half of a password.
            raise KafkaConfigError(
                f"{where}: no `=` in this line; expected key=value, or # before a comment"
            )
        key = _canonical(name.strip(), where)
        if key in config:
            raise KafkaConfigError(
                f"{where}: {key} is given twice, first at {origin[key]}; remove one of the two"
            )
        config[key], origin[key] = value.strip(), where


def _key_of(variable: str) -> str:
    return variable.removeprefix(ENV_PREFIX).lower().replace("_", ".")


def _canonical(key: str, where: str) -> str:
    """The key as Tidegate passes it on."""
    if key == "sasl.mechanisms":  # librdkafka takes both
        return "sasl.mechanism"
    if key == "metadata.broker.list":
        return "bootstrap.servers"
    if key in KNOWN:
        return key
    if key in OURS:
        raise KafkaConfigError(
            f"{where}: {key} is set by Tidegate itself ({OURS[key]}); remove this line"
        )
    if key in FROM_JAVA:
        raise KafkaConfigError(f"{where}: {key} is a setting of Java clients; {FROM_JAVA[key]}")
    near = difflib.get_close_matches(key, KNOWN, n=1, cutoff=0.75)
    hint = f"did you mean {near[0]}?" if near else "see docs/security.md for those it passes on"
    raise KafkaConfigError(f"{where}: {key!r} is not a Kafka setting that Tidegate knows; {hint}")


def _check(config: dict[str, str], origin: Mapping[str, str]) -> None:
    _check_brokers(config.get("bootstrap.servers"), origin.get("bootstrap.servers", ""))
    protocol = config.get("security.protocol", "plaintext").lower()
    if protocol not in PROTOCOLS:
        near = difflib.get_close_matches(protocol.replace("-", "_"), PROTOCOLS, n=1)
        hint = f"; did you mean {near[0].upper()}?" if near else ""
        raise KafkaConfigError(
            f"{origin['security.protocol']}: security.protocol: {config['security.protocol']!r} is "
            f"not one of {', '.join(name.upper() for name in PROTOCOLS)}{hint}"
        )
    _check_sasl(config, origin, protocol)
    if not protocol.endswith("ssl"):
        _refuse_unused(
            (key for key in config if key.startswith("ssl.")), origin, protocol, "SSL or SASL_SSL"
        )
    for key in FILE_KEYS:
        value = config.get(key, "")
        if value and value != "probe" and not Path(value).exists():
            raise KafkaConfigError(
                f"{origin[key]}: {key}: there is no file {value} (a relative path starts at the "
                "current folder)"
            )
    has_certificate = any(key.startswith("ssl.certificate.") for key in config)
    has_key = any(key in config for key in ("ssl.key.location", "ssl.key.pem"))
    if has_certificate != has_key:
        given, missing = ("certificate", "key") if has_certificate else ("key", "certificate")
        key = next(key for key in config if key.startswith(f"ssl.{given}."))
        raise KafkaConfigError(
            f"{origin[key]}: {key} without its {missing}; give ssl.{missing}.location as well"
        )


def _check_brokers(brokers: str | None, where: str) -> None:
    if not brokers:
        raise KafkaConfigError(
            f"no broker given; use --brokers HOST:PORT, ${ENV_BROKERS}, or bootstrap.servers in the "
            "file that --kafka-config names"
        )
    for text in brokers.split(","):
        host, colon, port = text.strip().rpartition(":")
        if not colon or not host or not port.isdecimal() or not 0 < int(port) <= PORT_MAX:
            raise KafkaConfigError(
                f"{where}: {text.strip()!r} is not HOST:PORT; give one or more, with commas between"
            )


def _check_sasl(config: Mapping[str, str], origin: Mapping[str, str], protocol: str) -> None:
    if not protocol.startswith("sasl"):
        _refuse_unused(
            (key for key in config if key.startswith("sasl.")), origin, protocol, "SASL_SSL"
        )
        return
    mechanism = config.get("sasl.mechanism")
    if mechanism is None:
        raise KafkaConfigError(
            f"{origin['security.protocol']}: security.protocol is {protocol.upper()} and there is no "
            f"sasl.mechanism; give one of {', '.join(PASSWORD_MECHANISMS)}"
        )
    if mechanism.upper() not in PASSWORD_MECHANISMS:
        return  # GSSAPI and OAUTHBEARER have settings of their own, which librdkafka checks
    for key in ("sasl.username", "sasl.password"):
        if not config.get(key):
            variable = ENV_PREFIX + key.upper().replace(".", "_")
            raise KafkaConfigError(
                f"{origin['sasl.mechanism']}: sasl.mechanism is {mechanism} and there is no {key}; "
                f"give it in the file or as ${variable}"
            )


def _refuse_unused(
    keys: Iterable[str], origin: Mapping[str, str], protocol: str, needed: str
) -> None:
    """A secret that is silently not used means a connection less safe than was meant."""
    for key in keys:
        raise KafkaConfigError(
            f"{origin[key]}: {key} has no effect while security.protocol is {protocol.upper()}; "
            f"set security.protocol={needed}, or remove the line"
        )
