"""What the control topic says of policies: in force, tried, and where a rollback goes."""

import pytest

from tests.control.asked import abort, bad_push, override, promote, push, read
from tidegate.schemas.control import ControlRecord
from tidegate.streams.errors import Failure
from tidegate.streams.policy_history import history_rows, rollback_target, rollout_text, status_of

A, B = push("a"), push("b")


def name_of(label: str) -> str:
    return label.partition("@")[0]


@pytest.mark.parametrize(
    ("records", "in_force", "tried", "back_to"),
    [
        ([], "", "", None),
        ([A], "a", "", None),
        ([A, B], "b", "", "a"),
        ([A, A], "a", "", None),
        ([A, B, A], "a", "", "b"),
        ([A, B, B], "b", "", "a"),
        ([A, bad_push()], "a", "", None),
        ([A, push("b", "grey")], "a", "b", None),
        ([A, push("b", "grey"), promote()], "b", "", "a"),
        ([A, push("b", "shadow"), abort()], "a", "", None),
        ([A, push("b", "shadow"), B], "b", "", "a"),
        ([push("b", "shadow"), promote(), promote()], "b", "", None),
        ([A, override(), B], "b", "", "a"),
    ],
)
def test_the_newest_that_counts_is_in_force_and_a_rollback_goes_to_the_one_before(
    records: list[ControlRecord], in_force: str, tried: str, back_to: str | None
) -> None:
    topic = read(records)
    status = status_of(topic)
    assert name_of(status.in_force[-1].push.label if status.in_force else "") == in_force
    assert name_of(status.tried.label if status.tried else "") == tried
    if back_to is None:
        with pytest.raises(Failure, match="no earlier policy"):
            rollback_target(topic, None)
    else:
        assert name_of(rollback_target(topic, None).label) == back_to


def test_a_rollback_names_an_offset_or_a_label_of_an_accepted_push() -> None:
    topic = read([A, bad_push(), B])
    label = status_of(topic).in_force[0].push.label
    assert rollback_target(topic, "0").label == rollback_target(topic, label).label == label
    for bad in ("1", "3", "a"):
        with pytest.raises(Failure, match=f"--to {bad}: .*there is b@"):
            rollback_target(topic, bad)


def test_the_history_has_a_row_for_each_record_about_policies() -> None:
    rows = history_rows(read([A, override(), bad_push(), push("b", "grey"), promote()]))
    assert [row["offset"] for row in rows] == [0, 2, 3, 4]
    assert [row["is_accepted"] for row in rows] == [True, False, True, True]
    assert len(rows[1]["problems"]) == 2
    assert rows[0]["effective_ms"] - rows[0]["append_ms"] == 2_000


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"rollout": "full"}, "full"),
        ({"rollout": "shadow"}, "shadow"),
        ({"rollout": "grey", "share": 0.125}, "grey 12.5%"),
        ({"rollout": "grey", "share": 0.0, "services": ["a", "b-*"]}, "grey services a, b-*"),
    ],
)
def test_a_rollout_is_told_in_words(fields: dict[str, object], text: str) -> None:
    assert rollout_text(push("x", **fields)) == text  # type: ignore[arg-type]  # fields by name
