"""Leases, staleness and fencing, with the time written down."""

from tidegate.client.store import JITTER_MS, LEASE_MS, RAMP_MS
from tidegate.client.testing import FeedClient, decision

SCOPE = "edge:web->payments"
START_MS = 1_800_000_000_000
START = START_MS // 500


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.ms = START_MS

    def __call__(self) -> int:
        return self.ms


def client() -> tuple[FeedClient, Clock]:
    clock = Clock()
    return FeedClient(now_ms=clock), clock


def test_nothing_known_means_everything_passes() -> None:
    feed, _ = client()
    assert feed.admit(SCOPE, trace_id="a").passes
    answer = feed.decide("payments")
    assert (answer.scope, answer.level, answer.decision) == ("service:payments", "closed", None)


def test_only_a_newer_boundary_is_believed() -> None:
    feed, _ = client()
    feed.publish(decision(SCOPE, "open", boundary=START, admit_ratio=0.0))
    feed.publish(decision(SCOPE, "closed", boundary=START))
    feed.publish(decision(SCOPE, "closed", boundary=START - 9))
    assert feed.decide(SCOPE).level == "open"
    assert feed.stats()["not_newer"] == 2
    feed.publish(decision(SCOPE, "closed", boundary=START + 1))
    assert feed.decide(SCOPE).level == "closed"


def test_a_lost_lease_ends_in_a_ramp_with_jitter_and_is_said_once() -> None:
    feed, clock = client()
    feed.publish(decision(SCOPE, "open", boundary=START, admit_ratio=0.0, retry_ratio_max=0.0))
    keys = [f"t{i}" for i in range(500)]

    def share() -> float:
        return sum(feed.admit(SCOPE, trace_id=k).passes for k in keys) / len(keys)

    assert share() == 0.0
    clock.ms += LEASE_MS
    assert share() == 0.0
    assert not feed.decide(SCOPE).is_stale
    clock.ms += JITTER_MS + RAMP_MS // 2
    assert 0.3 < share() < 0.95
    assert feed.decide(SCOPE).is_stale
    clock.ms += RAMP_MS
    assert share() == 1.0
    assert feed.stats()["leases_lost"] == 1


def test_a_lease_record_keeps_a_decision_in_force() -> None:
    feed, clock = client()
    feed.publish(decision(SCOPE, "open", boundary=START, admit_ratio=0.0))
    for _ in range(20):
        clock.ms += 10_000
        feed.lease(boundary=clock.ms // 500)
    assert not feed.admit(SCOPE, trace_id="a").passes


def test_what_was_decided_before_a_gap_is_not_obeyed_after_it() -> None:
    feed, clock = client()
    feed.publish(decision(SCOPE, "open", boundary=START, admit_ratio=0.0))
    clock.ms += LEASE_MS + 60_000
    feed.lease(boundary=clock.ms // 500)
    assert feed.admit(SCOPE, trace_id="a").passes
    feed.publish(decision(SCOPE, "open", boundary=clock.ms // 500, admit_ratio=0.0))
    assert not feed.admit(SCOPE, trace_id="a").passes


def test_a_decision_caught_up_after_ten_minutes_is_shown_and_not_obeyed() -> None:
    feed, clock = client()
    clock.ms += 600_000
    feed.publish(decision(SCOPE, "open", boundary=START, admit_ratio=0.0))
    answer = feed.decide(SCOPE)
    assert answer.decision is not None
    assert answer.decision.level == "open"
    assert (answer.level, answer.is_stale) == ("closed", True)
    assert feed.admit(SCOPE, trace_id="a").passes
    assert feed.stats()["late_decisions"] == 1


def test_a_late_lease_extends_nothing() -> None:
    feed, clock = client()
    feed.publish(decision(SCOPE, "open", boundary=START, admit_ratio=0.0))
    clock.ms += 600_000
    feed.lease(boundary=START + 1)
    assert feed.decide(SCOPE).is_stale
    assert feed.stats()["late_leases"] == 1


def test_the_kill_switch_is_obeyed_before_all_else() -> None:
    feed, clock = client()
    feed.publish(decision(SCOPE, "open", boundary=START, admit_ratio=0.0))
    feed.publish(decision("override:*", "closed", boundary=START + 1))
    assert feed.admit(SCOPE, trace_id="a").passes
    clock.ms += 10 * LEASE_MS
    assert feed.decide(SCOPE).level == "closed"
    feed.end("override:*")
    clock.ms = START_MS
    assert not feed.admit(SCOPE, trace_id="a").passes


def test_a_tombstone_ends_a_scope() -> None:
    feed, _ = client()
    feed.publish(decision(SCOPE, "open", boundary=START, admit_ratio=0.0))
    feed.end(SCOPE)
    assert feed.decide(SCOPE).decision is None


def test_garbage_is_counted_and_ignored() -> None:
    feed, _ = client()
    for value in (b"", b"{}", b"\xff", b'{"schema":1}'):
        feed._apply(SCOPE.encode(), value, START_MS)
        feed._apply(b"lease:0", value, START_MS)
    assert feed.stats()["undecodable"] == 8
    assert feed.admit(SCOPE, trace_id="a").passes


def test_the_strictest_of_several_scopes_is_obeyed() -> None:
    feed, _ = client()
    feed.publish(decision("service:payments", "closed", boundary=START))
    feed.publish(decision(SCOPE, "open", boundary=START, admit_ratio=0.0))
    verdict = feed.admit("payments", SCOPE, trace_id="a")
    assert (verdict.passes, verdict.scope) == (False, SCOPE)


def fails(scope: str, said: object) -> None:
    raise RuntimeError(f"{scope}: {said}")


def test_listeners_hear_changes_and_a_broken_one_breaks_nothing() -> None:
    feed, _ = client()
    heard: list[tuple[str, str | None]] = []
    feed.on_change(fails)
    feed.on_change(lambda scope, said: heard.append((scope, said.level if said else None)))
    feed.publish(decision(SCOPE, "open", boundary=START, admit_ratio=0.0))
    feed.end(SCOPE)
    assert heard == [(SCOPE, "open"), (SCOPE, None)]
