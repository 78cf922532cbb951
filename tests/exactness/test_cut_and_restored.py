"""Each golden cut anywhere: what was in memory is gone, a snapshot is restored, the log is read again
from the snapshot's start, and from there on everything published is the same, byte for byte.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import pytest

from tests.exactness.driving import Feed, LogRecord, Published, published_of, straight_log
from tests.goldens.incidents import INCIDENTS, Incident, incident_named
from tests.goldens.recording import as_protobuf, records_of
from tidegate.rules.evaluator import Evaluator
from tidegate.rules.policy import Policy, builtin_policy
from tidegate.rules.standing import Snapshot

PARTITIONS = 2
NAMES = [incident.name for incident in INCIDENTS]


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """A run over one partition's log."""

    log: list[LogRecord]
    published: list[Published]
    """By offset."""
    snapshots: list[Snapshot]

    def after(self, boundary: int) -> Published:
        """What was published for later boundaries."""
        return [row for rows in self.published for row in rows if row[0] > boundary]

    def newest_before(self, offset: int) -> Snapshot | None:
        """The snapshot that a worker killed before reading `offset` has left."""
        return max(
            (s for s in self.snapshots if s.offset < offset),
            key=lambda snapshot: snapshot.boundary,
            default=None,
        )


def feeds_of(incident: Incident, *, sources_count: int = 1) -> list[Feed]:
    """A golden as Kafka would hold it on so many partitions, unevenly."""
    offsets = [0] * sources_count
    out = []
    for number, record in enumerate(records_of(incident)):
        partition = (number * number // 7) % sources_count
        out.append(Feed(as_protobuf(record.spans), record.kafka_ms, partition, offsets[partition]))
        offsets[partition] += 1
    return out


@cache
def undisturbed(name: str, partition: int) -> Undisturbed:
    incident = incident_named(name)
    feeds = feeds_of(incident, sources_count=3)
    log = straight_log(feeds, partitions_count=PARTITIONS, sources_count=3)[partition]
    evaluator = Evaluator(partition, policy(), partitions_count=PARTITIONS)
    published, snapshots = [], []
    for offset, record in enumerate(log):
        out = evaluator.feed(record.value, offset=offset, append_ms=record.append_ms)
        published.append(published_of(out, partition))
        if out.snapshot is not None:
            snapshots.append(out.snapshot)
    assert any(published)
    # Every ten seconds of event time; where records are rare, several fall due with one of them.
    assert len(snapshots) >= incident.seconds / 12
    return Undisturbed(log, published, snapshots)


def policy() -> Policy:
    return builtin_policy("default")


def restored(
    snapshot: Snapshot | None, log: Sequence[LogRecord], partition: int
) -> Iterator[tuple[int, Published, Snapshot | None]]:
    """(offset, published, snapshot) of a worker that takes over."""
    start = 0
    evaluator = Evaluator(partition, policy(), partitions_count=PARTITIONS)
    if snapshot is not None:
        start = snapshot.start_offset
        evaluator = Evaluator.restore(
            partition,
            policy(),
            snapshot.manifest,
            snapshot.chunks,
            partitions_count=PARTITIONS,
        )
    for offset in range(start, len(log)):
        record = log[offset]
        out = evaluator.feed(record.value, offset=offset, append_ms=record.append_ms)
        yield offset, published_of(out, partition), out.snapshot


@pytest.mark.parametrize(
    ("name", "partition"),
    [("error_burst", 0), *((name, 1) for name in NAMES)],
)
def test_restored_from_any_snapshot_the_same_bytes_follow(name: str, partition: int) -> None:
    run = undisturbed(name, partition)
    for number, snapshot in enumerate(run.snapshots):
        # Up to the next snapshot: it is equal to the byte, so what follows is, by induction; the
        # second goes to the end all the same.
        later = run.snapshots[number + 1 : number + 2]
        end = later[0].boundary if later and number != 1 else None
        expected = [row for row in run.after(snapshot.boundary) if end is None or row[0] <= end]
        got: Published = []
        for _, published, taken in restored(snapshot, run.log, partition):
            got += published
            if taken is not None:
                same = next(s for s in run.snapshots if s.boundary == taken.boundary)
                assert taken == same, f"snapshot of {taken.boundary} after {snapshot.boundary}"
            if end is not None and got and got[-1][0] > end:
                break
        assert [row for row in got if end is None or row[0] <= end] == expected


@pytest.mark.parametrize("every", [23, 150])
@pytest.mark.parametrize("name", NAMES)
def test_killed_at_every_kth_record_all_is_published_as_if_never_killed(
    name: str, every: int
) -> None:
    """Each life reads k records on from where the one before was killed, and nothing but what it had
    published and its snapshots remains: all lives together publish what one would have."""
    run = undisturbed(name, 1)
    published: dict[tuple[int, str, int], bytes | None] = {}
    snapshots: list[Snapshot] = []
    for killed_at in [*range(every, len(run.log), every), len(run.log)]:
        newest = max(snapshots, key=lambda s: s.boundary, default=None)
        for offset, rows, taken in restored(newest, run.log[:killed_at], 1):
            for number, (boundary, key, value) in enumerate(rows):
                # Health has several parts of one key: told apart by their order.
                part = sum(row[:2] == (boundary, key) for row in rows[:number])
                name_ = (boundary, key, part)
                assert published.setdefault(name_, value) == value, (offset, name_)
            if taken is not None:
                snapshots.append(taken)
    expected: dict[tuple[int, str, int], bytes | None] = {}
    for boundary, key, value in (row for rows in run.published for row in rows):
        part = 0
        while (boundary, key, part) in expected:
            part += 1
        expected[boundary, key, part] = value
    assert published == expected


def test_a_snapshot_that_is_not_whole_is_refused() -> None:
    snapshot = undisturbed("error_burst", 0).snapshots[3]
    for manifest, chunks in (
        (snapshot.manifest, snapshot.chunks[:-1]),
        (snapshot.manifest, [snapshot.chunks[0][:-1] + b"\x00", *snapshot.chunks[1:]]),
        (snapshot.manifest, [*snapshot.chunks, b"more"]),
    ):
        with pytest.raises(ValueError, match="snapshot"):
            Evaluator.restore(0, policy(), manifest, chunks, partitions_count=PARTITIONS)
