"""Who obeys `terminate`, and when: the rule as a table, and the real client fed by hand."""

import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client.live import until
from tests.host.feeding import SCOPE, SERVICE, telling_to_end
from tidegate.client.store import Answer
from tidegate.client.terminate import MARGIN_MS, Terminator, refusal, write_whole
from tidegate.client.testing import FeedClient, decision
from tidegate.schemas.decision import Decision, Override
from tidegate.schemas.scope import OVERRIDE_ALL

BOUNDARY = 3_400_000_000
NOW_MS = BOUNDARY * 500 + 1_000
UPTIME_MS = 60_000
BEGAN_MS = NOW_MS - UPTIME_MS
SINCE_MS = NOW_MS - 3_000


def told(*instances: str, **more: Any) -> Decision:
    return telling_to_end(
        *(instances or ("pay-1",)), **{"since_ms": SINCE_MS, "boundary": BOUNDARY, **more}
    )


class Scene:
    """A client with a clock, and a service that opted in and whose exits are noted."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.path = folder / "state.bin"
        self.now_ms = NOW_MS
        self.uptime_ms = UPTIME_MS
        self.exits: list[tuple[int, bytes | None]] = []
        """Status, and what the snapshot's file held when it exited."""
        self.client = FeedClient(now_ms=lambda: self.now_ms)
        given: dict[str, Any] = {
            "service": SERVICE,
            "instance": "pay-1",
            "snapshot": lambda: b"all of it",
            "path": self.path,
            "exit_process": self._exit,
            "environ": {},
            "now_ms": lambda: self.now_ms,
            "uptime_ms": lambda: self.uptime_ms,
        }
        self.terminator = Terminator(self.client, **{**given, **more})

    def _exit(self, status: int) -> None:
        self.exits.append((status, self.path.read_bytes() if self.path.exists() else None))


def test_a_decision_in_force_ends_the_instance_it_lists_snapshot_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(tmp_path)
    scene.client.publish(told("pay-0", "pay-1"))
    assert scene.exits == [(137, b"all of it")]
    assert "pay-1 of service:shop/pay ends itself: L5: kernel oopses rose by 1" in caplog.text
    assert "policy test@0" in caplog.text
    assert f"snapshot in {scene.path}" in caplog.text


def shown_late(scene: Scene) -> None:
    scene.client.publish(told(), kafka_ms=NOW_MS + 60_000)


def of_an_old_lease(scene: Scene) -> None:
    scene.client.begin()
    scene.client.publish(told(), kafka_ms=BOUNDARY * 500 + 1_000, is_live=False)
    scene.now_ms += 60_000
    scene.client.caught_up()


def under_the_kill_switch(scene: Scene) -> None:
    scene.client.publish(decision(OVERRIDE_ALL, "closed", boundary=1))
    scene.client.publish(told())


def after_close(scene: Scene) -> None:
    scene.terminator.close()
    scene.client.publish(told())


def after_its_end(scene: Scene) -> None:
    scene.client.end(SCOPE)


def publish(published: Decision) -> Callable[[Scene], None]:
    return lambda scene: scene.client.publish(published)


@pytest.mark.parametrize(
    ("happens", "line"),
    [
        (publish(told("pay-2", "pay-10", "pay")), ""),
        (publish(decision(SCOPE, "forced_open", boundary=BOUNDARY, admit_ratio=0.0)), ""),
        (publish(told(scope="service:pay")), ""),
        (publish(told(scope="edge:shop/pay->db")), ""),
        (publish(told(scope="inbound:shop/pay")), ""),
        (publish(told(enforce=False)), "mode observe: it is advice"),
        (publish(told(since_ms=BEGAN_MS - 1)), "L5 began before this process"),
        (publish(told(since_ms=BEGAN_MS)), "L5 began before this process"),
        (publish(told(since_ms=BEGAN_MS + MARGIN_MS - 1)), "L5 began before this process"),
        (publish(told(rule="L2")), "the decision shows no L5"),
        (publish(told(incidents=[])), "the decision shows no L5"),
        (shown_late, "the decision is not in force (shown)"),
        (of_an_old_lease, "the decision is not in force (shown)"),
        (under_the_kill_switch, "the decision is not in force (override)"),
        (after_close, ""),
        (after_its_end, ""),
    ],
)
def test_nothing_else_ends_it_and_what_is_not_obeyed_is_told(
    tmp_path: Path,
    happens: Callable[[Scene], None],
    line: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="tidegate.client")
    scene = Scene(tmp_path)
    happens(scene)
    assert scene.exits == []
    assert not scene.path.exists()
    texts = [text for text in caplog.messages if "terminate" in text]
    assert len(texts) == bool(line)
    assert all(text.startswith(f"terminate of pay-1 is not obeyed: {line}") for text in texts)


@pytest.mark.parametrize("since_ms", [BEGAN_MS + MARGIN_MS, NOW_MS, NOW_MS + 2_000])
def test_an_incident_that_began_in_its_life_is_obeyed(tmp_path: Path, since_ms: int) -> None:
    scene = Scene(tmp_path)
    scene.client.publish(told(since_ms=since_ms))
    assert len(scene.exits) == 1


