"""The control topic's meaning: which records count, from when, and which of them still matter. Pure.

A function of the topic's records alone: the sequencer that reads it again after a restart, and a command
that shows its history, come to the same. What is written to partitions is made here, too.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from tidegate.rules.policy import PolicyError, load_policy
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.control import (
    Abort,
    ControlEntry,
    ControlRecord,
    LatchReset,
    OverrideClear,
    OverrideSet,
    PolicyPush,
    Promote,
    Relearn,
    SilenceClear,
    SilenceSet,
    decode_control,
    encode_control,
)
from tidegate.schemas.partials import RECORD_BYTES_MAX
from tidegate.streams.control_check import problems_of

__all__ = [
    "Accepted",
    "ControlLog",
    "InForce",
    "Refused",
    "batches_of",
    "entry_of",
    "in_force",
]

BEHIND_MAX_MS = 6 * 3_600_000
"""What ended longer ago matters to no partition: partials are kept for so long (`schemas/topics.py`)."""
POLICY_BYTES_MAX = RECORD_BYTES_MAX * 3 // 4
"""A policy's content must fit into a record of partials, with whatever is sent beside it."""
_ENTRY_BYTES = 200
"""More than an entry's own fields, and the record's head, take beside the texts."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A record that counts."""

    offset: int
    append_ms: int
    effective_boundary: int
    record: ControlRecord
    """As it was asked, a policy's text left out."""
    policy: bytes = b""
    """Of a policy: its content."""
    label: str = ""
    """Of a policy: NAME@VERSION."""
    text: str = ""
    """Of a policy: the YAML."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that does not count: what was in force stays."""

    offset: int
    append_ms: int
    record: ControlRecord | None
    """None where it can't be told what was meant."""
    problems: tuple[str, ...]
    is_undecodable: bool = False
    """No JSON, or of a kind that this version doesn't know."""


class _Head(msgspec.Struct):
    kind: str


_KINDS = frozenset(
    str(kind.__struct_config__.tag)
    for kind in (
        PolicyPush,
        Promote,
        Abort,
        OverrideSet,
        OverrideClear,
        LatchReset,
        Relearn,
        SilenceSet,
        SilenceClear,
    )
)
_head_decoder = msgspec.json.Decoder(_Head)


