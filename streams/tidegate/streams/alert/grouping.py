"""Which alerts of a partition are told together, and when. A pure state machine: events, the graph's causes and
the time come in, messages go out.

An incident's first event waits until the graph names its cause, `wait_ms` at most; then it is decided, once,
whether the incident is told alone or in the group of its cause. Decisions are kept beside the committed offset
(`notes.py`) before anything is sent, so the next sender goes on as this one would have: the same page is closed
that was opened. A group's key is the id of the incident that opened it, so even a sender that lost the note
opens and closes the same page.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from tidegate.rules.graph.grouping import Cause, Explained
from tidegate.schemas.alert import Alert
from tidegate.streams.alert.grouped import Grouped, composed
from tidegate.streams.alert.notes import GroupNote, Note, is_groupable_id
from tidegate.streams.alert.routing import INCIDENTS_MAX, Route, Routing
from tidegate.streams.kafka_log import LogRecord

__all__ = ["Grouping", "GroupingTimes", "Saying", "Taken"]

MEMBERS_MAX = 10_000
"""Incidents in groups of a partition; beyond, they are told alone."""
CATCH_UP_MS = 10_000
"""A sender that starts decides nothing before it has read what was there, but waits no longer than this."""
QUIET_MAX_MS = 4 * 3_600_000
"""Nobody joins a group of which nothing was heard for so long: its end may have been lost."""
_ALONE_RULES = frozenset({"chronic", "drift", "telemetry"})
"""About what is usual, not about what broke: these last for days and would hold a group open."""
_Event = Literal["start", "change", "repeat", "resolve"]


@dataclass(frozen=True, slots=True)
class GroupingTimes:
    """How long things wait."""

    wait_ms: int
    """An incident's first event, for its cause; 0: no new groups."""
    update_ms: int
    """Between two messages about who joined a group."""


@dataclass(frozen=True, slots=True)
class Saying:
    """One message to some channels."""

    records: tuple[LogRecord, ...]
    """What it tells; the first is dealt with once the message is sent."""
    alert: Alert
    channels: tuple[str, ...]
    grouped: Grouped | None = None
    news_of: str | None = None
    """Key of the group whose news it is: its record was dealt with before, silently."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What one event leads to at once."""

    sayings: tuple[Saying, ...]
    is_waiting: bool = False
    """Its incident is not decided; `decide` tells when it is."""
    skipped: Literal["silenced", "duplicate"] | None = None
    """Why it goes nowhere."""


@dataclass(frozen=True, slots=True)
class _Heard:
    record: LogRecord
    alert: Alert
    route: Route


@dataclass(slots=True)
class _Waiting:
    """An incident that is not decided yet."""

    due_ms: int
    events: list[_Heard]
    group: "_Group | None" = None
    """Where an earlier sender put it."""

    @property
    def first(self) -> _Heard:
        return self.events[0]


@dataclass(slots=True)
class _Member:
    alert: Alert | None = None
    """Its newest event; None: only the note knows of it."""
    ended_at: int | None = None
    """Offset."""

    @property
    def is_over(self) -> bool:
        return self.ended_at is not None


@dataclass(slots=True)
class _Group:
    key: str
    base: int
    cause: str
    """Scope."""
    reason: str = ""
    members: dict[str, _Member] = field(default_factory=dict)
    tiers: dict[str, int] = field(default_factory=dict)
    """Whose channels were told, and offset of the event that did it first."""
    is_open: bool = False
    """Whether its first message was decided."""
    said_ms: int = 0
    news: _Heard | None = None
    is_news_under_way: bool = False

    @property
    def name(self) -> str:
        return self.cause.partition(":")[2]

    @property
    def tier(self) -> Literal["P1", "P2"]:
        return "P1" if "P1" in self.tiers else "P2"

    @property
    def stands(self) -> bool:
        return any(not member.is_over for member in self.members.values())

    @property
    def newest_ms(self) -> int:
        return max((m.alert.at_ms for m in self.members.values() if m.alert is not None), default=0)


