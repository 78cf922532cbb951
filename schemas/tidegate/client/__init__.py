"""Thin client: follows the decisions topic, answers from memory, never in the way of a request."""

from tidegate.client.admission import AdmissionState, Priority, Request, Verdict, admit
from tidegate.client.client import Answer, Client
from tidegate.client.kafka_config import KafkaConfigError, load_kafka_config

__all__ = [
    "AdmissionState",
    "Answer",
    "Client",
    "KafkaConfigError",
    "Priority",
    "Request",
    "Verdict",
    "admit",
    "load_kafka_config",
]
