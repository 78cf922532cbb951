"""`tidegate replay`: the same decisions from every form of the same recording."""

import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

from tests.tools import recorded
from tidegate.schemas.decision import decode_decision, encode_decision
from tidegate.streams.cli import main

FAULT = (20.0, 32.0)
SECONDS = 90.0


def replay(*arguments: str, stdin: bytes = b"") -> tuple[int, bytes, str]:
    """Exit status, stdout, stderr. In this process: loading numba takes a new one some seconds."""
    streams = sys.stdin, sys.stdout, sys.stderr
    read, out, error = (io.TextIOWrapper(io.BytesIO(data)) for data in (stdin, b"", b""))
    sys.stdin, sys.stdout, sys.stderr = read, out, error
    try:
        status = main(["replay", *arguments])
    finally:
        sys.stdin, sys.stdout, sys.stderr = streams
    written = []
    for stream in (out, error):
        stream.flush()
        written.append(stream.detach().getvalue())
    return status, written[0], written[1].decode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same recording in every form."""
    made = recorded.requests(SECONDS, fault=FAULT)
    messages, lines = recorded.as_messages(made), recorded.as_lines(made)
    path = tmp_path_factory.mktemp("recordings")
    (path / "plain.binpb").write_bytes(messages)
    (path / "plain.jsonl").write_bytes(lines)
    (path / "packed.jsonl.gz").write_bytes(gzip.compress(lines))
    half = len(lines) // 2
    (path / "frames.zst").write_bytes(
        zstandard.compress(lines[:half]) + zstandard.compress(lines[half:])
    )
    (path / "misnamed.json").write_bytes(zstandard.compress(messages))
    (path / "even.binpb").write_bytes(recorded.as_messages(made[::2]))
    (path / "odd.jsonl").write_bytes(recorded.as_lines(made[1::2]))
    return path


@pytest.fixture(scope="module")
def expected(folder: Path) -> bytes:
    """Decisions of the plain form, by a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-m", "tidegate.streams.cli", "replay", str(folder / "plain.binpb")],
        capture_output=True,
        timeout=110,
        check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("TIDEGATE_")},
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_fault_opens_the_service_and_its_callers_edge_and_both_come_back(
    expected: bytes,
) -> None:
    levels: dict[str, list[str]] = {}
    for line in expected.splitlines():
        decision = decode_decision(line)
        levels.setdefault(decision.scope, []).append(decision.level)
    for scope in ("service:pay", "edge:web->pay"):
        assert "open" in levels[scope] or "forced_open" in levels[scope]
        assert levels[scope][-1] == "closed", levels[scope]


def test_each_line_is_one_decision_as_it_is_published(expected: bytes) -> None:
    for line in expected.splitlines():
        assert encode_decision(decode_decision(line)) == line


def test_lines_are_ordered_by_boundary_then_scope(expected: bytes) -> None:
    decisions = [decode_decision(line) for line in expected.splitlines()]
    assert decisions == sorted(decisions, key=lambda d: (d.boundary, d.scope))
    assert len(decisions) > 4


@pytest.mark.parametrize(
    "names",
    [
        ["plain.binpb"],
        ["plain.jsonl"],
        ["packed.jsonl.gz"],
        ["frames.zst"],
        ["misnamed.json"],
        ["even.binpb", "odd.jsonl"],
        ["odd.jsonl", "even.binpb"],
    ],
)
def test_every_form_of_a_recording_gives_the_same_bytes(
    folder: Path, expected: bytes, names: list[str]
) -> None:
    status, out, error = replay(*(str(folder / name) for name in names))
    assert (status, out) == (0, expected), error


def test_standard_input_is_read_for_a_dash(folder: Path, expected: bytes) -> None:
    status, out, _ = replay("-", stdin=(folder / "frames.zst").read_bytes())
    assert (status, out) == (0, expected)


def test_out_takes_what_stdout_would_and_appears_only_when_whole(
    folder: Path, expected: bytes, tmp_path: Path
) -> None:
    target = tmp_path / "decisions.jsonl"
    status, out, _ = replay(str(folder / "plain.binpb"), "--out", str(target))
    assert (status, out, target.read_bytes()) == (0, b"", expected)
    assert [path.name for path in tmp_path.iterdir()] == ["decisions.jsonl"]


