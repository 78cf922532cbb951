"""docs/policy-tests.md says what the code does: its tables, its example, its failure.

`python -m tests.policy_test.test_docs` prints the failure, to be pasted.
"""

import re
from pathlib import Path

import pytest

from tidegate.streams.policy_test.asking import FORMS
from tidegate.streams.policy_test.metric_series import metric_names
from tidegate.streams.policy_test.reading import read_case_text
from tidegate.streams.policy_test.report import failure_lines
from tidegate.streams.policy_test.running import run_case
from tidegate.streams.policy_test.series import ATTRIBUTES, Segment
from tidegate.streams.policy_test.values import Ramp

TEXT = (Path(__file__).parents[2] / "docs" / "policy-tests.md").read_text(encoding="utf-8")
FAILING = """\
policy: default
cases:
  - name: the breaker opens at once
    traffic:
      payments: 20rps p50=20ms p95=60ms for 60s; then errors=9/10 for 20s
    expect:
      - at 61s: service:payments level>=open within 1s
"""


def attribute_rows() -> list[str]:
    plain = Segment(for_ms=0, rps=Ramp(0.0, 0.0))
    first = {a.name: getattr(plain, a.field) for a in ATTRIBUTES}
    return [
        f"| `{a.name}` | {'–' if first[a.name] is None else a.kind.write(first[a.name])} | {a.about} |"
        for a in ATTRIBUTES
    ]


def failure_text() -> str:
    (case,) = read_case_text(FAILING, where="shop.yaml")
    text = "\n".join(line.plain for line in failure_lines(run_case(case)))
    return re.sub(r"@[0-9a-f]{8}", "@0f3a91c2", text)


@pytest.mark.parametrize(
    "part",
    [
        *attribute_rows(),
        *(f"* `{form}`" for form in FORMS),
        *(f"`{name}`" for name in metric_names()),
    ],
)
def test_the_page_has_every_word_of_the_language(part: str) -> None:
    assert part in TEXT


def test_the_example_passes() -> None:
    example = TEXT.partition("```yaml\n")[2].partition("```")[0]
    for case in read_case_text(example, where="example.yaml"):
        result = run_case(case)
        assert result.has_passed, "\n".join(line.plain for line in failure_lines(result))


def test_the_failure_is_what_a_failing_case_prints() -> None:
    """The golden of the report, too."""
    assert failure_text() in TEXT


if __name__ == "__main__":
    print(failure_text())