class Grouping:
    """What one partition's alerts so far were, and who was told of them how."""

    def __init__(
        self,
        tiers: Mapping[str, tuple[str, ...]],
        singly: frozenset[str],
        times: GroupingTimes,
        *,
        note: Note,
        low: int,
        end: int,
        now_ms: int,
    ) -> None:
        """singly: channels that are told of every incident by itself. note: what the sender before left.
        low, end: offsets of the oldest record that was there at first, and after the newest."""
        self._tiers, self._singly, self._times = tiers, singly, times
        self._routing, self._note = Routing(tiers), note
        self._read_to, self._end = low, end
        self._started_ms = self._heard_ms = now_ms
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self._alone: OrderedDict[str, None] = OrderedDict()
        self._groups: list[_Group] = []
        self._group_of: dict[str, _Group] = {}
        self._is_caught_up = False
        self.has_decided = False
        """Whether something was decided that the note doesn't know yet; whoever keeps the note resets it."""
        self.folded_count = 0
        """Events so far that a group's other messages stand for."""
        for one in note.groups:
            group = _Group(
                one.key, one.base, one.cause, tiers=dict.fromkeys(one.tiers, -1), said_ms=now_ms
            )
            group.members = {incident: _Member() for incident in one.ids}
            self._group_of |= dict.fromkeys(one.ids, group)
            self._groups.append(group)
        self._news_at = frozenset(one.news for one in note.groups)

    @property
    def waiting_count(self) -> int:
        """Incidents that are not decided."""
        return len(self._waiting)

    @property
    def groups_count(self) -> int:
        """Groups that stand."""
        return sum(group.is_open and group.stands for group in self._groups)

    def know(self, record: LogRecord, alert: Alert, now_ms: int) -> None:
        """An event that was dealt with before."""
        self.pass_by(record, now_ms)
        heard = _Heard(record, alert, self._routing.take(alert))
        if heard.route.skipped == "duplicate":
            return
        group = self._group_of.get(alert.id)
        if group is not None:
            group.is_open = True
            self._enter(group, heard)
            if record.offset in self._news_at:
                group.news = heard
        elif heard.route.channels:
            self._tell_alone(alert)

    def pass_by(self, record: LogRecord, now_ms: int) -> None:
        """Takes a record that is no alert."""
        self._read_to, self._heard_ms = record.offset + 1, now_ms

    def take(self, record: LogRecord, alert: Alert, now_ms: int) -> Taken:
        """An event that is to be dealt with."""
        self.pass_by(record, now_ms)
        heard = _Heard(record, alert, self._routing.take(alert))
        if heard.route.skipped == "duplicate":
            return Taken((), skipped="duplicate")
        waiting, group = self._waiting.get(alert.id), self._group_of.get(alert.id)
        said: list[Saying] = []
        if waiting is not None:
            waiting.events.append(heard)
            return Taken((), is_waiting=True)
        if group is not None and (group.members[alert.id].alert or alert.event == "resolve"):
            said = self._in_group(group, heard)
        elif not heard.route.channels:
            pass  # Silenced, or a tier that calls nobody: the incident's first event is yet to come.
        elif alert.id in self._alone or alert.event == "resolve":
            said = self._alone_now(heard)
        elif group is not None or self._is_open_question(record.offset):
            # What is old already has waited elsewhere: in the topic, or for the sender before.
            due_ms = min(record.append_ms, now_ms) + self._times.wait_ms
            self._waiting[alert.id] = _Waiting(due_ms, [heard], group)
            return Taken((), is_waiting=True)
        else:
            said = self._alone_now(heard)
        return Taken(tuple(said), skipped=heard.route.skipped)

    def decide(
        self, now_ms: int, causes: Explained | None, *, is_graph_read: bool
    ) -> tuple[list[Saying], list[int]]:
        """(what is to be said, offsets of events that wait no longer). causes: of a graph that is fresh."""
        if not self._may_decide(now_ms, is_graph_read=is_graph_read):
            return [], []
        said: list[Saying] = []
        freed: list[int] = []
        if causes is not None:
            self._learn_reasons(causes)
        for group, joining in self._pinned():
            said += self._join(group, joining, now_ms, freed)
        known = self._causes_of_waiting(causes)
        standing = self._standing(causes) if known else {}
        for scope, (cause, waiting) in known.items():
            said += self._by_cause(cause, waiting, standing.get(scope), now_ms, freed)
        for one in list(self._waiting.values()):
            alert = one.first.alert
            may_come = causes is not None and causes.knows(alert.scope) and self._may_group(alert)
            if not may_come or now_ms >= one.due_ms:
                said += self._go_alone(one, freed)
        said.sort(key=lambda saying: saying.records[0].offset)
        return said + self._news(now_ms), freed

    def news_told(self, key: str, record: LogRecord) -> None:
        """Channels have taken what joined."""
        for group in self._groups:
            if group.key == key:
                group.is_news_under_way = False
                if group.news is not None and group.news.record.offset == record.offset:
                    group.news = None

    def note(self, floor: int) -> Note:
        """What the next sender must know where everything before `floor` is dealt with. Forgets groups that
        are over by then."""
        self._forget(floor)
        unread = [offset for offset in self._note.waiting if offset >= self._read_to]
        waiting = [one.first.record.offset for one in self._waiting.values() if one.group is None]
        return Note(
            decided_to=max(self._read_to, floor, self._note.decided_to),
            waiting=tuple(sorted({*waiting, *unread})),
            groups=tuple(
                GroupNote(
                    key=group.key,
                    base=group.base,
                    cause=group.cause,
                    tiers=tuple(sorted(t for t, at in group.tiers.items() if at < floor)),
                    ids=tuple(i for i, m in group.members.items() if _is_needed(m, floor)),
                    news=-1 if group.news is None else group.news.record.offset,
                )
                for group in self._groups
            ),
        )

    # ---- decisions ----

    def _is_open_question(self, offset: int) -> bool:
        """Whether it is not decided yet how an incident that begins here is told."""
        if offset < self._note.decided_to and offset not in self._note.waiting:
            return False
        return self._times.wait_ms > 0

    def _may_decide(self, now_ms: int, *, is_graph_read: bool) -> bool:
        if not self._is_caught_up:
            is_read = self._read_to >= self._end or now_ms >= self._heard_ms + CATCH_UP_MS
            is_graph_read |= now_ms >= self._started_ms + CATCH_UP_MS
            self._is_caught_up = is_read and is_graph_read
            if self._is_caught_up:
                self._drop_unheard()
        return self._is_caught_up

    def _drop_unheard(self) -> None:
        """Incidents that only the note knows: the topic holds nothing of them any more."""
        for group in self._groups:
            for incident, member in list(group.members.items()):
                if member.alert is None and incident not in self._waiting:
                    del group.members[incident], self._group_of[incident]

    def _pinned(self) -> list[tuple[_Group, list[_Waiting]]]:
        """What an earlier sender had put into groups and not finished."""
        found: dict[str, tuple[_Group, list[_Waiting]]] = {}
        for waiting in self._waiting.values():
            if waiting.group is not None:
                found.setdefault(waiting.group.key, (waiting.group, []))[1].append(waiting)
        return list(found.values())

    def _may_group(self, alert: Alert) -> bool:
        return (
            alert.rule not in _ALONE_RULES
            and is_groupable_id(alert.id)
            and len(self._group_of) < MEMBERS_MAX
        )

    def _causes_of_waiting(
        self, causes: Explained | None
    ) -> dict[str, tuple[Cause, list[_Waiting]]]:
        """By the cause's scope, in the order in which they came."""
        found: dict[str, tuple[Cause, list[_Waiting]]] = {}
        for waiting in self._waiting.values():
            alert = waiting.first.alert
            cause = causes.cause_of(alert.scope) if causes and self._may_group(alert) else None
            if cause is not None:
                found.setdefault(cause.scope, (cause, []))[1].append(waiting)
        return found

    def _standing(self, causes: Explained | None) -> dict[str, _Group]:
        """Groups that may be joined by their cause, or by what is by now the cause of what is in them:
        suspicion moves on, and what goes wrong is the same."""
        open_groups = [group for group in self._groups if group.is_open and group.stands]
        found: dict[str, _Group] = {}
        for group in open_groups:
            found.setdefault(group.cause, group)
        for group in open_groups:
            scopes = [m.alert.scope for m in group.members.values() if m.alert and not m.is_over]
            for scope in (group.cause, *scopes):
                cause = causes.cause_of(scope) if causes is not None else None
                if cause is not None:
                    found.setdefault(cause.scope, group)
        return found

    def _by_cause(
        self,
        cause: Cause,
        waiting: list[_Waiting],
        group: _Group | None,
        now_ms: int,
        freed: list[int],
    ) -> list[Saying]:
        """Joins a group that stands; opens one as soon as somebody has waited long enough. A P1 waits for
        the cause, not for company."""
        waiting = waiting[: max(MEMBERS_MAX - len(self._group_of), 0)]
        newest_ms = max((one.first.alert.at_ms for one in waiting), default=0)
        if group is not None and newest_ms - group.newest_ms <= QUIET_MAX_MS:
            return self._join(group, waiting, now_ms, freed)
        is_urgent = any(heard.alert.tier == "P1" for one in waiting for heard in one.events)
        if waiting and (is_urgent or any(now_ms >= one.due_ms for one in waiting)):
            return self._open(cause, waiting, now_ms, freed)
        return []

    def _open(
        self, cause: Cause, joining: Sequence[_Waiting], now_ms: int, freed: list[int]
    ) -> list[Saying]:
        first = joining[0].first
        base = first.record.offset - first.alert.number
        group = _Group(first.alert.id, base, cause.scope, cause.reason)
        self._groups.append(group)
        return self._join(group, joining, now_ms, freed)

    def _join(
        self, group: _Group, joining: Sequence[_Waiting], now_ms: int, freed: list[int]
    ) -> list[Saying]:
        self.has_decided = True
        firsts = [waiting.first for waiting in joining]
        before, was_tier, was_open = self._told(group), group.tier, group.is_open
        wanted: dict[str, None] = {}
        said: list[Saying] = []
        for heard in firsts:
            del self._waiting[heard.alert.id]
            self._group_of[heard.alert.id] = group
            self._enter(group, heard)
            wanted |= dict.fromkeys(self._listed(heard.route.channels))
            said += self._single(group, heard)
        group.is_open = True
        is_worse = not set(wanted) <= set(before) or (group.tier, was_tier) == ("P1", "P2")
        if wanted and (not was_open or is_worse):
            event: _Event = "change" if was_open else "start"
            said.append(self._whole(group, event, firsts, tuple(wanted)))
            group.said_ms = now_ms
            self.folded_count += len(firsts) - 1
        elif wanted:
            group.news = firsts[-1]
            self.folded_count += len(firsts)
        for waiting in joining:
            freed += [heard.record.offset for heard in waiting.events]
            for heard in waiting.events[1:]:
                said += self._in_group(group, heard)
        return said

    def _go_alone(self, waiting: _Waiting, freed: list[int]) -> list[Saying]:
        del self._waiting[waiting.first.alert.id]
        freed += [heard.record.offset for heard in waiting.events]
        return [one for heard in waiting.events for one in self._alone_now(heard)]

    def _alone_now(self, heard: _Heard) -> list[Saying]:
        if heard.alert.id not in self._alone:
            self.has_decided |= self._times.wait_ms > 0 and heard.alert.event != "resolve"
            self._tell_alone(heard.alert)
        if heard.alert.event == "resolve":
            self._alone.pop(heard.alert.id, None)
        if not heard.route.channels:
            return []
        return [Saying((heard.record,), heard.alert, heard.route.channels)]

    def _tell_alone(self, alert: Alert) -> None:
        if alert.event == "resolve":
            self._alone.pop(alert.id, None)
            return
        self._alone[alert.id] = None
        if len(self._alone) > INCIDENTS_MAX:
            self._alone.popitem(last=False)

    # ---- groups ----

    def _told(self, group: _Group) -> tuple[str, ...]:
        """Channels that its messages went to."""
        names = [name for tier in sorted(group.tiers) for name in self._tiers[tier]]
        return self._listed(dict.fromkeys(names))

    def _enter(self, group: _Group, heard: _Heard) -> None:
        """Keeps an event of the group."""
        member = group.members.setdefault(heard.alert.id, _Member())
        member.alert = heard.alert
        if heard.alert.event == "resolve":
            member.ended_at = heard.record.offset
            return
        if heard.route.channels:
            group.tiers.setdefault(heard.alert.tier, heard.record.offset)

    def _in_group(self, group: _Group, heard: _Heard) -> list[Saying]:
        """What an event of one that is in it already leads to."""
        before, was_tier = self._told(group), group.tier
        self._enter(group, heard)
        said = self._single(group, heard)
        event, wanted = heard.alert.event, self._listed(heard.route.channels)
        is_worse = not set(wanted) <= set(before) or (group.tier, was_tier) == ("P1", "P2")
        if event == "resolve":
            wanted = () if group.stands else before
        elif not is_worse and (event != "repeat" or heard.alert.id != self._eldest(group)):
            wanted = ()
        if wanted:
            told: _Event = "change" if event == "start" else event
            said.append(self._whole(group, told, [heard], wanted))
        elif heard.route.channels:
            self.folded_count += 1
        return said

    def _eldest(self, group: _Group) -> str | None:
        """Whose repeats are the group's: the first that stands and is not silenced."""
        for incident, member in group.members.items():
            if not member.is_over and member.alert and member.alert.silenced is None:
                return incident
        return None

    def _news(self, now_ms: int) -> list[Saying]:
        """Who joined since the last message, where that is long enough ago."""
        said = []
        for group in self._groups:
            heard, told = group.news, self._told(group)
            if heard is None or group.is_news_under_way or not (group.stands and told):
                continue
            if now_ms >= group.said_ms + self._times.update_ms:
                group.said_ms, group.is_news_under_way = now_ms, True
                saying = self._whole(group, "change", [heard], told)
                said.append(replace(saying, news_of=group.key))
        return said

    def _learn_reasons(self, causes: Explained) -> None:
        """Evidence is in no note."""
        for group in self._groups:
            cause = causes.cause_of(group.cause) if not group.reason else None
            if cause is not None and cause.scope == group.cause:
                group.reason = cause.reason

    def _single(self, group: _Group, heard: _Heard) -> list[Saying]:
        """To those who are told of every incident by itself."""
        channels = tuple(name for name in heard.route.channels if name in self._singly)
        about = Grouped(key=group.key, cause=group.name, reason=group.reason)
        return [Saying((heard.record,), heard.alert, channels, about)] if channels else []

    def _whole(
        self, group: _Group, event: _Event, told: Sequence[_Heard], channels: tuple[str, ...]
    ) -> Saying:
        members = [
            (member.alert, member.is_over)
            for member in group.members.values()
            if member.alert is not None
        ]
        newest = told[0]
        alert, grouped = composed(
            event,
            newest.alert,
            members,
            grouped=Grouped(key=group.key, cause=group.name, reason=group.reason),
            cause_scope=group.cause,
            number=newest.record.offset - group.base,
            tier=group.tier,
        )
        return Saying(tuple(heard.record for heard in told), alert, channels, grouped)

    def _listed(self, channels: Iterable[str]) -> tuple[str, ...]:
        return tuple(name for name in channels if name not in self._singly)

    def _forget(self, floor: int) -> None:
        kept = []
        for group in self._groups:
            if any(_is_needed(member, floor) for member in group.members.values()):
                kept.append(group)
                continue
            for incident in group.members:
                self._group_of.pop(incident, None)
        self._groups = kept


def _is_needed(member: _Member, floor: int) -> bool:
    return member.ended_at is None or member.ended_at >= floor
