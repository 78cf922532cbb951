"""Sends events: a queue and a task for each channel, so that one that hangs holds up no other and each has
every incident's events in their order. An offset is committed once all sends of it have ended: what a
killed sender had not committed is sent again, under the same keys.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from tidegate.schemas.alert import Alert, decode_alert
from tidegate.streams.alert.dead_letters import DeadLetters
from tidegate.streams.alert.metrics import AlertMetrics
from tidegate.streams.alert.posting import Poster, UndeliveredError
from tidegate.streams.alert.routing import Routing
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
    routing: Routing
    committed: int
    next: int
    """The offset after the newest that was read."""
    open: dict[int, int] = field(default_factory=dict)
    """Offset -> sends that have not ended; offsets ascend."""
    is_lost: bool = False

    @property
    def floor(self) -> int:
        """Everything before this offset is dealt with."""
        return next(iter(self.open), self.next)


@dataclass(frozen=True, slots=True)
class _Job:
    share: _Share
    record: LogRecord
    alert: Alert
    read_s: float


@dataclass(frozen=True, slots=True)
class _Dead:
    share: _Share
    record: LogRecord
    facts: Mapping[str, str]


class Sending:
    """All of it between records and channels. Lives in one event loop."""

    def __init__(
        self,
        setup: Setup,
        dead_letters: DeadLetters,
        metrics: AlertMetrics,
        *,
        commit: Callable[[int, int], None],
    ) -> None:
        """`commit` is told (partition, offset) whenever more is dealt with."""
        self._tiers, self._commit = setup.tiers, commit
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

    def tasks(self) -> list[asyncio.Task[None]]:
        """Starts what sends; the tasks never end by themselves, unless by a bug."""
        works = [self._work(poster) for poster in self._posters]
        return [asyncio.create_task(work) for work in (*works, self._bury())]

    def assigned(self, partition: int, begin: int, *, is_first: bool) -> None:
        """A partition came; its records are to be taken from its beginning on."""
        share = _Share(partition, begin, Routing(self._tiers), committed=begin, next=begin)
        self._shares[partition] = share
        if is_first:
            self._commit(partition, begin)

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
        if record.offset < share.begin:
            if alert is not None:
                share.routing.take(alert)
            return
        share.next = record.offset + 1
        self._metrics.records.inc()
        if alert is None:
            self._metrics.undecodable.inc()
            log.warning("a record is no alert", offset=record.offset, reason=problem)
            share.open[record.offset] = 1
            self._dead.put_nowait(_Dead(share, record, {"reason": problem}))
            return
        route = share.routing.take(alert)
        if route.skipped is not None:
            self._metrics.skipped.labels(route.skipped).inc()
            log.info(f"{route.skipped}: not sent", **_names(alert), silenced=alert.silenced)
        if not route.channels:
            return
        share.open[record.offset] = len(route.channels)
        job = _Job(share, record, alert, time.monotonic())
        for name in route.channels:
            self._metrics.waiting.labels(name).inc()
            self._queues[name].put_nowait(job)

    def settle(self) -> None:
        """Commits what needed no sending."""
        for share in self._shares.values():
            self._commit_floor(share)

    def floors(self) -> dict[int, int]:
        """Partition -> offset up to which all is dealt with."""
        return {share.partition: share.floor for share in self._shares.values()}

    async def close(self) -> None:
        """Ends the connections."""
        for poster in self._posters:
            await poster.close()

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
        about = {"channel": name, **_names(job.alert)}
        try:
            tries_count = await poster.post(job.alert, read_s=job.read_s)
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
                "alert.id": job.alert.id,
                "alert.number": str(job.alert.number),
            }
            self._dead.put_nowait(_Dead(job.share, job.record, facts))
        else:
            metrics.sent.labels(name).inc()
            log.info("sent", **about, tries=tries_count)
            self._ended(job.share, job.record.offset)

    async def _bury(self) -> None:
        """Dead letters, one after the other: a dead-letter topic that is away holds up no channel."""
        while True:
            dead = await self._dead.get()
            if dead.share.is_lost:
                continue
            if await asyncio.to_thread(self._dead_letters.put, dead.record, dead.facts):
                self._ended(dead.share, dead.record.offset)

    def _ended(self, share: _Share, offset: int) -> None:
        share.open[offset] -= 1
        if share.open[offset] == 0:
            del share.open[offset]
            self._commit_floor(share)

    def _commit_floor(self, share: _Share) -> None:
        floor = share.floor
        if floor > share.committed and not share.is_lost:
            share.committed = floor
            self._commit(share.partition, floor)

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


def _names(alert: Alert) -> dict[str, object]:
    return {
        "alert": alert.id,
        "number": alert.number,
        "happened": alert.event,
        "tier": alert.tier,
        "scope": alert.scope,
    }
