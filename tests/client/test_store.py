"""Leases, staleness, fencing and the kill switch, with the time written down."""

import logging

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.client.lease import FALLBACKS, JITTER_MS, LEASE_MS, RAMP_MS, FallbackLevel
from tidegate.client.store import OVERRIDE_SETTLE_MS
from tidegate.client.testing import FeedClient, decision
from tidegate.schemas.decision import (
    Decision,
    Lease,
    LevelName,
    Override,
    encode_decision,
    encode_lease,
)

SCOPE = "edge:web->payments"
START_MS = 1_800_000_000_000
START = START_MS // 500
KEYS = [f"t{i}" for i in range(500)]


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.ms = START_MS

    def __call__(self) -> int:
        return self.ms


def client(**settings: object) -> tuple[FeedClient, Clock]:
    clock = Clock()
    return FeedClient(now_ms=clock, **settings), clock  # type: ignore[arg-type]  # as given


def opened(boundary: int = START, **more: object) -> Decision:
    """The scope's breaker is open."""
    return decision(
        SCOPE,
        "open",
        boundary=boundary,
        **{"admit_ratio": 0.0, "retry_ratio_max": 0.0, **more},  # type: ignore[arg-type]  # fields by name
    )


def share(feed: FeedClient) -> float:
    """Of 500 requests, those that pass."""
    return sum(feed.admit(SCOPE, trace_id=k).passes for k in KEYS) / len(KEYS)


def keep_alive(feed: FeedClient, clock: Clock, seconds: int) -> None:
    """A worker that evaluates partition 0 for so long."""
    for _ in range(seconds // 10):
        clock.ms += 10_000
        feed.lease(boundary=clock.ms // 500)


# ---- nothing known, fencing, tombstones ----


def test_nothing_known_means_everything_passes() -> None:
    feed, _ = client()
    verdict = feed.admit(SCOPE, trace_id="a")
    assert (verdict.passes, verdict.rule, verdict.scope) == (True, "no_decision", SCOPE)
    answer = feed.decide("payments")
    assert (answer.scope, answer.level, answer.decision) == ("service:payments", "closed", None)
    assert (answer.status, answer.is_stale) == ("none", False)


def test_only_a_newer_boundary_is_believed() -> None:
    feed, _ = client()
    feed.publish(opened())
    feed.publish(decision(SCOPE, "closed", boundary=START))
    feed.publish(decision(SCOPE, "closed", boundary=START - 9))
    assert feed.decide(SCOPE).level == "open"
    assert feed.stats()["not_newer"] == 2
    feed.publish(decision(SCOPE, "closed", boundary=START + 1))
    assert feed.decide(SCOPE).level == "closed"


@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=6))
def test_the_newest_boundary_is_known_in_whatever_order_and_however_often_it_is_read(
    order: list[int], again: list[int]
) -> None:
    feed, _ = client()
    for i in [*order, *again]:
        feed.publish(decision(SCOPE, "closed", boundary=START + i))
    newest = feed.decide(SCOPE).decision
    assert newest is not None
    assert newest.boundary == START + 5


def test_a_tombstone_ends_a_scope_and_an_older_record_does_not_revive_it() -> None:
    feed, _ = client()
    feed.publish(opened(START + 5))
    feed.end(SCOPE)
    assert feed.decide(SCOPE).decision is None
    feed.publish(opened(START + 5))
    assert feed.decide(SCOPE).decision is None
    feed.publish(opened(START + 6))
    assert feed.decide(SCOPE).level == "open"
    feed.end("service:never-heard-of")
    assert feed.stats()["tombstones"] == 2


# ---- leases ----


def test_a_lease_record_keeps_a_decision_in_force() -> None:
    feed, clock = client()
    feed.publish(opened())
    keep_alive(feed, clock, 200)
    assert feed.decide(SCOPE).status == "obeyed"
    assert not feed.admit(SCOPE, trace_id="a").passes


def test_a_lost_lease_ends_in_a_ramp_with_jitter_and_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="tidegate.client")
    feed, clock = client()
    feed.publish(opened())
    clock.ms += LEASE_MS
    feed.tick()
    assert share(feed) == 0.0
    assert not feed.decide(SCOPE).is_stale
    seen = []
    for _ in range(0, JITTER_MS + RAMP_MS, 1_000):
        clock.ms += 1_000
        feed.tick()
        assert feed.decide(SCOPE).is_stale
        assert feed.admit(SCOPE, trace_id="a").is_stale
        seen.append(share(feed))
    assert seen == sorted(seen)
    assert seen[0] < 0.05
    assert any(0.3 < each < 0.7 for each in seen)
    assert seen[-1] == 1.0
    assert feed.decide(SCOPE).level == "closed"
    assert feed.stats()["leases_lost"] == feed.stats()["stale_partitions"] == 1
    assert len(caplog.records) == 1
    assert "partition 0" in caplog.text


