"""What operators ask for: one record each on `tidegate.control`, the history of an installation.

The sequencer is its only reader that acts: it checks each record once and writes it as a `ControlEntry`
into every partition of partials, so that what was in force when is part of each partition's own log.
"""

from typing import Literal

import msgspec

from tidegate.schemas.decision import LevelName

__all__ = [
    "Abort",
    "ControlEntry",
    "ControlRecord",
    "LatchReset",
    "OverrideClear",
    "OverrideSet",
    "PolicyPush",
    "Promote",
    "Relearn",
    "SilenceClear",
    "SilenceSet",
    "decode_control",
    "encode_control",
]


class _Asked(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag=str.lower):
    """Who asked for it, when and why."""

    by: str
    reason: str
    asked_ms: int
    """By the clock of who asked; shown, never computed with."""


class PolicyPush(_Asked, frozen=True, kw_only=True, tag="policy"):
    """A policy: in force for all (`full`), for some services (`grey`), or decided beside (`shadow`)."""

    text: str
    """The YAML as it was written."""
    where: str = ""
    """The file's name, for messages."""
    rollout: Literal["full", "grey", "shadow"] = "full"
    share: float = 0.0
    """grey: share of services, 0..1, by stable hash of their name."""
    services: list[str] = []
    """grey: patterns (fnmatch) of services that are in whatever their hash."""


class Promote(_Asked, frozen=True, kw_only=True, tag="promote"):
    """The candidate policy (grey or shadow) becomes the one in force."""


class Abort(_Asked, frozen=True, kw_only=True, tag="abort"):
    """The candidate policy is dropped."""


class OverrideSet(_Asked, frozen=True, kw_only=True, tag="override"):
    """An operator's level for all scopes that match, above policy and incidents."""

    scope: str
    """A scope or a pattern (fnmatch): `service:payments`, `edge:shop->*`, `*`."""
    level: LevelName
    until_ms: int
    """It ends by itself."""


class OverrideClear(_Asked, frozen=True, kw_only=True, tag="override_clear"):
    """Ends the override that was set with exactly this scope."""

    scope: str


class LatchReset(_Asked, frozen=True, kw_only=True, tag="latch"):
    """Locks (or resets to closed) scopes under the latched protocol that match."""

    scope: str
    action: Literal["lock", "reset"]


class Relearn(_Asked, frozen=True, kw_only=True, tag="relearn"):
    """Forgets the baselines of all scopes that match: they are learned anew."""

    scope: str


class SilenceSet(_Asked, frozen=True, kw_only=True, tag="silence"):
    """Alerts of scopes that match call nobody from `from_ms` until `until_ms` (a maintenance window where
    that lies ahead)."""

    scope: str
    from_ms: int
    until_ms: int


class SilenceClear(_Asked, frozen=True, kw_only=True, tag="silence_clear"):
    """Ends the silence that was set with exactly this scope."""

    scope: str


ControlRecord = (
    PolicyPush
    | Promote
    | Abort
    | OverrideSet
    | OverrideClear
    | LatchReset
    | Relearn
    | SilenceSet
    | SilenceClear
)


class ControlEntry(msgspec.Struct, frozen=True, array_like=True):
    """A control record in a partition's log."""

    topic_id: str
    """Kafka's id of the control topic: offsets begin anew with a topic."""
    seq: int
    """Offset of the record there: entries up to the last one merged are ignored."""
    effective_boundary: int
    """From this boundary on. Who gets it later applies it at the next one and counts that."""
    record: bytes
    """The control record as it is on the control topic, a policy's text left out."""
    policy: bytes = b""
    """For a policy: its checked content (`rules.policy.policy_from_content`)."""


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder: msgspec.json.Decoder[ControlRecord] = msgspec.json.Decoder(ControlRecord)


def encode_control(record: ControlRecord) -> bytes:
    """One line of JSON, without the newline."""
    return _encoder.encode(record)


def decode_control(data: bytes) -> ControlRecord:
    """Raises msgspec.DecodeError (ValidationError) for anything that is no control record."""
    return _decoder.decode(data)
