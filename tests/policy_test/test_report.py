"""What people, programs and CI systems get of the results."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

from tidegate.streams.policy_test.expect import Failure
from tidegate.streams.policy_test.report import (
    case_line,
    failure_lines,
    json_report,
    junit_report,
    summary_line,
)
from tidegate.streams.policy_test.running import CaseResult


def result(
    name: str, *, failures: tuple[Failure, ...] = (), error: str = "", where: str = "a.yaml"
) -> CaseResult:
    return CaseResult(
        title=f"{Path(where).stem}: {name}",
        where=where,
        line=3,
        policy="default@1",
        failures=failures,
        error=error,
        event_s=120.0,
        elapsed_s=1.25,
    )


FAILURE = Failure(
    where="a.yaml",
    line=9,
    text="at 63s: service:pay level>=open",
    expected="service:pay level>=open, at 63s",
    found="level closed, at 63s",
    time_line=("service:pay", ">     0.5s  closed       1.00  all is <well> \x1b[31m& \u2028"),
)
RESULTS = (
    result("all is well"),
    result("it fails", failures=(FAILURE,)),
    result("it breaks", error="Traceback\n  boom", where="b.yaml"),
)


def test_a_line_says_how_a_case_ended_and_how_long_it_took() -> None:
    lines = [case_line(one).plain for one in RESULTS]
    assert [line.split()[0] for line in lines] == ["ok", "FAIL", "ERROR"]
    assert all(line.endswith("1.25 s") for line in lines)


def test_a_failure_is_told_like_a_diff_with_the_scopes_time_line() -> None:
    assert [text.plain for text in failure_lines(RESULTS[1])] == [
        "a: it fails (policy default@1)",
        "  a.yaml:9: at 63s: service:pay level>=open",
        "    - service:pay level>=open, at 63s",
        "    + level closed, at 63s",
        "      service:pay",
        f"      {FAILURE.time_line[1]}",
    ]
    assert [text.plain for text in failure_lines(RESULTS[2])][1:] == [
        "  b.yaml:3: could not be run to its end",
        "    Traceback",
        "      boom",
    ]


def test_the_summary_counts() -> None:
    told = summary_line(RESULTS, elapsed_s=2.0).plain
    assert told == "2 failed, 1 passed; 360 s of virtual time in 2.0 s"
    told = summary_line(RESULTS[:1], elapsed_s=1.0).plain
    assert told == "1 passed; 120 s of virtual time in 1.0 s"


def test_junit_xml_is_well_formed_whatever_a_reason_holds() -> None:
    root = ET.fromstring(junit_report(RESULTS, elapsed_s=2.0))
    assert root.tag == "testsuites"
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("3", "1", "1")
    first, second = root.findall("testsuite")
    assert (first.get("name"), first.get("tests"), first.get("failures")) == ("a.yaml", "2", "1")
    assert (second.get("name"), second.get("errors")) == ("b.yaml", "1")
    well, failed = first.findall("testcase")
    assert (well.get("classname"), well.get("name"), list(well)) == ("a", "all is well", [])
    failure = failed.find("failure")
    assert failure is not None
    assert failure.get("message") == FAILURE.text
    assert failure.text is not None
    assert "all is <well> \ufffd[31m& \u2028" in failure.text
    error = second.find("testcase/error")
    assert error is not None
    assert error.text == "Traceback\n  boom"


def test_the_json_document_has_everything() -> None:
    read = json.loads(json_report(RESULTS, elapsed_s=2.0))
    assert (read["passed"], read["failed"], read["elapsed_s"]) == (1, 2, 2.0)
    assert [case["passed"] for case in read["cases"]] == [True, False, False]
    assert read["cases"][1]["failures"][0]["found"] == FAILURE.found
    assert read["cases"][2]["error"] == "Traceback\n  boom"
