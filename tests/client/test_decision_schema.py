"""The published JSON Schema is the one of the type, and real decisions satisfy it."""

import json
from importlib.resources import files

import jsonschema

from tidegate.client.testing import decision
from tidegate.schemas.decision import decode_decision, encode_decision, json_schema

SCHEMA = files("tidegate.schemas") / "decision.schema.json"


def test_the_published_schema_is_current() -> None:
    """Mend with: python -m tests.client.test_decision_schema > .../decision.schema.json."""
    assert json.loads(SCHEMA.read_text()) == json_schema()


def test_a_decision_satisfies_the_schema_and_reads_back_the_same() -> None:
    said = decision("edge:a->b", "open", admit_ratio=0.0, retry_after_s=31)
    jsonschema.validate(json.loads(encode_decision(said)), json_schema())
    assert decode_decision(encode_decision(said)) == said


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2))