def test_a_scope_pattern_chooses_lines_and_changes_none(folder: Path, expected: bytes) -> None:
    status, out, _ = replay(str(folder / "plain.binpb"), "--scope", "edge:*")
    assert status == 0
    chosen = [ln for ln in expected.splitlines() if json.loads(ln)["scope"].startswith("edge:")]
    assert out.splitlines() == chosen
    assert chosen


def test_a_policy_file_is_used_and_named_in_every_decision(folder: Path, tmp_path: Path) -> None:
    policy = tmp_path / "mine.yaml"
    policy.write_text("name: mine\nsettings: {mode: enforce}\n")
    status, out, _ = replay(str(folder / "plain.binpb"), "--policy", str(policy))
    assert status == 0
    for line in out.splitlines():
        decision = json.loads(line)
        assert decision["policy"].startswith("mine@")
        assert decision["mode"] == "enforce"


def test_a_policy_that_is_wrong_is_wrong_usage(folder: Path, tmp_path: Path) -> None:
    policy = tmp_path / "mine.yaml"
    policy.write_text("name: mine\nsettings: {level: {slep_s: 3}}\n")
    status, out, error = replay(str(folder / "plain.binpb"), "--policy", str(policy))
    assert (status, out) == (2, b"")
    assert f"{policy}:2: " in error
    assert "sleep_s" in error


def test_bad_lines_are_named_counted_and_cost_nothing_else(folder: Path, expected: bytes) -> None:
    lines = (folder / "plain.jsonl").read_bytes().splitlines(keepends=True)
    lines[10:10] = [b"not json\n", b'{"resourceSpans": 5}\n', b"{broken}\n"]
    status, out, error = replay("-", "--json", stdin=b"".join(lines) + b'{"resourceSp')
    assert (status, out) == (0, expected)
    for where in ("line 11", "line 12", "line 13", f"line {len(lines) + 1}"):
        assert f"tidegate: -: {where}: " in error
    summary = json.loads(error.splitlines()[-1])
    assert summary["undecodable"] == 4
    assert summary["decisions"] == len(expected.splitlines())


def test_the_summary_says_what_was_read(folder: Path) -> None:
    _, _, error = replay(str(folder / "plain.binpb"), "--json")
    summary = json.loads(error)
    records = int(SECONDS * 1000 / recorded.RECORD_MS)
    assert summary["records"] == records
    assert summary["spans"] == records * recorded.SPANS_PER_RECORD * 2
    assert summary["late"] == summary["undecodable"] == 0
    assert summary["event_s"] == pytest.approx(SECONDS, abs=1)
    _, _, error = replay(str(folder / "plain.binpb"))
    assert f"{records:,} records, {summary['spans']:,} spans, 0 undecodable, 0 late" in error
    assert error.count("\n") <= 2, "no bar where stderr is no terminal"


def test_a_file_without_any_request_is_a_failure(tmp_path: Path) -> None:
    wrong = tmp_path / "notes.txt"
    wrong.write_text("these are my notes\n")
    status, out, error = replay(str(wrong))
    assert (status, out) == (1, b"")
    assert "nothing could be read" in error
    assert "Traceback" not in error


def test_an_empty_recording_has_no_decisions(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    status, out, error = replay(str(empty))
    assert (status, out) == (0, b"")
    assert error.startswith("0 records, 0 spans")


def test_one_span_from_a_wrong_clock_moves_no_time(folder: Path, expected: bytes) -> None:
    made = recorded.requests(SECONDS, fault=FAULT)
    far = made[40].resource_spans[0].scope_spans[0].spans[0]
    far.end_time_unix_nano += 3_600 * 10**9
    status, out, error = replay("-", "--json", stdin=recorded.as_messages(made))
    assert status == 0
    counters = json.loads(error)["counters"]
    assert counters["skewed"] == 1
    levels = [(d["boundary"], d["scope"], d["level"]) for d in map(json.loads, out.splitlines())]
    wanted = [
        (d["boundary"], d["scope"], d["level"]) for d in map(json.loads, expected.splitlines())
    ]
    assert levels == wanted


INCIDENTS = Path(__file__).parents[3] / "shared" / "incidents"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["deeptralog/F05-03.jsonl.zst", "otel-native/hipstershop.binpb.zst"]
)
def test_real_recordings_replay_twice_to_the_same_bytes(name: str) -> None:
    recording = INCIDENTS / name
    if not recording.exists():
        pytest.skip(f"no recording at {recording}; they are not part of the repository")
    first, second = replay(str(recording)), replay(str(recording))
    assert first[0] == 0, first[2]
    assert first[:2] == second[:2]
