"""`tidegate test` as people call it."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.policy_test.files import WELL
from tidegate.streams.cli import main

GOOD = (
    f"""\
policy: default
cases:
  - name: all is well
    traffic: {{pay: {WELL}}}
    expect: ["always: service:pay level=closed"]
  - name: all is quick
    traffic: {{pay: {WELL}}}
    expect: ["at 60s: service:pay p95_ms<100"]
""".replace('["always: ', "[always: ")
    .replace('["at 60s: ', "[at 60s: ")
    .replace('"]', "]")
)
BAD = GOOD.replace("level=closed", "level=open")
WRONG = GOOD.replace("level=closed", "level=opne")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "bad.yml").write_text(BAD)
    (tmp_path / "wrong.txt").write_text(WRONG)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    status = main(["test", *map(str, args)])
    told = capsys.readouterr()
    return status, told.out, told.err


def test_all_passed_is_status_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, folder / "good.yaml")
    assert status == 0
    assert "ok    good: all is well" in out
    assert "2 passed; 120 s of virtual time" in out


def test_a_failure_is_status_1_with_the_reason_and_junit_xml(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(capsys, folder, "--junit", folder / "out.xml")
    assert status == 1
    assert "FAIL  bad: all is well" in out
    assert "    + level closed, at 0.5s" in out
    assert "1 failed, 3 passed" in out
    root = ET.parse(folder / "out.xml").getroot()
    assert (root.get("tests"), root.get("failures")) == ("4", "1")


def test_processes_give_the_same_results_in_the_same_order(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*args: object) -> list[tuple[str, bool, list[object]]]:
        _, out, _ = run(capsys, folder, "--json", *args)
        return [(c["title"], c["passed"], c["failures"]) for c in json.loads(out)["cases"]]

    alone, shared = told("--jobs", 1), told("--jobs", 2)
    assert alone == shared
    assert [title for title, _, _ in alone] == [
        "good: all is well", "good: all is quick", "bad: all is well", "bad: all is quick",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "count"), [("WELL", 2), ("good: *quick", 1), ("good", 2), ("all is ?uick", 2)]
)
def test_cases_are_chosen_by_name(
    folder: Path, capsys: pytest.CaptureFixture[str], pattern: str, count: int
) -> None:
    status, out, _ = run(capsys, folder, "-k", pattern, "--list")
    assert status == 0
    assert len(out.splitlines()) == count
    assert all(":" in line for line in out.splitlines())


def test_without_files_there_are_the_packs_own_cases(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "--list")
    assert status == 0
    for pack in ("default", "reference", "adaptive"):
        assert f": {pack}-bands: " in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("wrong.txt",), "wrong.txt:5: cases[0].expect[0]: 'opne' is no level; did you mean `open`?"),
        (("none.yaml",), "none.yaml: can't be read (No such file or directory)"),
        (("good.yaml", "good.yaml"), "good.yaml is named twice; its cases would run twice"),
        (("good.yaml", "-k", "nothing"), "-k nothing: matches no case; --list names them"),
        (("good.yaml", "--jobs", "-1"), "--jobs -1: give a number of processes, or 0"),
        (("empty",), "empty: holds no *.yaml file"),
    ],
)  # fmt: skip
def test_wrong_files_and_arguments_are_status_2(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    args: tuple[str, ...],
    message: str,
) -> None:
    (folder / "empty").mkdir()
    monkeypatch.chdir(folder)
    status, out, err = run(capsys, *args)
    assert status == 2
    assert out == ""
    assert message in err


def test_problems_of_all_files_are_told_at_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.yaml").write_text(WRONG)
    (folder / "b.yaml").write_text(WRONG)
    status, _, err = run(capsys, folder)
    assert status == 2
    assert err.count("'opne' is no level") == 2
