"""Settings from file and environment: who wins, what is refused and with which words, what is hidden."""

from pathlib import Path

import pytest

from tidegate.client.kafka_config import KafkaConfigError, load_kafka_config, redact

SCRAM_LINES = """\
# the cluster of the shop
bootstrap.servers = a:9092,b:9092
security.protocol=SASL_SSL
sasl.mechanisms=SCRAM-SHA-256
sasl.username=evaluate
sasl.password=p=#ss
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kafka.properties"


def test_a_file_is_read_with_comments_blanks_and_values_that_hold_equals_signs(file: Path) -> None:
    file.write_text("\ufeff\n" + SCRAM_LINES)
    assert load_kafka_config(str(file), {}, None) == {
        "bootstrap.servers": "a:9092,b:9092",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-256",
        "sasl.username": "evaluate",
        "sasl.password": "p=#ss",
    }


def test_the_environment_wins_over_the_file_and_an_argument_over_both(file: Path) -> None:
    file.write_text(SCRAM_LINES)
    environ = {
        "TIDEGATE_KAFKA_CONFIG": str(file),
        "TIDEGATE_KAFKA_SASL_PASSWORD": "other",
        "TIDEGATE_KAFKA_SASL_USERNAME": "",
        "TIDEGATE_BROKERS": "env:1",
        "TIDEGATE_KAFKA_HOME": "/where/the/jars/are",
        "TIDEGATE_ROLE": "not Kafka's",
    }
    config = load_kafka_config(None, environ, None)
    assert config["sasl.password"] == "other"
    assert config["sasl.username"] == "evaluate"
    assert config["bootstrap.servers"] == "env:1"
    assert load_kafka_config(None, environ, "arg:2")["bootstrap.servers"] == "arg:2"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("sasl.pasword=hush", r":1: 'sasl.pasword' is not .* did you mean sasl.password\?"),
        ("\nhush", r":2: no `=` in this line"),
        ("client.id=a\nclient.id=b", r":2: client.id is given twice, first at .*:1"),
        ("acks=1", r":1: acks is set by Tidegate itself \(all, .*\); remove"),
        ("sasl.jaas.config=hush", r":1: .* Java clients; give sasl.username and sasl.password"),
        ("security.protocol=SASL-SSL", r":1: .*'SASL-SSL' is not one of .*did you mean SASL_SSL\?"),
        ("security.protocol=SASL_SSL", r":1: .* there is no sasl.mechanism; give one of PLAIN"),
        (
            "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.username=u",
            r":2: .* no sasl.password; give it in the file or as \$TIDEGATE_KAFKA_SASL_PASSWORD",
        ),
        ("sasl.password=hush", r":1: sasl.password has no effect while .* is PLAINTEXT; set"),
        ("ssl.ca.pem=hush", r":1: ssl.ca.pem has no effect while .* PLAINTEXT; set .*SSL or SASL"),
        ("security.protocol=SSL\nssl.ca.location=/no/ca.pem", r":2: .* no file /no/ca.pem"),
        (
            "security.protocol=SSL\nssl.certificate.pem=hush",
            r":2: ssl.certificate.pem without its key; give ssl.key.location",
        ),
        ("bootstrap.servers=a", r":1: 'a' is not HOST:PORT"),
        ("bootstrap.servers=a:99999", r":1: 'a:99999' is not HOST:PORT"),
    ],
)
def test_what_is_wrong_is_named_with_its_place_and_its_remedy_and_without_the_secret(
    file: Path, lines: str, expected: str
) -> None:
    file.write_text(lines)
    brokers = None if "bootstrap" in lines else "a:1"
    with pytest.raises(KafkaConfigError, match=expected) as caught:
        load_kafka_config(str(file), {}, brokers)
    assert "hush" not in str(caught.value)


def test_a_wrong_variable_is_named_as_the_place() -> None:
    with pytest.raises(KafkaConfigError, match=r"TIDEGATE_KAFKA_SASL_PASWORD: .*sasl.password\?"):
        load_kafka_config(None, {"TIDEGATE_KAFKA_SASL_PASWORD": "x"}, "a:1")


def test_no_broker_and_no_file_are_said_plainly() -> None:
    with pytest.raises(KafkaConfigError, match=r"no broker given; use --brokers HOST:PORT"):
        load_kafka_config(None, {}, None)
    with pytest.raises(KafkaConfigError, match=r"/no/file: can't be read \(No such file"):
        load_kafka_config("/no/file", {}, None)


def test_secrets_are_hidden_even_those_of_keys_to_come() -> None:
    config = {
        "sasl.password": "hush",
        "ssl.key.pem": "hush",
        "sasl.oauthbearer.client.secret": "hush",
        "sasl.some.new.password.of.librdkafka": "hush",
        "sasl.username": "evaluate",
    }
    assert "hush" not in str(redact(config))
    assert redact(config)["sasl.username"] == "evaluate"
