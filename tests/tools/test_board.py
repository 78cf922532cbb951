"""What `watch` and the demo know of every scope."""

import msgspec
import pytest

from tests.tools.published import T_MS, B, decision, health
from tidegate.schemas.control import ControlEntry
from tidegate.schemas.decision import Decision, Lease, encode_decision, encode_lease
from tidegate.schemas.health import decode_health, encode_control_for_graph
from tidegate.streams.board import Board, Row

PAY = "edge:web->pay"


def publish(board: Board, published: Decision, now_ms: int = T_MS) -> Decision | None:
    return board.apply_decision(published.scope.encode(), encode_decision(published), now_ms=now_ms)


def only_row(board: Board, now_ms: int = T_MS) -> Row:
    (row,) = board.rows(now_ms=now_ms)
    return row


def test_a_decision_is_news_once_and_older_ones_are_not() -> None:
    board = Board()
    assert publish(board, decision(PAY, "open", boundary=B)) is not None
    assert publish(board, decision(PAY, "open", boundary=B)) is None
    assert publish(board, decision(PAY, "closed", boundary=B - 1)) is None
    assert only_row(board).level == "open"
    assert publish(board, decision(PAY, "half_open", boundary=B + 1)) is not None
    assert only_row(board).level == "half_open"


def test_the_worst_comes_first_then_the_lowest_score_then_the_name() -> None:
    board = Board()
    for scope, level, score in [
        ("service:c", "closed", 0.9),
        ("service:b", "closed", 0.85),
        ("service:a", "closed", 0.9),
        ("service:z", "open", 0.3),
        ("service:y", "degraded_2", 0.5),
    ]:
        publish(board, decision(scope, level, score=score))  # type: ignore[arg-type]  # a level by name
    scopes = [row.scope for row in board.rows(now_ms=T_MS)]
    assert scopes == ["service:z", "service:y", "service:b", "service:a", "service:c"]


def test_scores_of_every_boundary_show_between_decisions() -> None:
    board = Board()
    publish(board, decision("service:web", "open", boundary=B))
    board.apply_health(
        health(boundary=B + 1, keys=[("web", "")], level="half_open", score=712, ok=1)
    )
    row = only_row(board)
    assert (row.level, row.score, row.boundary) == ("half_open", 0.712, B + 1)
    assert row.reason.startswith("score 0.5"), "the last decision's reason stays until the next"


def test_a_decision_newer_than_health_prevails() -> None:
    board = Board()
    board.apply_health(health(boundary=B, keys=[("web", "pay")], level="closed"))
    publish(board, decision(PAY, "open", boundary=B + 2))
    assert only_row(board).level == "open"


def test_rates_are_those_of_the_last_five_seconds_of_event_time() -> None:
    board = Board()
    for i in range(30):
        failed = 5 if i < 20 else 2
        board.apply_health(health(boundary=B + i, keys=[("web", "")], ok=8, failed=failed))
    row = only_row(board)
    assert row.qps == pytest.approx(10 * (8 + 2) / 5.0)
    assert row.error_ratio == pytest.approx(0.2)


def test_calls_that_were_turned_away_are_offered_but_neither_admitted_nor_failed() -> None:
    board = Board()
    board.apply_health(health(keys=[("web", "pay")], ok=3, failed=1, shed=16))
    row = only_row(board)
    assert row.qps == pytest.approx(20 / 5.0)
    assert row.error_ratio == pytest.approx(0.25)


def test_a_key_that_falls_silent_shows_no_rate() -> None:
    board = Board()
    board.apply_health(health(boundary=B, keys=[("web", "")], ok=8))
    board.apply_health(health(boundary=B + 60, keys=[("other", "")], ok=8))
    rows = {row.scope: row for row in board.rows(now_ms=T_MS)}
    assert rows["service:web"].qps == 0.0
    assert rows["service:web"].error_ratio is None


def test_boundaries_published_again_after_a_takeover_count_once() -> None:
    board = Board()
    board.apply_health(health(boundary=B, keys=[("web", "")], ok=10))
    board.apply_health(health(boundary=B, keys=[("web", "")], ok=10))
    board.apply_health(health(boundary=B - 1, keys=[("web", "")], ok=10))
    assert only_row(board).qps == pytest.approx(10 / 5.0)


def test_a_tombstone_removes_the_scope() -> None:
    board = Board()
    publish(board, decision(PAY, "open"))
    board.apply_decision(PAY.encode(), None, now_ms=T_MS)
    assert board.rows(now_ms=T_MS) == []


def test_a_scope_is_stale_once_its_partitions_lease_has_run_out() -> None:
    board = Board()
    publish(board, decision(PAY, "open", partition=3))
    lease = Lease(partition=3, boundary=B, window_end_ms=T_MS, lease_ms=45_000)
    board.apply_decision(b"lease:3", encode_lease(lease), now_ms=T_MS)
    assert not only_row(board, T_MS + 45_000).is_stale
    assert only_row(board, T_MS + 45_001).is_stale
    renewed = msgspec.structs.replace(lease, boundary=B + 20)
    board.apply_decision(b"lease:3", encode_lease(renewed), now_ms=T_MS + 46_000)
    assert not only_row(board, T_MS + 90_000).is_stale


def test_bytes_that_are_no_decision_are_an_error_that_names_why() -> None:
    with pytest.raises(msgspec.DecodeError):
        Board().apply_decision(b"service:x", b"{}", now_ms=T_MS)


def test_what_operators_ask_for_stands_on_health_too_and_is_no_scope() -> None:
    board = Board()
    asked = encode_control_for_graph([ControlEntry("topic", 0, B, b"{}")])
    board.apply_health(decode_health(asked))
    board.apply_health(health(keys=[("pay", "")], ok=9))
    assert only_row(board).scope == "service:pay"
