"""Options that contradict each other, files that are none: one line that says what to do."""

from pathlib import Path

import pytest

from tests.graph_command import views
from tests.graph_command.command import tidegate
from tidegate.schemas.graph import encode_view, parts_of
from tidegate.streams.cli import main
from tidegate.streams.graph_command import FORMATS


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--file", "a", "--view", "b"], "--file and --view are two sources"),
        (["--file", "a", "--brokers", "b:1"], "--brokers reads from Kafka and --file from a file"),
        (["--view", "a", "--follow"], "--follow reads from Kafka and --view from a file"),
        (["--view", "a", "--wait", "3s"], "--wait reads from Kafka and --view from a file"),
        (["--at", "+3s"], "--at goes with --file RECORDING (Kafka keeps the newest"),
        (["--view", "a", "--policy", "default"], "--policy goes with --file RECORDING"),
        (["--file", "/dev/null", "--at", "12:03"], "--at: '12:03' is no time; give +90s"),
        (["--file", "/dev/null", "--at", "+x"], "--at: 'x' is no time; give a time such as 90s"),
        (["--brokers", "b:1", "--wait", "soon"], "--wait: 'soon' is no time"),
        (["--file", "/none/such"], "/none/such: No such file or directory; expected a recording"),
        (["--file", "/dev/null", "/dev/null"], "/dev/null is named twice"),
        (["--view", "/none/such"], "/none/such: No such file or directory; give a file"),
        (["--view", "/dev/null"], "/dev/null: is no graph ("),
    ],
)
@pytest.mark.parametrize("command", ["graph", "findings"])
def test_wrong_usage_is_told_in_a_line(
    command: str, arguments: list[str], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, *arguments]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    assert found in error


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--max-nodes", "0"], "--max-nodes 0: shows nothing; give 1 or more"),
        (["--follow", "--format", "svg"], "--follow with --format svg needs --out PATH"),
        (["--format", "png"], "invalid choice: 'png'"),
    ],
)
def test_wrong_usage_of_graph(
    arguments: list[str], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["graph", *arguments]) == 2
    assert found in capsys.readouterr().err


def test_a_part_of_a_graph_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.schemas.graph.PART_BYTES_MAX", 1_000)
    part = tmp_path / "part.json"
    part.write_bytes(parts_of(views.shop())[1])
    assert main(["graph", "--view", str(part)]) == 2
    assert "is part 1 of" in capsys.readouterr().err


def test_a_recording_without_traffic_has_no_graph(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    status, out, error = tidegate("graph", "--file", str(empty), "--quiet")
    assert (status, out) == (1, "")
    assert error.startswith(f"tidegate: {empty}: no graph came of 0 records with 0 spans")
    wrong = tmp_path / "notes.txt"
    wrong.write_text("these are my notes\n")
    status, out, error = tidegate("findings", "--file", str(wrong), "--quiet")
    assert (status, out) == (1, "")
    assert "nothing could be read" in error


@pytest.mark.parametrize("form", FORMATS)
def test_out_takes_what_stdout_would(form: str, tmp_path: Path) -> None:
    data = encode_view(views.shop())
    _, expected, _ = tidegate("graph", "--format", form, "--view", "-", stdin=data)
    target = tmp_path / "graph"
    status, out, _ = tidegate(
        "graph", "--format", form, "--view", "-", "--out", str(target), stdin=data
    )
    assert (status, out) == (0, "")
    assert target.read_text() == expected
    assert [path.name for path in tmp_path.iterdir()] == ["graph"]
