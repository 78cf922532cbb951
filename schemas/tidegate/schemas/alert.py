"""What calls people: one `Alert` for each thing that happens to an incident, on `tidegate.alerts`.

JSON, key = id. The published JSON Schema is generated from the type.
"""

from typing import Any, Literal

import msgspec

__all__ = ["ALERT_SCHEMA", "Alert", "AlertSignals", "decode_alert", "encode_alert", "json_schema"]

ALERT_SCHEMA = 1


class AlertSignals(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers over five minutes, null where the alert is about none."""

    requests: int | None = None
    error_ratio: float | None = None
    """Weighted, 0..1."""
    slow_ratio: float | None = None
    """Share of requests slower than the tier's limit, 0..1: P95 is above it where this is above 0.05."""
    p95_over_ms: int | None = None
    """The tier's limit."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One event of one incident. (id, number) never comes with two meanings: send each once."""

    schema: int = ALERT_SCHEMA
    id: str
    """The incident: the same from its start to its end, 16 hex characters."""
    number: int
    """Of the event within the incident, from 1."""
    event: Literal["start", "change", "repeat", "resolve"]
    """change: the tier or the text. repeat: it lasts, and is escalated."""
    tier: Literal["P1", "P2"]
    rule: str
    """What is wrong: `slo`, `L2` to `L5`, `chronic`, `drift`, `hollow`, `telemetry`."""
    scope: str
    """What it is about: `service:NAME`, or `partition:NUMBER` for suspect telemetry."""
    since_ms: int
    """Since when it lasts."""
    at_ms: int
    """Of this event: end of the window that was judged."""
    boundary: int
    partition: int
    title: str
    """One line for people, the scope and what is wrong with it."""
    reason: str
    """The numbers, since when and by which rule."""
    level: str
    """The scope's level."""
    policy: str
    """NAME@VERSION of the policy in force."""
    signals: AlertSignals = AlertSignals()
    exemplars: list[str] = []
    """Up to 5 trace ids (32 hex characters)."""
    silenced: str | None = None
    """Who silenced it and why: it calls nobody. null: it does."""


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(Alert)


def encode_alert(alert: Alert) -> bytes:
    """One line of JSON, without the newline: fields in the type's order, always the same bytes."""
    return _encoder.encode(alert)


def decode_alert(data: bytes) -> Alert:
    """Raises msgspec.DecodeError (ValidationError) for anything that is no alert."""
    return _decoder.decode(data)


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of an alert, generated from the type."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **msgspec.json.schema(Alert),
    }
