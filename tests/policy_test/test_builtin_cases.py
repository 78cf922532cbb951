"""The cases that the packs ship with: each passes, and they walk every row of the protocols' tables."""

import pytest

from tidegate.rules.policy import PACKS
from tidegate.streams.policy_test.case import Case
from tidegate.streams.policy_test.command import builtin_files, cases_of
from tidegate.streams.policy_test.report import failure_lines
from tidegate.streams.policy_test.running import run_case

CASES = cases_of([])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_a_built_in_case_passes(case: Case) -> None:
    result = run_case(case)
    assert result.has_passed, "\n".join(line.plain for line in failure_lines(result))


def test_every_pack_has_cases_of_its_own() -> None:
    assert {path.stem.partition("-")[0] for path in builtin_files()} == set(PACKS)
