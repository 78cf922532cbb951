"""What is told together and when: decided once, the same by whoever goes on, nothing lost, nothing left open."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.alert_send.alerts import Event, alert
from tests.alert_send.graphs import DB, DB_SCOPES, view
from tidegate.rules.graph.grouping import Explained
from tidegate.schemas.alert import Alert, decode_alert, encode_alert
from tidegate.streams.alert.grouping import CATCH_UP_MS, Grouping, GroupingTimes, Saying
from tidegate.streams.alert.notes import Note, decode_note, encode_note
from tidegate.streams.kafka_log import LogRecord

TIERS = {"P1": ("phone", "am"), "P2": ("chat", "am")}
WAIT_MS, UPDATE_MS = 15_000, 300_000
DEAD_DB = Explained(view(("web", "db", 0.9)))
NO_CAUSE = Explained(view())
TWO = Explained(view(("web", "db", 0.9), ("admin", "audit", 0.9)))


def incident(number: int) -> str:
    return f"{number:016x}"


@dataclass
class Story:
    """A topic and senders of it, one after the other; deliveries and time are up to the test."""

    wait_ms: int = WAIT_MS
    causes: Explained | None = None
    now_ms: int = 1_000_000
    topic: list[LogRecord] = field(default_factory=list)
    told: list[Saying] = field(default_factory=list)
    """What channels have taken."""
    queue: list[Saying] = field(default_factory=list)
    open: dict[int, int] = field(default_factory=dict)
    kept: tuple[int, str] = (0, "")
    read_to: int = 0

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """The sender is killed; another one goes on from what is kept."""
        self.queue, self.open = [], {}
        begin, note = self.kept
        self.grouping = Grouping(
            TIERS,
            frozenset({"am"}),
            GroupingTimes(self.wait_ms, UPDATE_MS),
            note=decode_note(note),
            low=0,
            end=len(self.topic),
            now_ms=self.now_ms,
        )
        self.read_to = begin
        for record in self.topic:
            self._read(record, begin)
        self.decide()

    def add(
        self,
        number: int,
        event: Event = "start",
        *,
        nth: int = 1,
        tier: str = "P2",
        scope: str = "service:cart",
        silenced: str | None = None,
        rule: str = "slo",
    ) -> None:
        one = alert(
            event,
            number=nth,
            incident=incident(number),
            tier="P1" if tier == "P1" else "P2",
            scope=scope,
            silenced=silenced,
        )
        value = encode_alert(replace(one, rule=rule))
        record = LogRecord("alerts", 0, len(self.topic), self.now_ms, None, value)
        self.topic.append(record)
        self._read(record, 0)

    def wait(self, ms: int = 0) -> None:
        self.now_ms += ms
        self.decide()

    def decide(self) -> None:
        said, freed = self.grouping.decide(self.now_ms, self.causes, is_graph_read=True)
        self._prepare(said, freed)
        if self.grouping.has_decided:
            self.grouping.has_decided = False
            self.keep()

    def deliver(self, count: int = 10_000) -> None:
        """Channels take what is queued, in its order."""
        for _ in range(min(count, len(self.queue))):
            saying = self.queue.pop(0)
            self.told.append(saying)
            if saying.news_of is not None:
                self.grouping.news_told(saying.news_of, saying.records[0])
            else:
                self._free(saying.records[0].offset)

    def keep(self) -> None:
        floor = next(iter(self.open), self.read_to)
        self.kept = floor, encode_note(self.grouping.note(floor))

    def of(self, channel: str) -> list[tuple[str, str, int]]:
        """(event, key, alerts in its list) of what a channel took."""
        return [
            (s.alert.event, s.alert.id, s.grouped.count if s.grouped else 0)
            for s in self.told
            if channel in s.channels
        ]

    def _read(self, record: LogRecord, begin: int) -> None:
        one = _decoded(record)
        if record.offset < begin:
            self.grouping.know(record, one, self.now_ms)
            return
        self.read_to = record.offset + 1
        self.open[record.offset] = 1
        taken = self.grouping.take(record, one, self.now_ms)
        self._prepare(taken.sayings, () if taken.is_waiting else (record.offset,))

    def _prepare(self, said: Sequence[Saying], freed: Sequence[int]) -> None:
        for saying in said:
            self.queue.append(saying)
            if saying.news_of is None:
                self.open[saying.records[0].offset] += 1
        for offset in freed:
            self._free(offset)

    def _free(self, offset: int) -> None:
        self.open[offset] -= 1
        if not self.open[offset]:
            del self.open[offset]


def _decoded(record: LogRecord) -> Alert:
    assert record.value is not None
    return decode_alert(record.value)


def ten(story: Story, tier: str = "P2") -> None:
    for number, scope in enumerate(DB_SCOPES):
        story.add(number, scope=scope, tier=tier)


def test_ten_alerts_of_one_cause_are_one_message_and_one_end() -> None:
    story = Story(causes=NO_CAUSE)
    ten(story)
    story.wait(10_000)
    assert story.queue == []
    story.causes = DEAD_DB
    story.wait(5_000)
    story.deliver()
    assert story.of("chat") == [("start", incident(0), 10)]
    assert [(event, count) for event, _, count in story.of("am")] == [("start", 0)] * 10
    (message,) = [saying for saying in story.told if "chat" in saying.channels]
    assert message.grouped is not None
    assert (message.grouped.cause, message.grouped.reason) == ("db", DB)
    assert [one.scope for one in message.grouped.alerts] == list(DB_SCOPES)
    assert message.alert.title.startswith("db: 10 alerts of one cause (inbound:db, edge:cart->db, ")
    for number, scope in enumerate(DB_SCOPES):
        story.add(number, "resolve", nth=2, scope=scope)
    story.deliver()
    assert story.of("chat")[1:] == [("resolve", incident(0), 10)]
    assert len(story.of("am")) == 20
    story.keep()
    assert story.kept == (20, encode_note(Note(decided_to=20)))


def test_a_p1_waits_for_its_cause_and_not_for_company() -> None:
    story = Story(causes=NO_CAUSE)
    story.add(0, tier="P1", scope="inbound:db")
    story.add(1, scope="service:cart")
    story.wait(4_000)
    assert story.queue == []
    story.causes = DEAD_DB
    story.wait(1_000)
    story.deliver()
    assert story.of("phone") == story.of("chat") == [("start", incident(0), 2)]


def test_two_causes_are_two_messages() -> None:
    story = Story(causes=TWO)
    story.add(0, scope="service:cart")
    story.add(1, scope="service:audit")
    story.add(2, scope="service:stock")
    story.add(3, scope="graph:admin")
    story.wait(WAIT_MS)
    story.deliver()
    assert story.of("chat") == [("start", incident(0), 2), ("start", incident(1), 2)]


@pytest.mark.parametrize(
    ("causes", "wait_ms", "scope", "rule", "waits_ms"),
    [
        (None, WAIT_MS, "service:cart", "slo", 0),
        (DEAD_DB, 0, "service:cart", "slo", 0),
        (DEAD_DB, WAIT_MS, "partition:3", "telemetry", 0),
        (DEAD_DB, WAIT_MS, "service:elsewhere", "slo", 0),
        (DEAD_DB, WAIT_MS, "service:cart", "chronic", 0),
        (NO_CAUSE, WAIT_MS, "service:cart", "slo", WAIT_MS),
        (DEAD_DB, WAIT_MS, "service:search", "slo", WAIT_MS),
    ],
    ids=["no graph", "off", "no scope", "not in it", "habit", "no cause", "beside the cause"],
)
def test_what_has_no_cause_is_told_alone(
    causes: Explained | None, wait_ms: int, scope: str, rule: str, waits_ms: int
) -> None:
    story = Story(causes=causes, wait_ms=wait_ms)
    story.add(0, scope=scope, tier="P1", rule=rule)
    if waits_ms:
        story.wait(waits_ms - 1)
        assert story.queue == []
    story.wait(1)
    story.causes = DEAD_DB
    story.add(0, "resolve", nth=2, scope=scope, tier="P1", rule=rule)
    story.deliver()
    assert story.of("phone") == [("start", incident(0), 0), ("resolve", incident(0), 0)]
    assert all(saying.grouped is None for saying in story.told)


def test_who_joins_is_told_at_once_where_it_is_worse_and_later_in_one_message_otherwise() -> None:
    story = Story(causes=DEAD_DB)
    story.add(0)
    story.wait(WAIT_MS)
    for number in (1, 2, 3):
        story.add(number, scope=DB_SCOPES[number])
        story.wait(1_000)
    story.deliver()
    assert story.of("chat") == [("start", incident(0), 1)]
    story.add(4, tier="P1", scope="service:web")
    story.wait(1_000)
    story.deliver()
    assert story.of("phone") == [("change", incident(0), 5)]
    story.wait(UPDATE_MS)
    story.wait(UPDATE_MS)
    story.deliver()
    assert story.of("chat")[1:] == [("change", incident(0), 5)]
    for number in range(5):
        story.add(number, "resolve", nth=2)
    story.deliver()
    assert story.of("phone")[-1] == story.of("chat")[-1] == ("resolve", incident(0), 5)
    numbers = [s.alert.number for s in story.told if "chat" in s.channels]
    assert numbers == sorted(set(numbers))


def test_a_group_repeats_as_its_eldest_alert_does() -> None:
    story = Story(causes=DEAD_DB)
    ten(story)
    story.wait(WAIT_MS)
    for number in range(1, 10):
        story.add(number, "repeat", nth=2)
    story.deliver()
    assert len(story.of("chat")) == 1
    story.add(0, "repeat", nth=2)
    story.add(0, "resolve", nth=3)
    story.add(1, "repeat", nth=3)
    # An hour unanswered: what repeats is louder, which calls the phone, but only once.
    story.add(2, "repeat", nth=3, tier="P1")
    story.add(3, "repeat", nth=3, tier="P1")
    story.deliver()
    assert [event for event, *_ in story.of("chat")[1:]] == ["repeat", "repeat"]
    assert story.of("phone") == [("repeat", incident(0), 10)]


def test_silenced_events_open_no_group_and_the_end_is_told() -> None:
    story = Story(causes=DEAD_DB)
    story.add(0, silenced="ops: upgrade")
    story.wait(WAIT_MS)
    assert story.queue == []
    story.add(0, "repeat", nth=2, tier="P1")
    story.wait(WAIT_MS)
    story.add(0, "repeat", nth=3, tier="P1", silenced="ops: upgrade")
    story.add(0, "resolve", nth=4, tier="P1", silenced="ops: upgrade")
    story.deliver()
    assert story.of("phone") == [("start", incident(0), 1), ("resolve", incident(0), 1)]


def test_suspicion_that_moves_pages_nobody_again() -> None:
    story = Story(causes=Explained(view(("web", "stock", 0.9))))
    story.add(0, tier="P1", scope="service:checkout")
    story.wait()
    story.causes = DEAD_DB
    story.add(1, tier="P1", scope="edge:cart->db")
    story.wait()
    story.wait(UPDATE_MS)
    story.deliver()
    assert story.of("phone") == [("start", incident(0), 1), ("change", incident(0), 2)]


def test_a_killed_sender_s_decisions_stand() -> None:
    story = Story(causes=DEAD_DB)
    ten(story, tier="P1")
    story.wait()
    story.restart()  # kept, not sent
    story.deliver(4)
    story.causes = NO_CAUSE  # the one after it would decide otherwise
    story.restart()
    story.deliver()
    assert set(story.of("phone")) == {("start", incident(0), 10)}
    story.keep()
    story.restart()
    story.add(10, tier="P1", scope="service:web")
    story.wait(WAIT_MS)
    for number in range(11):
        story.add(number, "resolve", nth=2, tier="P1")
        story.restart()
    story.deliver()
    assert story.of("phone")[-2:] == [
        ("resolve", incident(0), 10),
        ("resolve", incident(10), 0),
    ]


def test_a_worse_event_that_was_not_sent_is_sent_by_the_next_sender() -> None:
    story = Story(causes=DEAD_DB)
    ten(story)
    story.wait(WAIT_MS)
    story.deliver()
    story.keep()
    story.add(3, "change", nth=2, tier="P1")
    story.add(10, tier="P1", scope="service:web")
    story.wait()  # keeps a note while the change is on its way
    story.restart()
    story.deliver()
    assert [event for event, *_ in story.of("phone")] == ["change"]
    # Its channel is remembered although the one that was told there is over and forgotten.
    story.add(3, "resolve", nth=3, tier="P1")
    story.add(10, "resolve", nth=2, tier="P1")
    story.deliver()
    story.keep()
    story.restart()
    for number in set(range(10)) - {3}:
        story.add(number, "resolve", nth=2)
    story.deliver()
    assert story.of("phone")[-1][:2] == ("resolve", incident(0))


def test_a_sender_that_lost_its_note_opens_and_closes_the_same_page() -> None:
    story = Story(causes=DEAD_DB)
    ten(story, tier="P1")
    story.wait()
    story.deliver()
    story.kept = (0, "")
    story.restart()
    story.deliver()
    assert set(story.of("phone")) == {("start", incident(0), 10)}


def test_a_broken_note_is_none() -> None:
    for text in ("", "g1:", "g1:!!", "g1:AAAA", "x", "g2:AAAA"):
        assert decode_note(text) == Note()


def test_a_note_fits_whatever_happens() -> None:
    story = Story(causes=DEAD_DB)
    for number in range(2_000):
        story.add(number, scope=DB_SCOPES[number % 10])
    story.wait(WAIT_MS)
    assert len(story.kept[1]) <= 4_000
    (group,) = decode_note(story.kept[1]).groups
    assert 250 < len(group.ids) < 400
    for number in range(2_000, 4_000):
        story.add(number, scope="service:search")
    story.keep()
    assert len(story.kept[1]) <= 4_000


def test_a_graph_that_can_t_be_read_holds_nothing_up_for_long() -> None:
    story = Story()
    story.add(0)
    grouping = Grouping(
        TIERS,
        frozenset(),
        GroupingTimes(WAIT_MS, UPDATE_MS),
        note=Note(),
        low=0,
        end=1,
        now_ms=story.now_ms,
    )
    (record,) = story.topic
    grouping.take(record, _decoded(record), story.now_ms)
    assert grouping.decide(story.now_ms, None, is_graph_read=False) == ([], [])
    said, _ = grouping.decide(story.now_ms + CATCH_UP_MS, None, is_graph_read=False)
    assert [saying.alert.event for saying in said] == ["start"]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("event"), st.integers(0, 7), st.booleans()),
        st.tuples(st.just("wait"), st.sampled_from([0, 1_000, 15_000, 300_000]), st.booleans()),
        st.tuples(st.just("deliver"), st.integers(1, 5), st.booleans()),
        st.tuples(st.just("kill"), st.just(0), st.booleans()),
        st.tuples(st.just("keep"), st.just(0), st.booleans()),
        st.tuples(st.just("graph"), st.integers(0, 3), st.booleans()),
    ),
    max_size=60,
)
GRAPHS = (None, NO_CAUSE, DEAD_DB, TWO)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_nothing_is_lost_and_nothing_stays_open_whatever_is_killed(
    steps: list[tuple[str, int, bool]],
) -> None:
    story = Story(causes=DEAD_DB)
    numbers: dict[int, int] = {}
    scopes = (*DB_SCOPES[:6], "service:audit", "service:search")

    def event(number: int, kind: Event, *, is_p1: bool) -> None:
        numbers[number] = numbers.get(number, 0) + 1
        tier = "P1" if is_p1 else "P2"
        story.add(number, kind, nth=numbers[number], tier=tier, scope=scopes[number])

    for name, value, flag in steps:
        if name == "event" and value not in numbers:
            event(value, "start", is_p1=flag)
        elif name == "event":
            event(value, "repeat", is_p1=flag)
        elif name == "wait":
            story.wait(value)
        elif name == "deliver":
            story.deliver(value)
        elif name == "kill":
            story.restart()
        elif name == "keep":
            story.keep()
        elif name == "graph":
            story.causes = GRAPHS[value]
    story.wait(WAIT_MS)
    for number in sorted(numbers):
        event(number, "resolve", is_p1=True)
    story.wait(WAIT_MS)
    story.deliver()
    for channel, tier in (("phone", "P1"), ("chat", "P2"), ("am", None)):
        standing, shown = set[str](), set[str]()
        for saying in story.told:
            if channel not in saying.channels:
                continue
            assert channel != "am" or saying.grouped is None or saying.grouped.count == 0
            shown.add(saying.alert.id)
            shown |= {one.id for one in saying.grouped.alerts} if saying.grouped else set()
            if saying.alert.event == "resolve":
                standing.discard(saying.alert.id)
            else:
                standing.add(saying.alert.id)
        assert standing == set()
        wanted = {
            one.id
            for one in map(_decoded, story.topic)
            if one.event != "resolve" and tier in (None, one.tier)
        }
        assert wanted <= shown
