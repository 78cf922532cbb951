"""When each finding begins, holds and ends, key by key."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.rules.findings import Findings, findings_of, note_drift, note_hollow
from tidegate.rules.policy import builtin_policy

S = builtin_policy("default").file.findings
NOW = 3_500_000_000
SLOTS = np.array([2, 0])
"""Of three: what is in no slot that is told about must stay as it is."""


def hollow(
    findings: Findings, boundary: int, *seen: tuple[int, int, int]
) -> tuple[list[int], list[int]]:
    """seen: (requests, P50, usual P05) in us, by slot of SLOTS. (changed slots, since by slot)."""
    requests, p50, usual = np.array(seen, np.int64).T
    changed = note_hollow(findings, SLOTS[: len(seen)], requests, p50, usual, S, boundary)
    return changed.tolist(), findings.hollow_since.tolist()


@pytest.mark.parametrize(
    ("seen", "begins"),
    [
        ((20, 1_999, 10_000), True),
        ((20, 2_000, 10_000), False),  # a fifth is not under a fifth
        ((19, 1_999, 10_000), False),
        ((500, 0, 10_000), True),
        ((500, -1, 10_000), False),  # nothing but failures
        ((500, 10, -1), False),  # nothing is known of it
        ((500, 10, 0), False),
        ((500, 50_000, 10_000), False),
    ],
)
def test_hollow_begins_under_a_fifth_of_the_quickest_twentieth(
    seen: tuple[int, int, int], begins: bool
) -> None:
    findings = Findings(3)
    changed, since = hollow(findings, NOW, seen)
    assert changed == ([2] if begins else [])
    assert since == [-1, -1, NOW if begins else -1]
    shown = findings_of(findings, 2, p95_us=1, day_factor=3.0)
    assert [(f.name, f.since_ms) for f in shown] == ([("hollow", NOW * 500)] if begins else [])


def test_hollow_holds_while_too_little_is_known_and_ends_at_a_usual_answer() -> None:
    findings = Findings(3)
    hollow(findings, NOW, (20, 100, 10_000), (20, 9_000, 10_000))
    assert hollow(findings, NOW + 10, (3, 9_000, 10_000)) == ([], [-1, -1, NOW])
    assert hollow(findings, NOW + 20, (30, -1, 10_000)) == ([], [-1, -1, NOW])
    assert hollow(findings, NOW + 30, (30, 300, 10_000), (30, 300, 10_000)) == (
        [0],
        [NOW + 30, -1, NOW],
    )
    assert hollow(findings, NOW + 40, (30, 2_000, 10_000)) == ([2], [NOW + 30, -1, -1])


def test_hollow_is_told_in_numbers() -> None:
    findings = Findings(3)
    hollow(findings, NOW, (20, 1_230, 31_900))
    (found,) = findings_of(findings, 2, p95_us=1, day_factor=3.0)
    assert found.reason == (
        "answers too quick to be true: P50 1.23 ms, while its quickest twentieth usually takes "
        "31.9 ms; it may be failing without saying so"
    )


STEPS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20)


@given(STEPS)
def test_drift_changes_where_it_begins_and_ends_only(steps: Sequence[tuple[bool, bool]]) -> None:
    findings, since = Findings(3), {2: -1, 0: -1}
    for boundary, holds in enumerate(steps, start=NOW):
        changed = note_drift(findings, SLOTS, np.array(holds), boundary)
        expected = []
        for slot, now in zip(SLOTS.tolist(), holds, strict=True):
            if now != (since[slot] >= 0):
                since[slot] = boundary if now else -1
                expected.append(slot)
        assert changed.tolist() == expected
        assert findings.drift_since.tolist() == [since[0], -1, since[2]]


def test_several_findings_are_shown_by_name() -> None:
    findings = Findings(1)
    findings.hollow_since[0] = NOW
    findings.drift_since[0] = NOW + 1
    findings.chronic_since[0] = NOW + 2
    shown = findings_of(findings, 0, p95_us=123_456, day_factor=3.0)
    assert [f.name for f in shown] == ["chronic", "drift", "hollow"]
    assert "usual P95 of 123 ms" in shown[1].reason
    assert "3 times what the day gives" in shown[1].reason
