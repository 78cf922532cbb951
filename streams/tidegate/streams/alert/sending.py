"""Sends events: a queue and a task for each channel, so that one that hangs holds up no other and each has
every incident's events in their order. An offset is committed once all sends of it have ended: what a
killed sender had not committed is sent again, under the same keys. What is told together is `grouping`'s to
decide; nothing that it decided is sent before the note of it is kept.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from tidegate.rules.graph.grouping import Explained
from tidegate.schemas.alert import Alert, decode_alert
from tidegate.streams.alert.dead_letters import DeadLetters
from tidegate.streams.alert.grouping import Grouping, GroupingTimes, Saying
from tidegate.streams.alert.metrics import AlertMetrics
from tidegate.streams.alert.notes import decode_note, encode_note
from tidegate.streams.alert.posting import Poster, UndeliveredError
from tidegate.streams.alert.reading import Assigned
from tidegate.streams.alert.settings import Setup
from tidegate.streams.alert.text import times_fit
from tidegate.streams.kafka_log import LogRecord
from tidegate.streams.logs import get_logger

__all__ = ["IN_FLIGHT_MAX", "Sending", "alert_of"]

IN_FLIGHT_MAX = 10_000
"""Events read and not dealt with; beyond this nothing more is read."""

log = get_logger("alert")


@dataclass(slots=True)
class _Share:
    """A partition that is ours."""

    partition: int
    begin: int
    grouping: Grouping
    committed: int
    kept: int
    """Offset that the newest note was kept beside."""
    next: int
    """The offset after the newest that was read."""
    open: dict[int, int] = field(default_factory=dict)
    """Offset -> sends that have not ended, and one while it is not decided what to send; offsets ascend."""
    held: set[int] = field(default_factory=set)
    """Offsets of which nothing is on its way yet."""
    is_lost: bool = False

    @property
    def floor(self) -> int:
        """Everything before this offset is dealt with."""
        return next(iter(self.open), self.next)

    def free(self, offset: int) -> None:
        """One send of it has ended."""
        self.open[offset] -= 1
        if self.open[offset] == 0:
            del self.open[offset]

    def note(self) -> str:
        """For whoever reads on from the floor."""
        return encode_note(self.grouping.note(self.floor))


@dataclass(frozen=True, slots=True)
class _Job:
    share: _Share
    saying: Saying
    read_s: float


@dataclass(frozen=True, slots=True)
class _Dead:
    share: _Share
    records: tuple[LogRecord, ...]
    facts: Mapping[str, str]
    saying: Saying | None = None


class Sending:
    """All of it between records and channels. Lives in one event loop."""

    def __init__(
        self,
        setup: Setup,
        dead_letters: DeadLetters,
        metrics: AlertMetrics,
        *,
        commit: Callable[[int, int, str], object],
    ) -> None:
        """`commit` is told (partition, offset, note) whenever more is dealt with."""
        self._tiers, self._commit = setup.tiers, commit
        self._singly = frozenset(
            name for name, channel in setup.channels.items() if channel.kind.is_told_singly
        )
        grouping = setup.grouping
        self._times = GroupingTimes(int(grouping.wait_s * 1000), int(grouping.update_s * 1000))
        self._ready: list[_Job] = []
        """Decided, and not on their way: the note comes first."""
        self._dead_letters, self._metrics = dead_letters, metrics
        self._shares: dict[int, _Share] = {}
        self._dead: asyncio.Queue[_Dead] = asyncio.Queue()
        self._queues: dict[str, asyncio.Queue[_Job]] = {}
        self._posters: list[Poster] = []
        for name, channel in setup.channels.items():
            self._queues[name] = asyncio.Queue()
            self._posters.append(Poster(channel, setup.tries, on_retry=self._retry_teller(name)))

    @property
    def in_flight(self) -> int:
        """Events read and not dealt with."""
        return sum(len(share.open) for share in self._shares.values())

    @property
    def under_way(self) -> int:
        """Of these, events of which something is being sent."""
        return sum(len(share.open.keys() - share.held) for share in self._shares.values())

    @property
    def has_decided(self) -> bool:
        """Whether a note must be kept before `release`."""
        return any(share.grouping.has_decided for share in self._shares.values())

    def tasks(self) -> list[asyncio.Task[None]]:
        """Starts what sends; the tasks never end by themselves, unless by a bug."""
        works = [self._work(poster) for poster in self._posters]
        return [asyncio.create_task(work) for work in (*works, self._bury())]

    def assigned(self, one: Assigned) -> None:
        """A partition came; its records are to be taken from its beginning on."""
        grouping = Grouping(
            self._tiers,
            self._singly,
            self._times,
            note=decode_note(one.note),
            low=one.low,
            end=one.end,
            now_ms=_now_ms(),
        )
        begin = one.begin
        share = _Share(one.partition, begin, grouping, committed=begin, kept=begin, next=begin)
        self._shares[one.partition] = share
        if one.is_first:
            self._commit(one.partition, begin, "")

    def revoked(self, partition: int) -> None:
        """What waits of this partition is another sender's now."""
        share = self._shares.pop(partition, None)
        if share is not None:
            share.is_lost = True

    def take(self, record: LogRecord) -> None:
        """Puts one record on its way."""
        share = self._shares.get(record.partition)
        if share is None:
            return
        alert, problem = alert_of(record)
        now_ms = _now_ms()
        if alert is None:
            share.grouping.pass_by(record, now_ms)
        if record.offset < share.begin:
            if alert is not None:
                share.grouping.know(record, alert, now_ms)
            return
        share.next = record.offset + 1
        self._metrics.records.inc()
        if alert is None:
            self._metrics.undecodable.inc()
            log.warning("a record is no alert", offset=record.offset, reason=problem)
            share.open[record.offset] = 1
            self._dead.put_nowait(_Dead(share, (record,), {"reason": problem}))
            return
        share.open[record.offset] = 1
        share.held.add(record.offset)
        taken = share.grouping.take(record, alert, now_ms)
        if taken.skipped is not None:
            self._metrics.skipped.labels(taken.skipped).inc()
            log.info(f"{taken.skipped}: not sent", **_names(alert), silenced=alert.silenced)
        self._prepare(share, taken.sayings, () if taken.is_waiting else (record.offset,))

    def decide(self, causes: Explained | None, *, is_graph_read: bool) -> None:
        """What waits and need wait no longer. causes: of a graph that is fresh."""
        for share in self._shares.values():
            said, freed = share.grouping.decide(_now_ms(), causes, is_graph_read=is_graph_read)
            self._prepare(share, said, freed)
            self._metrics.folded.inc(share.grouping.folded_count)
            share.grouping.folded_count = 0
        shares = self._shares.values()
        self._metrics.deciding.set(sum(share.grouping.waiting_count for share in shares))
        self._metrics.groups.set(sum(share.grouping.groups_count for share in shares))

    def notes(self) -> list[tuple[int, int, str]]:
        """(partition, offset, note) of each where something was decided."""
        found = []
        for share in self._shares.values():
            if share.grouping.has_decided:
                share.kept = share.floor
                found.append((share.partition, share.kept, share.note()))
        return found

    def release(self) -> None:
        """Sends what was decided: the note is kept, or can't be."""
        for share in self._shares.values():
            if share.grouping.has_decided:
                share.grouping.has_decided = False
                # Whatever was committed meanwhile, this may have come after it.
                share.committed = share.kept
        ready, self._ready = self._ready, []
        for job in ready:
            job.share.held -= {record.offset for record in job.saying.records}
            for name in job.saying.channels:
                self._metrics.waiting.labels(name).inc()
                self._queues[name].put_nowait(job)

    def settle(self) -> None:
        """Commits what needed no sending."""
        for share in self._shares.values():
            self._commit_floor(share)

    def floors(self) -> list[tuple[int, int, str]]:
        """(partition, offset up to which all is dealt with, note)."""
        return [(share.partition, share.floor, share.note()) for share in self._shares.values()]

    async def close(self) -> None:
        """Ends the connections."""
        for poster in self._posters:
            await poster.close()

    def _prepare(self, share: _Share, sayings: Iterable[Saying], freed: Iterable[int]) -> None:
        """Queues messages up for `release`; `freed` wait for nothing but these."""
        for saying in sayings:
            if saying.news_of is None:
                share.open[saying.records[0].offset] += len(saying.channels)
            self._ready.append(_Job(share, saying, time.monotonic()))
        for offset in freed:
            share.free(offset)
            if offset not in share.open:
                share.held.discard(offset)

    async def _work(self, poster: Poster) -> None:
        name = poster.channel.name
        queue, metrics = self._queues[name], self._metrics
        while True:
            job = await queue.get()
            if not job.share.is_lost:
                await self._send(poster, job)
            metrics.waiting.labels(name).dec()

    async def _send(self, poster: Poster, job: _Job) -> None:
        name, metrics = poster.channel.name, self._metrics
        alert, grouped = job.saying.alert, job.saying.grouped
        about = {"channel": name, **_names(alert)}
        if grouped is not None:
            about |= {"cause": grouped.cause, "alerts": grouped.count}
        try:
            tries_count = await poster.post(alert, read_s=job.read_s, grouped=grouped)
        except UndeliveredError as problem:
            metrics.dead_lettered.labels(name).inc()
            log.error(  # noqa: TRY400 - the reason is the whole story, a traceback is noise
                "not delivered; dead-lettered",
                **about,
                tries=problem.tries_count,
                reason=problem.reason,
            )
            facts = {
                "reason": f"{problem.reason} (tries: {problem.tries_count})",
                "alert.channel": name,
                "alert.id": alert.id,
                "alert.number": str(alert.number),
            }
            self._dead.put_nowait(_Dead(job.share, job.saying.records, facts, job.saying))
        else:
            metrics.sent.labels(name).inc()
            log.info("sent", **about, tries=tries_count)
            self._ended(job.share, job.saying.records[0], job.saying)

    async def _bury(self) -> None:
        """Dead letters, one after the other: a dead-letter topic that is away holds up no channel."""
        while True:
            dead = await self._dead.get()
            if dead.share.is_lost:
                continue
            if await asyncio.to_thread(self._put_all, dead):
                self._ended(dead.share, dead.records[0], dead.saying)

    def _put_all(self, dead: _Dead) -> bool:
        return all(self._dead_letters.put(record, dead.facts) for record in dead.records)

    def _ended(self, share: _Share, record: LogRecord, saying: Saying | None) -> None:
        if saying is not None and saying.news_of is not None:
            share.grouping.news_told(saying.news_of, record)
            return
        share.free(record.offset)
        self._commit_floor(share)

    def _commit_floor(self, share: _Share) -> None:
        floor = share.floor
        if floor > share.committed and not share.is_lost:
            share.committed = floor
            self._commit(share.partition, floor, share.note())

    def _retry_teller(self, name: str) -> Callable[[str, float], None]:
        def told(reason: str, wait_s: float) -> None:
            self._metrics.retries.labels(name).inc()
            log.warning("a try failed; waits", channel=name, reason=reason, wait_s=round(wait_s, 1))

        return told


def alert_of(record: LogRecord) -> tuple[Alert | None, str]:
    """(the alert, "") or (None, what is wrong with the record)."""
    if record.value is None:
        return None, "has no value"
    try:
        alert = decode_alert(record.value)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        return None, str(problem)
    if not times_fit(alert):
        return None, f"its times {alert.since_ms} and {alert.at_ms} are in no calendar"
    return alert, ""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _names(alert: Alert) -> dict[str, object]:
    return {
        "alert": alert.id,
        "number": alert.number,
        "happened": alert.event,
        "tier": alert.tier,
        "scope": alert.scope,
    }
