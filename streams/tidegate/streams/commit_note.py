"""What ingest writes beside each committed offset, and where it begins to read by it.

Kafka keeps a short text with every committed offset. Ours says who owned the partition (*owner epoch*),
which topic the offset belongs to (a topic made anew starts at offset 0) and how far its time had come.
"""

from collections.abc import Mapping

import msgspec

__all__ = ["CommitNote", "Committed", "Plan", "plan_start"]


class CommitNote(msgspec.Struct, frozen=True, kw_only=True):
    """The text beside a committed offset."""

    epoch: int
    """Grows by one with every assignment of the partition."""
    topic_id: str = ""
    """Kafka's topic id; empty where the broker gives none."""
    incarnation: int = 0
    """Raised when the topic has fewer records than were committed."""
    read_ms: int = 0
    """Kafka time up to which the partition was read, 0 where unknown: its watermark until more is read."""

    def text(self) -> str:
        """As Kafka keeps it."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def read(cls, text: str | None) -> "CommitNote":
        """Epoch 0 where the text isn't ours (a tool that reset offsets wrote none)."""
        try:
            return msgspec.json.decode(text or "", type=cls)
        except msgspec.DecodeError:
            return cls(epoch=0)


class Committed(msgspec.Struct, frozen=True, kw_only=True):
    """A partition's committed offset and its note."""

    offset: int
    note: CommitNote


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Where to begin."""

    source_id: str
    """The topic's name in blocks."""
    incarnation: int
    start: dict[int, int]
    """Partition -> first offset to read."""
    expired: int = 0
    """Records that retention removed before they were read."""


def plan_start(
    topic: str,
    topic_id: str,
    committed: Mapping[int, Committed],
    ends: Mapping[int, tuple[int, int]],
    assigned: list[int],
) -> Plan:
    """Start offsets of the assigned partitions.

    `committed` holds every partition of the topic that has a committed offset, `ends` (low, end) of
    every partition: an incarnation belongs to the whole topic, or its partitions would go by several
    names. Workers that come to this at the same time agree: the first raises it, and the others find
    their own notes older than the highest one.
    """
    ours = {p: c for p, c in committed.items() if c.note.topic_id in (topic_id, "")}
    highest = max((c.note.incarnation for c in ours.values()), default=0)
    is_shrunk = any(
        p in ends and c.offset > ends[p][1] and c.note.incarnation == highest
        for p, c in ours.items()
    )
    incarnation = highest + is_shrunk
    start, expired = {}, 0
    for partition in assigned:
        low, end = ends[partition]
        mine = ours.get(partition)
        start[partition] = low
        if mine is not None and mine.note.incarnation == incarnation and mine.offset <= end:
            start[partition] = max(low, mine.offset)
            expired += max(0, low - mine.offset)
    name = topic_id or topic
    source_id = f"{name}#{incarnation}" if incarnation or not topic_id else name
    return Plan(source_id=source_id, incarnation=incarnation, start=start, expired=expired)
