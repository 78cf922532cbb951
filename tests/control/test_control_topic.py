"""Which control records count, from when, and which a partition must still be told."""

import dataclasses

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.control.asked import (
    LEAD_MS,
    T_MS,
    TOPIC_ID,
    abort,
    accepted,
    bad_push,
    clear,
    latch,
    override,
    promote,
    push,
    read,
    relearn,
    silence,
    silence_clear,
)
from tidegate.rules.in_force import InForce as PartitionsMemory
from tidegate.rules.policy import load_policy, policy_from_content
from tidegate.schemas.control import (
    Abort,
    ControlEntry,
    ControlRecord,
    LatchReset,
    PolicyPush,
    Promote,
    Relearn,
    decode_control,
    encode_control,
)
from tidegate.schemas.health import decode_health, encode_control_for_graph
from tidegate.schemas.partials import RECORD_BYTES_MAX, decode_partials, encode_aside
from tidegate.streams.control_topic import (
    BEHIND_MAX_MS,
    Accepted,
    Refused,
    batches_of,
    entry_of,
    in_force,
)

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def changed(record: ControlRecord, **fields: object) -> bytes:
    return msgspec.json.encode({**msgspec.json.decode(encode_control(record)), **fields})


# ---- what counts ----


@pytest.mark.parametrize(
    ("value", "is_undecodable", "says"),
    [
        (b"", True, "Input data was truncated"),
        (b"\xff\xfe", True, ""),
        (b"[1]", True, "Expected"),
        (b'{"kind": "party"}', True, "party"),
        (b'{"scope": "service:a"}', True, "kind"),
        (changed(override(), level="ajar"), False, "ajar"),
        (changed(override(), until_ms="soon"), False, "until_ms"),
        (b'{"kind": "override"}', False, "missing required field"),
        (changed(override(), scope="payments"), False, "scope 'payments' is none"),
        (changed(override(), scope="override:*"), False, "scope 'override:*' is none"),
        (changed(override(), scope="edge:web"), False, "scope 'edge:web' is no edge"),
        (changed(override(), scope="service:"), False, "is none"),
        (changed(override(), scope=""), False, "is none"),
        (changed(override(), scope="service:" + "a" * 600), False, "has 608 characters"),
        (changed(override(), by=" "), False, "by: is empty"),
        (changed(override(), reason="x" * 1001), False, "reason: has 1001 characters"),
        (changed(override(), until_ms=T_MS), False, "was over when the record came"),
        (changed(override(), until_ms=T_MS + 8 * DAY_MS), False, "8.0 days ahead"),
        (changed(silence(), until_ms=T_MS - 1), False, "is not after from_ms"),
        (changed(silence(), from_ms=0, until_ms=1), False, "was over when the record came"),
        (changed(silence(), until_ms=T_MS + 8 * DAY_MS), False, "at most 7"),
        (
            changed(silence(), from_ms=T_MS + 90 * DAY_MS, until_ms=T_MS + 91 * DAY_MS),
            False,
            "more than 90 days ahead",
        ),
        (changed(push(rollout="grey"), share=1.5), False, "share: 1.5 is no ratio"),
        (changed(push(rollout="grey"), share=0), False, "grey for no service at all"),
        (changed(push(rollout="grey"), services=[""]), False, "patterns of 1 to"),
        (changed(push(), text="name: x\nname: y\n"), False, "name"),
        (changed(push(), text=""), False, ""),
        (encode_control(promote()), False, "no policy is tried"),
        (encode_control(abort()), False, "no policy is tried"),
    ],
)
def test_what_cannot_count_is_refused_with_the_reason(
    value: bytes, is_undecodable: bool, says: str
) -> None:
    (one,) = read([value])
    assert isinstance(one, Refused)
    assert one.is_undecodable is is_undecodable
    assert any(says in problem for problem in one.problems), one.problems


def test_a_tombstone_is_no_record() -> None:
    (one,) = read([b""])
    assert isinstance(one, Refused)


@given(st.binary(max_size=200))
def test_no_bytes_raise(value: bytes) -> None:
    assert isinstance(read([value])[0], Refused)


def test_a_policy_is_refused_with_all_its_problems_and_the_one_before_stays() -> None:
    good, bad = read([push("good"), bad_push()])
    assert isinstance(good, Accepted)
    assert isinstance(bad, Refused)
    assert len(bad.problems) == 2, bad.problems
    assert [one.label.partition("@")[0] for one in in_force([good])] == ["good"]


def test_an_accepted_policy_carries_its_content_and_not_its_text() -> None:
    (one,) = accepted([push("shop")])
    text = "name: shop\nsettings:\n  mode: observe\n"
    assert one.text == text
    entry = entry_of(one, TOPIC_ID)
    assert b"settings" not in entry.record
    record = decode_control(entry.record)
    assert isinstance(record, PolicyPush)
    assert record.text == ""
    policy = policy_from_content(entry.policy)
    assert policy.label == one.label == load_policy(text, where="x").label


