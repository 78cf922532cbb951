"""Case files in texts, for tests."""

from tidegate.streams.policy_test.case import Case
from tidegate.streams.policy_test.reading import read_case_text
from tidegate.streams.policy_test.series import Series, parse_series

WELL = "20rps p50=20ms p95=60ms for 60s"


def one_case(body: str) -> Case:
    """The case of a file's text; `traffic:` and the like stand at its beginning of line."""
    lines = "\n".join(f"    {line}" for line in body.strip().split("\n"))
    text = f"policy: default\ncases:\n  - name: it\n{lines}\n"
    (case,) = read_case_text(text, where="it.yaml")
    return case


def series(text: str) -> Series:
    """A series that must be right."""
    told: list[str] = []
    read = parse_series(text, told.append)
    assert told == []
    return read
