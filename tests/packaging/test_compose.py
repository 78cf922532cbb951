"""docker-compose.yml without a Docker engine: its shape, its images, and that the CLI has what it calls."""

import argparse
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from tidegate.client.kafka_keys import KNOWN
from tidegate.schemas.topics import Topics
from tidegate.streams.cli import build_parser

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_FOLDER = ROOT / "docs" / "compose"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("tidegate:")]


def test_the_file_is_valid_by_the_compose_specification() -> None:
    # The package that carries the schema is found, not imported: only its data is wanted.
    spec = importlib.util.find_spec("check_jsonschema")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = msgspec.json.decode(path.read_bytes())
    jsonschema.Draft202012Validator(schema).validate(COMPOSE)


@pytest.mark.parametrize("name", SERVICES)
def test_images_have_a_version(name: str) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


@pytest.mark.parametrize("name", OURS)
def test_each_command_is_one_that_the_cli_has(name: str) -> None:
    arguments = [str(part) for part in SERVICES[name]["command"]]
    args = build_parser().parse_args(arguments)
    assert callable(args.handler)


@pytest.mark.parametrize("name", OURS)
def test_each_variable_is_one_that_the_help_names(name: str) -> None:
    documented = set(re.findall(r"TIDEGATE_\w+", "\n".join(helps(build_parser()))))
    documented |= {f"TIDEGATE_KAFKA_{key.upper().replace('.', '_')}" for key in KNOWN}
    variables = SERVICES[name].get("environment", {})
    assert variables.keys() <= documented


def helps(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The help texts of a parser and of all below it, unwrapped."""
    yield parser.format_help()
    for action in parser._actions:
        yield str(action.help)
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from helps(below)


@pytest.mark.parametrize("name", OURS)
def test_ours_run_without_root_on_a_read_only_file_system(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert not service["user"].startswith("0")


def test_there_are_two_workers_and_a_topics_job_that_ends_before_they_start() -> None:
    assert SERVICES["worker"]["deploy"]["replicas"] == 2
    assert SERVICES["worker"]["depends_on"]["topics"] == {
        "condition": "service_completed_successfully"
    }
    for name in ("kafka", "worker", "prometheus"):
        assert "test" in SERVICES[name]["healthcheck"]


def test_the_workers_port_is_the_one_that_is_scraped_and_checked() -> None:
    prometheus = yaml.safe_load((COMPOSE_FOLDER / "prometheus.yaml").read_text())
    (job,) = prometheus["scrape_configs"]
    (target,) = job["dns_sd_configs"]
    command = [str(part) for part in SERVICES["worker"]["command"]]
    assert target["names"] == ["worker"]
    assert str(target["port"]) == command[command.index("--metrics-port") + 1]
    assert f":{target['port']}/healthz" in " ".join(SERVICES["worker"]["healthcheck"]["test"])


def test_the_collector_writes_what_tidegate_reads() -> None:
    collector = yaml.safe_load((COMPOSE_FOLDER / "collector.yaml").read_text())
    kafka = collector["exporters"]["kafka"]
    assert kafka["traces"] == {"topic": Topics().otlp_spans, "encoding": "otlp_proto"}
    assert kafka["brokers"] == [SERVICES["worker"]["environment"]["TIDEGATE_BROKERS"]]
    assert kafka["producer"]["required_acks"] == -1
    assert kafka["producer"]["compression"] in {"zstd", "lz4"}
    assert collector["processors"]["batch"]["send_batch_max_size"] <= 2000
    assert "--batch=false" in SERVICES["load"]["command"]


def test_files_that_are_mounted_or_copied_exist() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (ROOT / source).is_file()
    for line in (COMPOSE_FOLDER / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in shlex.split(line)[1:-1]:
                assert (ROOT / source).exists(), source


def test_the_image_is_slim_without_root_and_without_latest() -> None:
    lines = (COMPOSE_FOLDER / "Dockerfile").read_text().splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM")]
    assert len(bases) == 2
    for base in bases:
        assert re.fullmatch(r"python:3\.\d+-slim-\w+", base)
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert users
    assert not users[-1].startswith(("0", "root"))


def test_each_listener_of_kafka_has_a_protocol() -> None:
    environment = SERVICES["kafka"]["environment"]
    listeners = {part.split(":")[0] for part in environment["KAFKA_LISTENERS"].split(",")}
    mapped = {
        part.split(":")[0]
        for part in environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")
    }
    assert listeners == mapped