def test_it_never_acts_twice(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    for i in range(3):
        scene.client.publish(told(boundary=BOUNDARY + i, since_ms=SINCE_MS + i * 500))
    assert len(scene.exits) == 1


def test_a_reason_not_to_obey_is_told_once_for_an_incident(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(tmp_path)
    for i in range(3):
        scene.client.publish(told(boundary=BOUNDARY + i, enforce=False))
    scene.client.publish(told(boundary=BOUNDARY + 9, enforce=False, since_ms=NOW_MS))
    assert len([text for text in caplog.messages if "it is advice" in text]) == 2


def test_an_operators_override_of_the_service_does_not_end_it(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    override = Override(
        scope=SCOPE, level="closed", by="ann", reason="drill", until_ms=NOW_MS + 60_000
    )
    plain = decision(SCOPE, "closed", boundary=BOUNDARY)
    scene.client.publish(msgspec.structs.replace(plain, override=override))
    assert scene.exits == []


def test_advice_that_becomes_an_order_is_obeyed(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.client.publish(told(enforce=False))
    assert scene.exits == []
    scene.client.publish(told(boundary=BOUNDARY + 1))
    assert len(scene.exits) == 1


@given(
    lag_ms=st.integers(0, 3_000),
    clock_error_ms=st.integers(-3_600_000, 3_600_000),
    away_ms=st.integers(0, 600_000),
    uptime_ms=st.integers(0, 600_000),
)
def test_whoever_was_ended_is_not_ended_again_by_the_same_incident_whatever_its_clock_says(
    lag_ms: int, clock_error_ms: int, away_ms: int, uptime_ms: int
) -> None:
    since_ms = BOUNDARY * 500
    now_true_ms = since_ms + lag_ms + away_ms + uptime_ms
    # The record that ended it, or a later one of the same incident.
    found = told(since_ms=since_ms, boundary=max(BOUNDARY, (now_true_ms - lag_ms) // 500))
    answer = Answer(
        scope=SCOPE,
        status="obeyed",
        level="closed",
        mode="enforce",
        actions=found.actions,
        decision=found,
    )
    # A client that is so far off takes little for in force; the rule must hold without that.
    now_ms = now_true_ms + clock_error_ms
    assert refusal(answer, now_ms=now_ms, uptime_ms=uptime_ms)


# ---- the snapshot ----


def hanging() -> bytes:
    time.sleep(3_600)
    return b""


@pytest.mark.parametrize(
    ("snapshot", "line"),
    [
        (lambda: 1 // 0, "ZeroDivisionError"),
        (lambda: None, "TypeError"),
        (lambda: "text", "TypeError"),
        (lambda: sys.exit("no"), "SystemExit"),
    ],
)
def test_a_snapshot_that_fails_is_told_and_the_exit_follows(
    tmp_path: Path, snapshot: Any, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state.bin").write_bytes(b"old")
    scene = Scene(tmp_path, snapshot=snapshot)
    scene.client.publish(told())
    assert scene.exits == [(137, b"old")]
    assert f"no snapshot in {scene.path}" in caplog.text
    assert line in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["state.bin"]


def test_a_snapshot_that_hangs_is_told_and_the_exit_follows_in_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(tmp_path, snapshot=hanging, timeout_s=0.2)
    before_s = time.monotonic()
    scene.client.publish(told())
    assert time.monotonic() - before_s < 5
    assert scene.exits == [(137, None)]
    assert "pay-1 of service:shop/pay ends itself" in caplog.text
    assert "no snapshot: none in 0.2 s" in caplog.text


def test_a_log_that_hangs_costs_neither_the_snapshot_nor_the_exit(tmp_path: Path) -> None:
    class Stuck(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            gate.wait(60)

    gate, stuck = threading.Event(), Stuck()
    log = logging.getLogger("tidegate.client")
    log.addHandler(stuck)
    try:
        scene = Scene(tmp_path, timeout_s=0.2)
        before_s = time.monotonic()
        scene.client.publish(told())
        assert time.monotonic() - before_s < 10
        assert scene.exits == [(137, b"all of it")]
    finally:
        log.removeHandler(stuck)
        gate.set()


def test_without_a_thread_left_it_still_acts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    whole = Scene(tmp_path)
    hung = Scene(tmp_path, snapshot=hanging, timeout_s=0.1)
    monkeypatch.setattr(threading.Thread, "start", refused)
    whole.client.publish(told())
    hung.client.publish(told())
    assert [status for status, _ in whole.exits + hung.exits] == [137, 137]


def test_closing_ends_its_thread(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    count = sum(thread.name == "tidegate-terminator" for thread in threading.enumerate())
    scene.terminator.close()
    assert until(
        lambda: sum(t.name == "tidegate-terminator" for t in threading.enumerate()) < count
    )
    assert not scene.path.exists()


@pytest.mark.parametrize("data", [b"", b"new", b"x" * 3_000_000])
def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(
    tmp_path: Path, data: bytes
) -> None:
    path = tmp_path / "state.bin"
    for content in (b"old" * 100, data):
        write_whole(path, content)
        assert path.read_bytes() == content
    assert [each.name for each in tmp_path.iterdir()] == ["state.bin"]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"path": Path("/nowhere/state.bin")}, "path: there is no folder /nowhere"),
        ({"path": Path("/")}, "path: / is a folder"),
        ({"timeout_s": 0}, "timeout_s: 0 leaves no time"),
        ({"timeout_s": float("nan")}, "timeout_s: nan leaves no time"),
        ({"service": ""}, "service: no name"),
    ],
)
def test_wrong_settings_are_told_at_once(tmp_path: Path, more: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Scene(tmp_path, **more)