class ControlLog:
    """Told the topic's records in their order, says which of them count."""

    def __init__(self, *, switch_lead_ms: int) -> None:
        """switch_lead_ms: how far ahead of its append time a record takes effect."""
        self._lead_ms = switch_lead_ms
        self._boundary = 0
        self._has_candidate = False

    def take(self, value: bytes | None, *, offset: int, append_ms: int) -> Accepted | Refused:
        """The next record."""
        try:
            record = decode_control(value or b"")
        except msgspec.DecodeError as problem:
            is_unknown = _kind_of(value or b"") not in _KINDS
            return Refused(offset, append_ms, None, (str(problem),), is_undecodable=is_unknown)
        except UnicodeDecodeError as problem:
            return Refused(offset, append_ms, None, (str(problem),), is_undecodable=True)
        problems = problems_of(record, append_ms=append_ms)
        if isinstance(record, Promote | Abort) and not self._has_candidate:
            problems = (*problems, "no policy is tried; push one with --grey or --shadow first")
        if problems:
            return Refused(offset, append_ms, record, problems)
        read, text = _Read(), ""
        if isinstance(record, PolicyPush):
            text = record.text
            read = _policy_of(text, record.where or f"control record {offset}")
            if read.problems:
                return Refused(offset, append_ms, record, read.problems)
            record = msgspec.structs.replace(record, text="")
        self._note(record)
        # An append time below the one before (another broker leads, with another clock) must not make a
        # later record overtake.
        wanted = -(-(append_ms + self._lead_ms) // BUCKET_MS)
        self._boundary = boundary = max(self._boundary, wanted)
        return Accepted(
            offset, append_ms, boundary, record, read.content, read.label, text, read.warnings
        )

    def _note(self, record: ControlRecord) -> None:
        if isinstance(record, PolicyPush):
            self._has_candidate = record.rollout != "full"
        elif isinstance(record, Promote | Abort):
            self._has_candidate = False


@dataclass(frozen=True, slots=True)
class _Read:
    content: bytes = b""
    label: str = ""
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@lru_cache(64)
def _policy_of(text: str, where: str) -> _Read:
    """Kept, since the topic is read again at each rebalance."""
    try:
        policy = load_policy(text, where=where)
    except PolicyError as problem:
        return _Read(problems=tuple(str(problem).splitlines()))
    content = policy.content()
    if len(content) > POLICY_BYTES_MAX:
        told = f"{where}: has {len(content)} bytes packed; at most {POLICY_BYTES_MAX} fit into a record"
        return _Read(problems=(told,))
    return _Read(content, policy.label, policy.warnings)


def _kind_of(value: bytes) -> str:
    try:
        return _head_decoder.decode(value).kind
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


class InForce:
    """What a partition must still be told, whatever prefix of the records it has heard already, to come to
    the state of one that has heard all. Told the accepted ones in their order."""

    def __init__(self) -> None:
        self._policy: list[Accepted] = []
        """That all run: one push, or a candidate and its promotion."""
        self._tried: Accepted | None = None
        """The newest candidate since, or the abort that ended one."""
        self._by_scope: dict[tuple[str, str], _Newest] = {}
        self._now_ms = 0

    def add(self, one: Accepted) -> None:
        """The next record."""
        self._now_ms = max(self._now_ms, one.append_ms)
        match one.record:
            case PolicyPush(rollout="full"):
                self._policy, self._tried = [one], None
            case Promote():
                self._policy, self._tried = [*([self._tried] if self._tried else []), one], None
            case PolicyPush() | Abort():
                self._tried = one
            case OverrideSet(scope=scope, until_ms=until_ms):
                self._replace(("override", scope), one, until_ms)
            case SilenceSet(scope=scope, until_ms=until_ms):
                self._replace(("silence", scope), one, until_ms)
            case OverrideClear(scope=scope):
                self._replace(("override", scope), one, 0)
            case SilenceClear(scope=scope):
                self._replace(("silence", scope), one, 0)
            case LatchReset(scope=scope):
                self._replace(("latch", scope), one, _NEVER_MS)
            case Relearn(scope=scope):
                self._replace(("relearn", scope), one, _NEVER_MS)

    def records(self) -> list[Accepted]:
        """In order, offsets as they were."""
        over = [
            key
            for key, newest in self._by_scope.items()
            if newest.over_ms + BEHIND_MAX_MS <= self._now_ms
        ]
        for key in over:
            del self._by_scope[key]
        tried = [self._tried] if self._tried else []
        newest = [each.one for each in self._by_scope.values()]
        return sorted([*self._policy, *tried, *newest], key=lambda one: one.offset)

    def _replace(self, key: tuple[str, str], one: Accepted, over_ms: int) -> None:
        before = self._by_scope.get(key)
        self._by_scope[key] = _Newest(one, max(over_ms, before.over_ms if before else 0))


@dataclass(frozen=True, slots=True)
class _Newest:
    """Of a scope: the record that replaced all before."""

    one: Accepted
    over_ms: int
    """When this and all that it replaced are over by themselves: until then somebody who has heard only
    those must be told of this."""


_NEVER_MS = 1 << 62


def in_force(accepted: Iterable[Accepted]) -> list[Accepted]:
    """`InForce`, of all at once."""
    fold = InForce()
    for one in accepted:
        fold.add(one)
    return fold.records()


def entry_of(one: Accepted, topic_id: str) -> ControlEntry:
    """As it stands in each partition's log."""
    return ControlEntry(
        topic_id, one.offset, one.effective_boundary, encode_control(one.record), one.policy
    )


def batches_of(accepted: Iterable[Accepted], topic_id: str) -> Iterator[list[ControlEntry]]:
    """As they stand in each log, many in a record: whether of partials or of health, it stays below
    RECORD_BYTES_MAX."""
    batch: list[ControlEntry] = []
    bytes_count = _ENTRY_BYTES
    for one in accepted:
        entry = entry_of(one, topic_id)
        more = len(entry.record) + len(entry.policy) + len(topic_id) + _ENTRY_BYTES
        if batch and bytes_count + more >= RECORD_BYTES_MAX:
            yield batch
            batch, bytes_count = [], _ENTRY_BYTES
        batch.append(entry)
        bytes_count += more
    if batch:
        yield batch
