"""The published JSON Schema of alerts is the one of the type, and the alerts of a real incident satisfy it."""

import json
from importlib.resources import files

import jsonschema

from tests.in_force.driving import run
from tidegate.schemas.alert import decode_alert, encode_alert, json_schema

SCHEMA = files("tidegate.schemas") / "alert.schema.json"


def test_the_published_schema_is_current() -> None:
    """Mend with: python -m tests.alerts.test_alert_schema > .../alert.schema.json."""
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == json_schema()


def test_alerts_of_an_incident_satisfy_it_and_read_back_the_same() -> None:
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    alerts = run(pack="reference").alerts
    assert [(alert.event, alert.tier) for alert in alerts if alert.scope == "service:pay"] == [
        ("start", "P2"),
        ("change", "P1"),
    ]
    for alert in alerts:
        validator.validate(json.loads(encode_alert(alert)))
        assert decode_alert(encode_alert(alert)) == alert


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2))
