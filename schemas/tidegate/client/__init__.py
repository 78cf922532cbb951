"""Thin client: follows the decisions topic, answers from memory, never in the way of a request."""

from tidegate.client.admission import (
    Priority,
    Request,
    Verdict,
    admit,
    nothing_known,
    priority_named,
    strictest,
)
from tidegate.client.client import Client
from tidegate.client.hashing import key_of, position_of
from tidegate.client.kafka_config import KafkaConfigError, load_kafka_config
from tidegate.client.state import AdmissionState, first_state
from tidegate.client.store import Answer

__all__ = [
    "AdmissionState",
    "Answer",
    "Client",
    "KafkaConfigError",
    "Priority",
    "Request",
    "Verdict",
    "admit",
    "first_state",
    "key_of",
    "load_kafka_config",
    "nothing_known",
    "position_of",
    "priority_named",
    "strictest",
]