# ---- from when ----


@pytest.mark.parametrize(
    ("append_ms", "boundary_ms"),
    [
        (T_MS, T_MS + 2_000),
        (T_MS + 1, T_MS + 2_500),
        (T_MS + 499, T_MS + 2_500),
        (T_MS + 500, T_MS + 2_500),
    ],
)
def test_a_record_takes_effect_at_the_first_boundary_after_the_lead(
    append_ms: int, boundary_ms: int
) -> None:
    (one,) = accepted([override()], times_ms=[append_ms])
    assert one.effective_boundary * 500 == boundary_ms
    assert boundary_ms - append_ms >= LEAD_MS


def test_a_later_record_never_overtakes_whatever_the_brokers_clocks_say() -> None:
    found = accepted([push(), override(), clear()], times_ms=[T_MS, T_MS - 30_000, T_MS + 5])
    boundaries = [one.effective_boundary for one in found]
    assert boundaries == sorted(boundaries)
    assert boundaries[0] == boundaries[1] < boundaries[2]


# ---- what a partition must still be told ----


@pytest.mark.parametrize(
    ("why", "records", "kept"),
    [
        ("nothing", [], []),
        ("the newest full policy stands for all before", [push("a"), push("b")], [1]),
        (
            "also for what was tried",
            [push("a"), push("b", "grey"), promote(), push("c", "shadow"), push("d")],
            [4],
        ),
        ("a tried one stands beside", [push("a"), push("b", "grey")], [0, 1]),
        ("the newest tried one replaces", [push("b", "grey"), push("c", "shadow")], [1]),
        ("a promotion needs its push", [push("a"), push("b", "grey"), promote()], [1, 2]),
        (
            "and after it another is tried",
            [push("b", "grey"), promote(), push("c", "shadow")],
            [0, 1, 2],
        ),
        ("who heard of the tried one must hear of its end", [push("b", "grey"), abort()], [1]),
        ("a refused policy changes nothing", [push("a"), bad_push()], [0]),
        ("the newest override of a scope", [override(), override("edge:a->b"), override()], [1, 2]),
        ("who heard of it must hear of its end", [override(), clear()], [1]),
        ("the end of nothing", [clear()], []),
        ("silences are no overrides", [override(), silence(), clear(), silence_clear()], [2, 3]),
        ("latches and relearning", [latch(), relearn(), latch(action="reset"), relearn()], [2, 3]),
    ],
)
def test_superseded_history_is_left_out(
    why: str, records: list[ControlRecord], kept: list[int]
) -> None:
    found = in_force(accepted(records))
    assert [one.offset for one in found] == kept, why


@pytest.mark.parametrize(
    ("later_ms", "is_kept"),
    [(600_000, True), (600_000 + BEHIND_MAX_MS - 1, True), (600_000 + BEHIND_MAX_MS, False)],
)
def test_what_is_over_since_longer_than_partials_are_kept_is_left_out(
    later_ms: int, is_kept: bool
) -> None:
    asked: list[ControlRecord] = [
        override(),
        clear("service:b"),
        override("service:b"),
        clear("service:b"),
        push(),
    ]
    found = in_force(accepted(asked, times_ms=[T_MS, T_MS, T_MS, T_MS, T_MS + later_ms]))
    assert [one.offset for one in found] == ([0, 3, 4] if is_kept else [4])


def test_a_short_override_in_the_place_of_a_long_one_is_told_until_both_are_over() -> None:
    """Who has heard only the long one would go on with it."""
    long_ms = T_MS + 48 * HOUR_MS
    asked: list[ControlRecord] = [
        override(until_ms=long_ms),
        override(until_ms=T_MS + 60_000),
        push(),
    ]
    for now_ms, kept in ((T_MS + 24 * HOUR_MS, [1, 2]), (long_ms + BEHIND_MAX_MS, [2])):
        found = in_force(accepted(asked, times_ms=[T_MS, T_MS, now_ms]))
        assert [one.offset for one in found] == kept


# ---- any prefix and a reading again give the same state ----

SERVICES = ["service:a", "edge:a->b"]
SCOPES = [*SERVICES, "*"]
POLICIES: list[ControlRecord] = [
    *(push(name, rollout) for name in "ab" for rollout in ("full", "grey", "shadow")),
    promote(),
    promote(),
    abort(),
    bad_push(),
]
TIMED: list[ControlRecord] = [
    record for scope in SCOPES for record in (override(scope), clear(scope), silence(scope))
]
CLEARED: list[ControlRecord] = [silence_clear(scope) for scope in SCOPES]
LATCHES: list[ControlRecord] = [
    *(latch(scope, action) for scope in SCOPES for action in ("lock", "reset")),
    *(relearn(scope) for scope in SCOPES),
]
GROUPS = {
    "policies": POLICIES,
    "timed": TIMED + CLEARED,
    "latches": LATCHES,
    "all": POLICIES + TIMED + CLEARED + LATCHES,
}
STEPS_MS = st.sampled_from([0, 1, 700, 5_000, 400_000, HOUR_MS, 9 * HOUR_MS])
LASTS_MS = st.sampled_from([60_000, HOUR_MS, 24 * HOUR_MS])


