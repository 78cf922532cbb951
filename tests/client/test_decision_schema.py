"""The published JSON Schema is the one of the type, and real decisions satisfy it."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tidegate.client.testing import decision
from tidegate.schemas.decision import decode_decision, encode_decision, json_schema
from tidegate.schemas.level import LEVEL_NAMES

SCHEMA = files("tidegate.schemas") / "decision.schema.json"
GOLDENS = sorted((Path(__file__).parents[1] / "goldens").glob("*/decisions*.jsonl"))


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    published = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(published)
    return jsonschema.Draft202012Validator(published)


def test_the_published_schema_is_current() -> None:
    """Mend with: python -m tests.client.test_decision_schema > .../decision.schema.json."""
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == json_schema()


@pytest.mark.parametrize("level", LEVEL_NAMES)
def test_a_decision_satisfies_the_schema_and_reads_back_the_same(
    level: Any, validator: jsonschema.Draft202012Validator
) -> None:
    said = decision("edge:a->b", level, admit_ratio=0.0, retry_after_s=31, slow_over_ms=250)
    validator.validate(json.loads(encode_decision(said)))
    assert decode_decision(encode_decision(said)) == said


def test_there_are_golden_decisions_to_try() -> None:
    assert len(GOLDENS) >= 6


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_golden_decision_satisfies_the_schema(
    golden: Path, validator: jsonschema.Draft202012Validator
) -> None:
    lines = golden.read_bytes().splitlines()
    assert lines or golden.parent.name == "healthy_jitter"
    for line in lines:
        validator.validate(json.loads(line))
        assert encode_decision(decode_decision(line)) == line


@pytest.mark.parametrize(
    "change",
    [
        {"level": "exploded"},
        {"mode": "maybe"},
        {"boundary": "7"},
        {"actions": {"admit_ratio": 1.0}},
        {"signals": None},
        {"exemplars": [1]},
    ],
    ids=str,
)
def test_what_is_no_decision_does_not_satisfy_the_schema(
    change: dict[str, Any], validator: jsonschema.Draft202012Validator
) -> None:
    said = json.loads(encode_decision(decision("edge:a->b", "open")))
    assert validator.is_valid(said)
    assert not validator.is_valid({**said, **change})
    assert not validator.is_valid({key: said[key] for key in said if key != "scope"})


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2))