def test_a_lease_that_comes_back_on_the_ramp_ends_it_without_a_jump_to_all() -> None:
    feed, clock = client()
    feed.publish(opened())
    clock.ms += LEASE_MS + 5_000
    feed.lease(boundary=clock.ms // 500)
    assert feed.decide(SCOPE).status == "obeyed"
    assert share(feed) == 0.0


def test_what_was_decided_before_a_long_gap_is_not_obeyed_until_published_again() -> None:
    feed, clock = client()
    feed.publish(opened())
    clock.ms += LEASE_MS + JITTER_MS + RAMP_MS + 1_000
    feed.lease(boundary=clock.ms // 500)
    assert feed.decide(SCOPE).status == "shown"
    assert share(feed) == 1.0
    feed.publish(opened(clock.ms // 500))
    assert share(feed) == 0.0


def test_a_lease_belongs_to_its_partition() -> None:
    feed, clock = client()
    feed.publish(opened())
    feed.publish(decision("service:other", "open", boundary=START, partition=1, admit_ratio=0.0))
    keep_alive(feed, clock, 120)
    assert feed.decide(SCOPE).status == "obeyed"
    assert feed.decide("other").status == "stale"


def test_a_lease_record_says_how_long_it_runs() -> None:
    feed, clock = client()
    feed.lease(boundary=START, lease_ms=600_000)
    feed.publish(opened())
    clock.ms += 500_000
    assert feed.decide(SCOPE).status == "obeyed"


def test_an_old_lease_of_a_worker_that_wakes_extends_nothing() -> None:
    feed, clock = client()
    feed.publish(opened())
    feed.lease(boundary=START + 10)
    clock.ms += LEASE_MS - 5_000
    feed.lease(boundary=START + 10)
    feed.lease(boundary=START + 9)
    clock.ms += 5_001
    assert feed.decide(SCOPE).is_stale
    assert feed.stats()["not_newer"] == 2


def test_a_late_lease_extends_nothing() -> None:
    feed, clock = client()
    feed.publish(opened())
    clock.ms += 600_000
    feed.lease(boundary=START + 1)
    assert feed.decide(SCOPE).is_stale
    assert feed.stats()["late_leases"] == 1


def test_a_decision_caught_up_after_ten_minutes_is_shown_and_not_obeyed() -> None:
    feed, clock = client()
    clock.ms += 600_000
    feed.lease(boundary=clock.ms // 500)
    feed.publish(opened())
    answer = feed.decide(SCOPE)
    assert answer.decision is not None
    assert answer.decision.level == "open"
    assert (answer.level, answer.status, answer.is_stale) == ("closed", "shown", True)
    keep_alive(feed, clock, 60)
    assert share(feed) == 1.0
    assert feed.stats()["late_decisions"] == 1


def test_a_late_decision_in_the_place_of_an_obeyed_one_lets_go_by_the_ramp() -> None:
    feed, clock = client()
    feed.publish(opened())
    keep_alive(feed, clock, 100)
    late = msgspec.structs.replace(opened(START + 1), reason="caught up")
    feed.publish(late)
    assert share(feed) == 0.0
    assert feed.decide(SCOPE).decision == late
    assert feed.decide(SCOPE).status == "shown"
    clock.ms += JITTER_MS + RAMP_MS // 2
    assert 0.2 < share(feed) < 1.0
    clock.ms += RAMP_MS
    assert share(feed) == 1.0


@pytest.mark.parametrize(
    ("level", "at_end"),
    [("closed", 1.0), ("degraded_1", 0.9), ("degraded_2", 0.7), ("open", 0.0)],
)
def test_a_client_falls_back_to_its_configured_level(level: FallbackLevel, at_end: float) -> None:
    feed, clock = client(fallback_level=level)
    feed.publish(decision(SCOPE, "degraded_2", boundary=START, admit_ratio=0.5))
    clock.ms += LEASE_MS + JITTER_MS + RAMP_MS
    answer = feed.decide(SCOPE)
    assert (answer.level, answer.actions) == (level, FALLBACKS[level])
    assert share(feed) == pytest.approx(at_end, abs=0.06)
    assert feed.decide("never-decided").level == "closed"
    assert feed.admit("never-decided", trace_id="a").passes


def test_advice_stays_advice_on_the_fallback() -> None:
    feed, clock = client(fallback_level="open")
    feed.publish(decision(SCOPE, "closed", boundary=START, enforce=False))
    clock.ms += 10 * LEASE_MS
    verdict = feed.admit(SCOPE, trace_id="a")
    assert (verdict.passes, verdict.would_pass, verdict.effect) == (True, False, None)


# ---- at start, and after a time without Kafka ----


@pytest.mark.parametrize(
    ("lease_age_ms", "status"),
    [(1_000, "obeyed"), (44_000, "obeyed"), (46_000, "shown"), (600_000, "shown")],
)
def test_at_start_a_lease_runs_from_its_kafka_time(lease_age_ms: int, status: str) -> None:
    """The decision is a day old and still holds: it was published in time, and leases go on."""
    feed, clock = client()
    feed.begin()
    feed.publish(opened(), kafka_ms=START_MS + 100, is_live=False)
    clock.ms += 86_400_000
    leased_ms = clock.ms - lease_age_ms
    feed.lease(boundary=leased_ms // 500, kafka_ms=leased_ms, is_live=False)
    assert feed.decide(SCOPE).status == "none"  # not before all is read
    feed.caught_up()
    assert feed.decide(SCOPE).status == status
    assert feed.admit(SCOPE, trace_id="a").passes is (status == "shown")


def test_a_lease_that_was_over_at_start_revives_nothing_when_it_comes_back() -> None:
    feed, clock = client()
    feed.begin()
    feed.publish(opened(), is_live=False)
    clock.ms += 86_400_000
    feed.caught_up()
    feed.lease(boundary=clock.ms // 500)
    assert feed.decide(SCOPE).status == "shown"
    feed.publish(opened(clock.ms // 500))
    assert feed.decide(SCOPE).status == "obeyed"


def test_a_clock_behind_kafkas_grants_no_longer_lease_at_start() -> None:
    feed, clock = client()
    ahead_ms = START_MS + 600_000
    feed.begin()
    feed.publish(opened(ahead_ms // 500), kafka_ms=ahead_ms, is_live=False)
    feed.lease(boundary=ahead_ms // 500, kafka_ms=ahead_ms, is_live=False)
    feed.caught_up()
    assert feed.decide(SCOPE).status == "obeyed"
    clock.ms += LEASE_MS + 1
    assert feed.decide(SCOPE).is_stale


def test_after_a_time_without_kafka_what_was_missed_counts_by_its_kafka_time() -> None:
    feed, clock = client()
    feed.publish(opened())
    clock.ms += 300_000
    missed_ms = clock.ms - 200_000
    feed.publish(opened(missed_ms // 500), kafka_ms=missed_ms, is_live=False)
    assert feed.decide(SCOPE).is_stale
    feed.lease(boundary=clock.ms // 500, kafka_ms=clock.ms - 3_000, is_live=False)
    assert feed.decide(SCOPE).status == "obeyed"


def test_a_topic_read_anew_answers_by_the_old_store_until_it_is_read_whole() -> None:
    feed, _ = client()
    heard: list[tuple[str, str | None]] = []
    feed.publish(opened())
    feed.publish(decision("service:gone", "closed", boundary=START))
    feed.on_change(lambda scope, said: heard.append((scope, said.level if said else None)))
    feed.begin()
    feed.publish(decision(SCOPE, "degraded_1", boundary=3), kafka_ms=2_000, is_live=False)
    assert feed.decide(SCOPE).level == "open"
    assert heard == []
    feed.caught_up()
    newest = feed.decide(SCOPE).decision
    assert newest is not None
    assert newest.level == "degraded_1"  # an older boundary, of another topic
    assert sorted(heard, key=str) == [(SCOPE, "degraded_1"), ("service:gone", None)]
    assert feed.stats()["decisions"] == 3


# ---- the kill switch ----


def test_the_kill_switch_is_obeyed_before_all_else_and_needs_no_lease() -> None:
    feed, clock = client()
    feed.publish(opened())
    feed.publish(decision("override:*", "closed", boundary=START))
    assert feed.admit(SCOPE, trace_id="a").passes
    keep_alive(feed, clock, 10 * LEASE_MS // 1_000)
    answer = feed.decide(SCOPE)
    assert (answer.scope, answer.status, answer.level) == (SCOPE, "override", "closed")
    feed.end("override:*")
    assert not feed.admit(SCOPE, trace_id="a").passes


def test_the_kill_switch_can_turn_everything_away_and_says_so() -> None:
    feed, _ = client()
    feed.publish(decision("override:*", "open", boundary=START, admit_ratio=0.0))
    verdict = feed.admit("never-decided", trace_id="a")
    assert (verdict.passes, verdict.scope, verdict.effect) == (False, "override:*", "shed")


def test_only_a_newer_override_is_believed() -> None:
    feed, _ = client()
    feed.publish(decision("override:*", "closed", boundary=START))
    feed.publish(decision("override:*", "open", boundary=START - 1, admit_ratio=0.0))
    assert feed.decide(SCOPE).level == "closed"
    feed.end("override:*")
    feed.publish(decision("override:*", "open", boundary=START, admit_ratio=0.0))
    assert feed.decide(SCOPE).status == "none"


UNTIL_MS = START_MS + 600_000


def overridden(
    scope: str, level: LevelName, *, boundary: int = START, **actions: object
) -> Decision:
    """By an operator, until ten minutes from the start."""
    plain = decision(scope, level, boundary=boundary, **actions)  # type: ignore[arg-type]  # fields by name
    asked = scope.removeprefix("override:")
    told = Override(scope=asked, level=level, by="kim", reason="a test", until_ms=UNTIL_MS)
    return msgspec.structs.replace(plain, override=told)


@pytest.mark.parametrize(
    ("at_ms", "status"),
    [
        (START_MS, "override"),
        (UNTIL_MS - 1, "override"),
        (UNTIL_MS, "obeyed"),
        (UNTIL_MS + 3_600_000, "obeyed"),
    ],
)
def test_the_kill_switch_ends_at_its_time_and_what_lies_beneath_is_obeyed(
    at_ms: int, status: str
) -> None:
    feed, clock = client()
    feed.publish(overridden("override:*", "closed"))
    clock.ms = at_ms
    feed.publish(opened(at_ms // 500))
    answer = feed.decide(SCOPE)
    assert (answer.status, answer.is_stale) == (status, False)
    assert feed.admit(SCOPE, trace_id="a").passes is (status == "override")
    assert feed.stats()["stale_partitions"] == feed.stats()["leases_lost"] == 0


def test_a_client_that_starts_later_reads_an_old_kill_switch_and_does_not_obey_it() -> None:
    feed, clock = client()
    heard: list[str] = []
    feed.on_change(lambda scope, _: heard.append(scope))
    clock.ms = UNTIL_MS + 60_000
    feed.begin()
    feed.publish(overridden("override:*", "closed"), kafka_ms=START_MS, is_live=False)
    feed.publish(opened(clock.ms // 500), is_live=False)
    feed.caught_up()
    assert feed.decide(SCOPE).status == "obeyed"
    assert feed.decide("never-decided").status == "none"
    assert heard == [SCOPE]


def test_a_client_that_starts_under_the_kill_switch_obeys_it_and_is_told_of_it() -> None:
    feed, clock = client()
    heard: list[str] = []
    feed.on_change(lambda scope, _: heard.append(scope))
    clock.ms = UNTIL_MS - 1
    feed.begin()
    feed.publish(overridden("override:*", "closed"), kafka_ms=START_MS, is_live=False)
    feed.caught_up()
    assert feed.decide(SCOPE).status == "override"
    assert heard == ["override:*"]


def test_the_end_of_a_kill_switch_is_told_once_and_only_a_newer_one_is_believed() -> None:
    feed, clock = client()
    heard: list[tuple[str, bool]] = []
    feed.on_change(lambda scope, said: heard.append((scope, said is not None)))
    feed.publish(overridden("override:*", "open", admit_ratio=0.0))
    feed.tick()
    clock.ms = UNTIL_MS
    feed.tick()
    feed.tick()
    assert heard == [("override:*", True), ("override:*", False)]
    feed.publish(decision("override:*", "open", boundary=START, admit_ratio=0.0))
    assert feed.decide(SCOPE).status == "none"
    feed.publish(decision("override:*", "open", boundary=START + 1, admit_ratio=0.0))
    assert feed.decide(SCOPE).status == "override"


def test_an_override_of_one_scope_that_nobody_ends_lets_go_by_the_ramp() -> None:
    """Leases go on, and nothing is said of the scope: nobody obeys an operator for longer than asked."""
    feed, clock = client()
    clock.ms = UNTIL_MS - 1_000
    feed.publish(overridden(SCOPE, "open", boundary=clock.ms // 500, admit_ratio=0.0))
    keep_alive(feed, clock, 10)
    assert clock.ms == UNTIL_MS + 9_000
    shares = []
    for _ in range(4):
        assert feed.decide(SCOPE).is_stale
        shares.append(share(feed))
        keep_alive(feed, clock, 10)
    assert shares == sorted(shares)
    assert shares[0] < 0.2
    assert share(feed) == 1.0
    feed.publish(opened(clock.ms // 500))
    assert feed.decide(SCOPE).status == "obeyed"


def test_the_end_of_an_override_that_a_worker_tells_in_time_is_no_moment_without_a_decision() -> (
    None
):
    feed, clock = client()
    clock.ms = UNTIL_MS - 1_000
    feed.publish(overridden(SCOPE, "open", boundary=clock.ms // 500, admit_ratio=0.0))
    clock.ms = UNTIL_MS + OVERRIDE_SETTLE_MS - 1
    assert (feed.decide(SCOPE).status, share(feed)) == ("obeyed", 0.0)
    feed.publish(decision(SCOPE, "degraded_1", boundary=clock.ms // 500))
    clock.ms += OVERRIDE_SETTLE_MS
    assert (feed.decide(SCOPE).status, feed.decide(SCOPE).level) == ("obeyed", "degraded_1")


# ---- what others write ----


def record(said: Decision, **fields: object) -> bytes:
    """A decision's JSON with some fields changed."""
    return msgspec.json.encode({**msgspec.json.decode(encode_decision(said)), **fields})


LEASE = Lease(partition=0, boundary=START, window_end_ms=START_MS, lease_ms=45_000)


@pytest.mark.parametrize(
    ("key", "value", "counter"),
    [
        (SCOPE, b"", "undecodable"),
        (SCOPE, b"{}", "undecodable"),
        (SCOPE, b"\xff\x00", "undecodable"),
        (SCOPE, b"[1]", "undecodable"),
        (SCOPE, record(opened(), level="exploded"), "undecodable"),
        (SCOPE, record(opened(), scope="service:other"), "undecodable"),
        ("", encode_decision(opened()), "undecodable"),
        (SCOPE, record(opened(), schema=2), "unknown_schema"),
        (SCOPE, b'{"schema": 2, "level": {"name": "open"}}', "unknown_schema"),
        ("lease:0", b"", "undecodable"),
        ("lease:0", b"\xff", "undecodable"),
        ("lease:1", encode_lease(LEASE), "undecodable"),
        ("lease:0", encode_lease(msgspec.structs.replace(LEASE, lease_ms=0)), "undecodable"),
        ("lease:0", encode_lease(msgspec.structs.replace(LEASE, schema=2)), "unknown_schema"),
        ("lease:0", b'{"schema": 3}', "unknown_schema"),
    ],
)
def test_what_cannot_be_read_is_counted_and_changes_nothing(
    key: str, value: bytes, counter: str
) -> None:
    feed, clock = client()
    feed.publish(decision(SCOPE, "closed", boundary=1), kafka_ms=0)
    before = feed.decide(SCOPE).decision
    feed.apply(key.encode(), value, kafka_ms=clock.ms, is_live=True)
    assert feed.stats()[counter] == 1
    assert feed.decide(SCOPE).decision == before


@given(st.binary(max_size=40), st.none() | st.binary(max_size=60), st.integers(-1, 2**62))
def test_no_record_raises(key: bytes, value: bytes | None, kafka_ms: int) -> None:
    feed, _ = client()
    feed.apply(key, value, kafka_ms=kafka_ms, is_live=True)
    feed.apply(b"lease:" + key, value, kafka_ms=kafka_ms, is_live=False)
    assert feed.admit(SCOPE, trace_id="a").passes


def test_fields_that_a_later_version_adds_are_no_trouble() -> None:
    feed, clock = client()
    feed.apply(SCOPE.encode(), record(opened(), colour="red"), kafka_ms=clock.ms, is_live=True)
    assert feed.decide(SCOPE).level == "open"


def test_scopes_beyond_the_limit_and_unwanted_ones_are_not_kept() -> None:
    feed, _ = client(scopes_max=3, wanted=lambda scope: scope != "service:s0")
    for i in range(6):
        feed.publish(decision(f"service:s{i}", "open", boundary=START, admit_ratio=0.0))
    assert feed.stats()["scopes"] == 3
    assert feed.stats()["overflow_scopes"] == 2
    feed.publish(decision("service:s1", "closed", boundary=START + 1))
    assert feed.decide("s1").level == "closed"
    assert feed.decide("s0").decision is None
