"""`tidegate policy`, as it is called: what it prints and its exit status."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tidegate.streams.cli import main

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _in_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str]:
    status = main(["policy", *args])
    out, err = capsys.readouterr()
    return status, out + err


def report(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    return json.loads(run(capsys, *args, "--json")[1])


def test_check_tells_every_problem_of_every_file_and_ends_with_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = [
        "refused/out_of_range.yaml",
        "extended/shop.yaml",
        "refused/bad_parent.yaml",
        "default",
    ]
    status, out = run(capsys, "check", *files)
    assert status == 1
    lines = out.splitlines()
    assert lines[0].startswith("refused/out_of_range.yaml:3: timing.grace_ms: -5 is out of range")
    assert sum("timing.grace_ms" in line for line in lines) == 1
    assert any(line.startswith("extended/shop.yaml: good, shop@") for line in lines)
    assert any(line.startswith("refused/bad_parent.yaml:4: settings.target_ms") for line in lines)
    assert lines[-1].startswith("default: good, default@")


def test_check_of_good_files_ends_with_0_and_tells_warnings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, out = run(capsys, "check", "extended/shop.yaml")
    assert status == 0
    assert "extended/shop.yaml: warning: pack `reference` sheds healthy slow services" in out


def test_check_as_json_has_every_problem_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    told = report(capsys, "check", "refused/out_of_range.yaml", "default", "nowhere.yaml")
    assert told["is_good"] is False
    bad, good, missing = told["files"]
    assert bad["problems"][0] == {
        "file": "refused/out_of_range.yaml",
        "line": 3,
        "path": "timing.grace_ms",
        "message": "-5 is out of range; give a whole number of milliseconds from 0 to 60000",
    }
    assert (good["problems"], good["policy"].split("@")[0]) == ([], "default")
    assert "can't be read" in missing["problems"][0]["message"]


def test_show_is_a_policy_with_the_place_of_each_value(capsys: pytest.CaptureFixture[str]) -> None:
    status, out = run(capsys, "show", "extended/shop.yaml")
    assert status == 0
    assert out.startswith("# shop@")
    assert "  target_ms: 250  # extended/shop.yaml:5: its objective\n" in out
    assert "  mode: enforce  # extended/base.yaml:5: agreed by all teams\n" in out
    assert "    target_ms: 40  # extended/shop.yaml:8 services[0]\n" in out
    told = report(capsys, "show", "extended/shop.yaml")
    assert told["effective"]["settings"]["target_ms"] == 250
    assert told["origins"]["settings.target_ms"]["line"] == 5
    assert report(capsys, "show")["policy"].startswith("default@")


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [("default", "default", 0), ("default", "reference", 1), ("default", "nowhere", 2)],
)
def test_diff_ends_as_diff_does(
    capsys: pytest.CaptureFixture[str], before: str, after: str, status: int
) -> None:
    found, out = run(capsys, "diff", before, after)
    assert found == status
    assert (out == "") is (status == 0)


def test_diff_tells_values_and_rules(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "diff", "extended/base.yaml", "extended/shop.yaml")[1].splitlines()
    assert "settings.target_ms: 300 -> 250  # extended/shop.yaml:5" in out
    assert "services[0] {service: batch-*}: removed" in out
    assert "services[1] {service: pay-*}: added" in out
    assert "  level.sleep_s: not said -> 20  # extended/shop.yaml:11 services[1]" in out
    told = report(capsys, "diff", "extended/base.yaml", "extended/shop.yaml")
    assert [rule["what"] for rule in told["rules"]] == ["removed", "added", "added"]


@pytest.mark.parametrize(
    ("args", "lines"),
    [
        (["pay-eu"], ["services[1] matches", "settings.level.sleep_s  20 ", "shop.yaml:11"]),
        (["pay-eu", "db1"], ["services[0] matches", "settings.target_ms      40 "]),
        (["edge:pay-eu->db1"], ["edge:pay-eu->db1 under shop@", "settings.target_ms      40 "]),
        (["cart"], ["no rule matches", "settings.target_ms      250 ", "base.yaml:5"]),
        (["cart", "--all"], ["timing.grace_ms ", "pack default:"]),
    ],
)
def test_explain_tells_what_holds_and_where_it_stands(
    capsys: pytest.CaptureFixture[str], args: list[str], lines: list[str]
) -> None:
    status, out = run(capsys, "explain", *args, "--policy", "extended/shop.yaml")
    assert status == 0
    assert [line for line in lines if line not in out] == []
    assert ("--all shows them" in out) is ("--all" not in args)


def test_explain_as_json_has_the_rule(capsys: pytest.CaptureFixture[str]) -> None:
    told = report(capsys, "explain", "pay-eu", "--policy", "extended/shop.yaml")
    assert (told["scope"], told["rule"]) == ("service:pay-eu", 1)
    own = {value["path"]: value for value in told["values"]}
    assert own["settings.level.sleep_s"]["rule"] == 1
    assert "last_24h" not in told


def test_explain_of_what_is_as_in_the_pack_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        "every setting is as in pack reference"
        in (run(capsys, "explain", "cart", "--policy", "reference")[1])
    )


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["explain", "service:"], "is not a scope"),
        (["show", "refused/out_of_range.yaml"], "timing.grace_ms"),
        (["check"], "FILE|PACK"),
        ([], "what should"),
        (["explane", "x"], "explane"),
    ],
)
def test_wrong_usage_ends_with_2(
    capsys: pytest.CaptureFixture[str], args: list[str], told: str
) -> None:
    status, out = run(capsys, *args)
    assert status == 2
    assert told in out


def test_schema_prints_a_schema(capsys: pytest.CaptureFixture[str]) -> None:
    Draft202012Validator.check_schema(json.loads(run(capsys, "schema")[1]))