def topic_of(data: st.DataObject, group: str) -> list[Accepted]:
    """A control topic: records and when they were appended; those with an end last for some time."""
    count = data.draw(st.integers(1, 10))
    times_ms, records, now_ms = [], [], T_MS
    for _ in range(count):
        now_ms += data.draw(STEPS_MS)
        times_ms.append(now_ms)
        record = data.draw(st.sampled_from(GROUPS[group]))
        times = {"from_ms": now_ms, "until_ms": now_ms + data.draw(LASTS_MS)}
        mine = {name: ms for name, ms in times.items() if hasattr(record, name)}
        records.append(msgspec.structs.replace(record, **mine))
    return accepted(records, times_ms=times_ms)


@dataclasses.dataclass
class Partition:
    """What a partition holds of what operators asked for, told only by its log."""

    memory: PartitionsMemory = dataclasses.field(default_factory=PartitionsMemory)
    policy: bytes = b""
    tried: bytes = b""
    latches: dict[str, str] = dataclasses.field(default_factory=dict)

    def hear(self, *values: bytes) -> None:
        for value in values:
            record, _ = decode_partials(value)
            self.memory.offer(record.control)
        for due in self.memory.due(1 << 62)[0]:
            match due.record:
                case PolicyPush(rollout="full"):
                    self.policy, self.tried = due.policy, b""
                case PolicyPush():
                    self.tried = due.policy
                case Promote():
                    self.policy, self.tried = self.tried or self.policy, b""
                case Abort():
                    self.tried = b""
                case LatchReset(scope=scope, action=action):
                    for one in SERVICES if scope == "*" else [scope]:
                        self.latches[one] = action
                case Relearn():
                    pass  # of what was learned before: nothing, in a partition that begins
                case _:
                    assert self.memory.apply(due.record)

    def state(self, now_ms: int) -> object:
        self.memory.expire(now_ms)
        return (
            self.policy,
            self.tried,
            self.latches,
            list(self.memory.overrides.values()),
            list(self.memory.silences.values()),
        )


def sent(records: list[Accepted]) -> list[bytes]:
    return [
        encode_aside(partitions_count=3, control=batch) for batch in batches_of(records, TOPIC_ID)
    ]


@pytest.mark.parametrize("group", GROUPS)
@given(st.data())
@settings(max_examples=150)
def test_any_prefix_and_then_a_reading_again_give_the_state_of_one_that_heard_all(
    group: str, data: st.DataObject
) -> None:
    """The sequencer ends after any record, and its successor sends what matters of all that is there."""
    topic = topic_of(data, group)
    heard = data.draw(st.integers(0, len(topic)))
    again_at = data.draw(st.integers(heard, len(topic)))
    undisturbed, disturbed = Partition(), Partition()
    now_ms = topic[-1].append_ms if topic else T_MS
    for one in topic:
        undisturbed.hear(*sent([one]))
    for one in topic[:heard]:
        disturbed.hear(*sent([one]))
    disturbed.hear(*sent(in_force(topic[:again_at])))
    for one in topic[again_at:]:
        disturbed.hear(*sent([one]))
    disturbed.hear(*sent(in_force(topic)))
    assert disturbed.state(now_ms) == undisturbed.state(now_ms)


@given(st.data())
def test_what_is_told_rises_in_number_and_is_taken_from_the_topic_unchanged(
    data: st.DataObject,
) -> None:
    topic = topic_of(data, "all")
    found = in_force(topic)
    offsets = [one.offset for one in found]
    assert offsets == sorted(set(offsets))
    assert all(one in topic for one in found)
    kept = [one for one in found if isinstance(one.record, PolicyPush | Promote | Abort)]
    assert len(kept) <= 3


# ---- records of partials and of health ----


def test_many_entries_share_a_record_and_each_record_stays_below_the_limit() -> None:
    many = accepted([override(f"service:{'x' * 300}{i}") for i in range(3_000)], every_ms=0)
    records = sent(many)
    assert 1 < len(records) < 10
    assert all(len(record) < RECORD_BYTES_MAX for record in records)
    entries: list[ControlEntry] = []
    for record in records:
        read_back, blocks = decode_partials(record)
        assert (read_back.watermarks, read_back.sources, len(blocks.key)) == ([], [], 0)
        assert read_back.partitions_count == 3
        entries += read_back.control
    assert entries == [entry_of(one, TOPIC_ID) for one in many]
    assert [entry.seq for entry in entries] == list(range(3_000))
    batches = batches_of(many, TOPIC_ID)
    for_graph = [encode_control_for_graph(batch) for batch in batches]
    assert all(len(record) < RECORD_BYTES_MAX for record in for_graph)
    assert [e for record in for_graph for e in decode_health(record).control] == entries
