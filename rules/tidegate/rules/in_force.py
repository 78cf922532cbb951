"""What operators have put in force in a partition, by its own log: overrides, silences, a candidate policy.

Entries come from the sequencer, each with a number and the boundary from which it is in force. They are
applied in the order of their numbers; one whose number is not above the last one's was applied already.
"""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from tidegate.rules.keys import stable_hash
from tidegate.schemas.control import (
    ControlEntry,
    ControlRecord,
    OverrideClear,
    OverrideSet,
    PolicyPush,
    SilenceClear,
    SilenceSet,
    decode_control,
    encode_control,
)

__all__ = ["ENTRIES_MAX", "Due", "InForce", "is_in_rollout", "is_match"]

ENTRIES_MAX = 1_000
"""Overrides, and silences: more are refused and counted. One pattern is tried on all keys: 60,000 take
about 20 ms."""


@dataclass(slots=True)
class Due:
    """An entry that is applied at this boundary."""

    record: ControlRecord
    policy: bytes
    """Content of a pushed policy; empty for anything else."""
    is_late: bool
    """It came after its boundary."""


@dataclass(slots=True)
class InForce:
    """The state; `save` and `load` carry it through snapshots."""

    topic_id: str = ""
    seq: int = -1
    """Number of the last entry heard, applied or waiting."""
    waiting: list[ControlEntry] = field(default_factory=list)
    overrides: dict[str, OverrideSet] = field(default_factory=dict)
    """By scope as it was set, the newest last."""
    silences: dict[str, SilenceSet] = field(default_factory=dict)

    def offer(self, entries: list[ControlEntry]) -> None:
        """Takes entries of a record of the log."""
        for entry in entries:
            if entry.topic_id == self.topic_id and entry.seq <= self.seq:
                continue
            self.topic_id, self.seq = entry.topic_id, entry.seq
            self.waiting.append(entry)

    def due(self, boundary: int) -> tuple[list[Due], int]:
        """Entries in force from this boundary on, in their order (one that waits holds back those after
        it); and how many there were of a kind that this version does not know."""
        out: list[Due] = []
        unknown_count = 0
        while self.waiting and self.waiting[0].effective_boundary <= boundary:
            entry = self.waiting.pop(0)
            is_late = entry.effective_boundary < boundary
            try:
                out.append(Due(decode_control(entry.record), entry.policy, is_late))
            except msgspec.DecodeError:
                unknown_count += 1
        return out, unknown_count

    def apply(self, record: ControlRecord) -> bool:
        """Overrides and silences. False where there is no room for one more."""
        match record:
            case OverrideSet(scope=scope):
                self.overrides.pop(scope, None)
                if len(self.overrides) >= ENTRIES_MAX:
                    return False
                self.overrides[scope] = record
            case OverrideClear(scope=scope):
                self.overrides.pop(scope, None)
            case SilenceSet(scope=scope):
                self.silences.pop(scope, None)
                if len(self.silences) >= ENTRIES_MAX:
                    return False
                self.silences[scope] = record
            case SilenceClear(scope=scope):
                self.silences.pop(scope, None)
        return True

    def expire(self, now_ms: int) -> list[OverrideSet]:
        """Ends what is over; gives the overrides that ended."""
        over = [o for o in self.overrides.values() if o.until_ms <= now_ms]
        for override in over:
            del self.overrides[override.scope]
        for silence in [s for s in self.silences.values() if s.until_ms <= now_ms]:
            del self.silences[silence.scope]
        return over

    def override_of(self, scope: str) -> OverrideSet | None:
        """The newest one that matches."""
        for override in reversed(self.overrides.values()):
            if is_match(scope, override.scope):
                return override
        return None

    def save(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "topic_id": self.topic_id,
            "seq": self.seq,
            "waiting": [msgspec.msgpack.encode(entry) for entry in self.waiting],
            "overrides": [encode_control(record) for record in self.overrides.values()],
            "silences": [encode_control(record) for record in self.silences.values()],
        }

    def load(self, saved: dict[str, Any]) -> None:
        """The opposite."""
        self.topic_id, self.seq = saved["topic_id"], saved["seq"]
        self.waiting = [msgspec.msgpack.decode(e, type=ControlEntry) for e in saved["waiting"]]
        self.overrides, self.silences = {}, {}
        for raw in (*saved["overrides"], *saved["silences"]):
            self.apply(decode_control(raw))


def is_match(scope: str, pattern: str) -> bool:
    """Whether a scope is meant: `*` is every one."""
    return pattern in ("*", scope) or fnmatchcase(scope, pattern)


def is_in_rollout(service: str, push: PolicyPush) -> bool:
    """Whether a candidate's decisions are published for this service and its edges (grey)."""
    if push.rollout != "grey":
        return False
    if stable_hash(service) < push.share * (1 << 32):
        return True
    return any(fnmatchcase(service, pattern) for pattern in push.services)
