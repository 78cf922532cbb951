"""`tidegate graph --file` and `tidegate findings --file`: the same stages as live, over recorded traffic."""

import io
import sys
from pathlib import Path

import pytest

from tests.tools import recorded
from tidegate.rules.pipeline import Offline
from tidegate.schemas.graph import GraphView, decode_view
from tidegate.streams.cli import main
from tidegate.streams.policy_option import policy_named
from tidegate.streams.recordings import STDIN

SECONDS = 60.0
FAULT = (20.0, 32.0)


def tidegate(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    """Exit status, stdout, stderr. In this process: loading numba takes a new one some seconds."""
    streams = sys.stdin, sys.stdout, sys.stderr
    read, out, error = (io.TextIOWrapper(io.BytesIO(data)) for data in (stdin, b"", b""))
    sys.stdin, sys.stdout, sys.stderr = read, out, error
    try:
        status = main(list(arguments))
    finally:
        sys.stdin, sys.stdout, sys.stderr = streams
    written = []
    for stream in (out, error):
        stream.flush()
        written.append(stream.detach().getvalue().decode())
    return status, written[0], written[1]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recordings") / "shop.binpb"
    path.write_bytes(recorded.as_messages(recorded.requests(SECONDS, fault=FAULT)))
    return path


@pytest.fixture(scope="module")
def views() -> list[GraphView]:
    """Of the stages themselves."""
    offline = Offline(policy_named("default"))
    made = recorded.requests(SECONDS, fault=FAULT)
    times = [
        max(s.end_time_unix_nano for r in one.resource_spans for s in r.scope_spans[0].spans)
        // 1_000_000
        for one in made
    ]
    out = offline.feed(list(zip([one.SerializeToString() for one in made], times, strict=True)))
    return out.views + offline.finish().views


def graph(recording: Path, *arguments: str) -> GraphView:
    status, out, error = tidegate(
        "graph", "--file", str(recording), "--quiet", "--format", "json", *arguments
    )
    assert status == 0, error
    return decode_view(out.encode())


def test_the_last_graph_is_shown_by_default(recording: Path, views: list[GraphView]) -> None:
    view = graph(recording)
    assert {node.name for node in view.nodes} >= {"web", "pay"}
    (edge,) = view.edges
    assert (edge.caller, edge.callee) == ("web", "pay")
    assert edge.calls_per_s == pytest.approx(40, rel=0.1)
    assert view.window_end_ms == views[-1].window_end_ms


@pytest.mark.parametrize("at", ["+30s", "2023-11-14T22:13:50Z", "2023-11-14T23:13:50+01:00"])
def test_at_shows_it_as_it_was_then(recording: Path, at: str) -> None:
    view = graph(recording, "--at", at)
    (edge,) = view.edges
    assert edge.level != "closed"
    assert edge.error_ratio > 0.5
    asked_ms = recorded.T_MS + 30_000
    assert asked_ms - 10_000 < view.window_end_ms <= asked_ms


def test_a_time_before_the_first_graph_is_a_failure_that_says_when_that_is(
    recording: Path,
) -> None:
    status, out, error = tidegate(
        "graph", "--file", str(recording), "--quiet", "--at", "2023-11-14T22:00:00Z"
    )
    assert (status, out) == (1, "")
    assert "has its first graph at 2023-11-1" in error
    assert "give a later time" in error


def test_standard_input_is_read_for_a_dash(recording: Path) -> None:
    status, out, _ = tidegate(
        "graph", "pay", "--file", STDIN, "--quiet", stdin=recording.read_bytes()
    )
    assert status == 0
    assert "pay" in out.splitlines()[1]


def test_a_policy_judges_the_recording(recording: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "mine.yaml"
    wrong.write_text("name: mine\nsettings: {level: {slep_s: 3}}\n")
    status, out, error = tidegate("graph", "--file", str(recording), "--policy", str(wrong))
    assert (status, out) == (2, "")
    assert "sleep_s" in error


def test_findings_are_all_that_were_seen_as_they_were_last(
    recording: Path, views: list[GraphView]
) -> None:
    newest = {(f.name, *f.path): f for view in views for f in view.findings}
    status, out, error = tidegate("findings", "--file", str(recording), "--quiet", "--json")
    assert status == 0
    assert len(out.splitlines()) == len(newest)
    assert ("no finding" in error) == (not newest)
