"""What came of the cases: for people, as JSON, as JUnit XML."""

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

import msgspec
from rich.text import Text

from tidegate.streams.policy_test.case import Case
from tidegate.streams.policy_test.expect import Failure
from tidegate.streams.policy_test.running import CaseResult

__all__ = ["case_line", "failure_lines", "json_report", "junit_report", "listing", "summary_line"]

_TITLE_CHARS = 84
_STYLES = {"-": "red", "+": "green", ">": "bold"}
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 can't hold."""


def listing(cases: Sequence[Case]) -> list[str]:
    """A line for each case."""
    return [f"{case.where}:{case.line}: {case.title}" for case in cases]


def case_line(result: CaseResult) -> Text:
    """One line: how it ended, what it is, how long it took."""
    word, style = ("ok", "green") if result.has_passed else ("FAIL", "bold red")
    if result.error:
        word = "ERROR"
    title = result.title
    return Text.assemble(
        (f"{word:<5}", style), f" {title:<{_TITLE_CHARS}} ", (f"{result.elapsed_s:6.2f} s", "dim")
    )


def failure_lines(result: CaseResult) -> list[Text]:
    """Why a case failed: each expectation with what was expected and what there was, like a diff."""
    lines = [f"{result.title} (policy {result.policy})"]
    for failure in result.failures:
        lines += [f"  {line}" for line in _failure_lines(failure)]
    if result.error:
        lines.append(f"  {result.where}:{result.line}: could not be run to its end")
        lines += [f"    {line}" for line in result.error.rstrip().split("\n")]
    out = []
    for number, line in enumerate(lines):
        mark = line.strip()[:1]
        out.append(Text(line, style="bold" if number == 0 else _STYLES.get(mark, "")))
    return out


def summary_line(results: Sequence[CaseResult], *, elapsed_s: float) -> Text:
    """How many, and how long it took."""
    failed = [result for result in results if not result.has_passed]
    event_s = sum(result.event_s for result in results)
    counted = f"{len(results) - len(failed)} passed"
    if failed:
        counted = f"{len(failed)} failed, {counted}"
    style = "bold red" if failed else "bold green"
    return Text.assemble(
        (counted, style), f"; {event_s:,.0f} s of virtual time in {elapsed_s:,.1f} s"
    )


def json_report(results: Sequence[CaseResult], *, elapsed_s: float) -> bytes:
    """One document, for programs."""
    failed = sum(not result.has_passed for result in results)
    document = {
        "passed": len(results) - failed,
        "failed": failed,
        "elapsed_s": round(elapsed_s, 3),
        "cases": [
            {
                "title": result.title,
                "where": result.where,
                "line": result.line,
                "policy": result.policy,
                "passed": result.has_passed,
                "event_s": result.event_s,
                "elapsed_s": round(result.elapsed_s, 3),
                "failures": [msgspec.to_builtins(failure) for failure in result.failures],
                "error": result.error or None,
            }
            for result in results
        ],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def junit_report(results: Sequence[CaseResult], *, elapsed_s: float) -> bytes:
    """JUnit XML as CI systems read it: a suite for each file."""
    root = ET.Element("testsuites", name="tidegate test")
    _count(root, results, elapsed_s)
    for where in dict.fromkeys(result.where for result in results):
        of_file = [result for result in results if result.where == where]
        suite = ET.SubElement(root, "testsuite", name=_clean(where))
        _count(suite, of_file, sum(result.elapsed_s for result in of_file))
        for result in of_file:
            suite.append(_junit_case(result))
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _failure_lines(failure: Failure) -> list[str]:
    return [
        f"{failure.where}:{failure.line}: {failure.text}",
        f"  - {failure.expected}",
        f"  + {failure.found}",
        *(f"    {row}" for row in failure.time_line),
    ]


def _count(element: ET.Element, results: Sequence[CaseResult], elapsed_s: float) -> None:
    errors = sum(bool(result.error) for result in results)
    failed = sum(not result.has_passed for result in results)
    element.set("tests", str(len(results)))
    element.set("failures", str(failed - errors))
    element.set("errors", str(errors))
    element.set("time", f"{elapsed_s:.3f}")


def _junit_case(result: CaseResult) -> ET.Element:
    suite, _, name = result.title.partition(": ")
    case = ET.Element("testcase", classname=_clean(suite), name=_clean(name))
    case.set("file", _clean(result.where))
    case.set("line", str(result.line))
    case.set("time", f"{result.elapsed_s:.3f}")
    if result.error:
        told = ET.SubElement(case, "error", message="could not be run to its end")
        told.text = _clean(result.error)
    elif result.failures:
        first = result.failures[0]
        told = ET.SubElement(case, "failure", message=_clean(first.text), type="expectation")
        lines = [line for failure in result.failures for line in _failure_lines(failure)]
        told.text = _clean("\n".join(lines))
    return case


def _clean(text: str) -> str:
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)
