"""Sums by instance against a recomputation from all rows, at every boundary; who is dominant; the bounds."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.rules.instances import (
    BUCKET_INSTANCES_MAX,
    SERVICE_INSTANCES_MAX,
    InstanceRows,
    Instances,
)
from tidegate.rules.window import WINDOW_BUCKETS

START = 1_000_000
SLOTS, NAMES = 4, ["a", "b", "c", "d"]
Counted = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Row:
    """One row, and the boundary before which it arrives."""

    arrives: int
    slot: int
    bucket: int
    name: str
    requests: int = 1
    failed: int = 0


def rows_of(rows: list[Row]) -> InstanceRows:
    names = sorted({r.name for r in rows})
    number = {name: i for i, name in enumerate(names)}
    return InstanceRows(
        np.array([r.slot for r in rows], np.int64),
        np.array([r.bucket for r in rows], np.int64),
        np.array([number[r.name] for r in rows], np.int32),
        np.array([r.requests for r in rows], np.int32),
        np.array([r.failed for r in rows], np.int32),
        names,
    )


def held(instances: Instances) -> dict[int, Counted]:
    return {
        slot: {
            name: (int(instances._requests[row]), int(instances._failed[row]))
            for name, row in mine.items()
        }
        for slot, mine in instances._rows.items()
    }


def recomputed(rows: list[Row], boundary: int) -> dict[int, Counted]:
    """By slot and instance, what some boundary up to this one merged and the window still holds."""
    out: dict[int, Counted] = defaultdict(dict)
    for r in rows:
        merged_at = max(r.arrives, r.bucket + 1)
        was_in_time = r.bucket >= merged_at - WINDOW_BUCKETS
        if merged_at <= boundary and was_in_time and r.bucket >= boundary - WINDOW_BUCKETS:
            requests, failed = out[r.slot].get(r.name, (0, 0))
            out[r.slot][r.name] = (requests + r.requests, failed + r.failed)
    return dict(out)


@st.composite
def some_rows(draw: st.DrawFn) -> list[Row]:
    rows = []
    for _ in range(draw(st.integers(1, 50))):
        bucket = START + draw(st.integers(0, 130))
        arrives = bucket + draw(st.sampled_from([-3, 0, 0, 1, 9, 59, 60, 61, 62, 90]))
        requests = draw(st.integers(1, 5))
        rows.append(
            Row(
                max(START + 1, arrives),
                draw(st.integers(0, SLOTS - 1)),
                bucket,
                draw(st.sampled_from(NAMES)),
                requests,
                draw(st.integers(0, requests)),
            )
        )
    return rows


def driven(rows: list[Row], until: int, *, batch: int = 3) -> Instances:
    """Rows are offered before the boundary at which they arrive."""
    instances = Instances()
    for boundary in range(START + 1, until + 1):
        due = [r for r in rows if r.arrives == boundary]
        for at in range(0, len(due), batch):
            instances.offer(rows_of(due[at : at + batch]))
        assert instances.merge(boundary) == 0
    return instances


@settings(max_examples=60, deadline=None)
@given(some_rows())
def test_sums_equal_a_recomputation_at_every_boundary(rows: list[Row]) -> None:
    instances = Instances()
    for boundary in range(START + 1, START + 230):
        due = [r for r in rows if r.arrives == boundary]
        if due:
            instances.offer(rows_of(due))
        late = {r.slot for r in rows if r.arrives <= boundary and r.bucket >= boundary}
        instances.merge(boundary)
        assert instances.waiting_slots() == late
        assert held(instances) == recomputed(rows, boundary)
    assert len(instances._free) == len(instances._names)


@settings(max_examples=60, deadline=None)
@given(some_rows(), st.integers(START + 1, START + 200), st.randoms(use_true_random=False))
def test_rebuilt_from_the_log_it_is_what_it_was(
    rows: list[Row], boundary: int, chance: object
) -> None:
    """A restart reads the window's rows again, all of them before the restored boundary is left."""
    came = [r for r in rows if r.arrives <= boundary]
    # A live worker drops what is late; a rebuilt one gets it again, and the restored boundary drops it.
    came = [r for r in came if r.bucket >= max(r.arrives, r.bucket + 1) - WINDOW_BUCKETS]
    live = driven(came, boundary)
    rebuilt = Instances()
    again = list(came)
    chance.shuffle(again)  # type: ignore[attr-defined]  # Hypothesis's Random
    for at in range(0, len(again), 5):
        rebuilt.offer(rows_of(again[at : at + 5]))
        rebuilt.merge(boundary)
    assert held(rebuilt) == held(live)
    assert rebuilt.waiting_slots() == live.waiting_slots()
    rebuilt.merge(boundary + 1)
    live.merge(boundary + 1)
    assert held(rebuilt) == held(live)


def dominant(instances: Instances, *, share: float = 0.8) -> str | None:
    return instances.dominant(0, share=share, instances_min=3, failures_min=10)


def ask(rows: list[Row], *, share: float = 0.8) -> str | None:
    instances = Instances()
    instances.offer(rows_of(rows))
    instances.merge(START + 1)
    return dominant(instances, share=share)


def failing(**failed: int) -> list[Row]:
    return [Row(START, 0, START, name, 100, count) for name, count in failed.items()]


@pytest.mark.parametrize(
    ("rows", "share", "expected"),
    [
        (failing(a=90, b=5, c=5), 0.8, "a"),
        (failing(a=5, b=5, c=90), 0.8, "c"),
        (failing(a=80, b=10, c=10), 0.8, None),  # not more than the share
        (failing(a=81, b=10, c=9), 0.8, "a"),
        (failing(a=10, b=0, c=0), 0.8, "a"),
        (failing(a=9, b=0, c=0), 0.8, None),  # too few failures
        (failing(a=90, b=0), 0.8, None),  # too few instances
        (failing(a=0, b=0, c=0), 0.8, None),
        (failing(a=50, b=50, c=0), 0.4, None),  # two as bad
        (failing(a=50, b=49, c=0), 0.4, "a"),
        ([*failing(a=5, b=1, c=0), *failing(a=5)], 0.8, "a"),  # added up
        ([], 0.8, None),
    ],
)
def test_the_dominant_instance_has_more_than_its_share_of_enough_failures(
    rows: list[Row], share: float, expected: str | None
) -> None:
    assert ask(rows, share=share) == expected
    assert ask(rows[::-1], share=share) == expected


def test_other_services_don_t_matter() -> None:
    rows = failing(a=90, b=5, c=5)
    assert ask([*rows, *(Row(START, 1, START, "b", 500, 500) for _ in range(3))]) == "a"


def test_an_instance_that_was_replaced_leaves_with_the_window() -> None:
    instances = Instances()
    instances.offer(rows_of(failing(a=90, b=5, c=5)))
    instances.merge(START + 1)
    last = START + WINDOW_BUCKETS
    instances.merge(last)
    assert dominant(instances) == "a"
    instances.merge(last + 1)
    assert held(instances) == {}
    assert dominant(instances) is None


def test_a_service_of_too_many_instances_has_no_dominant_one() -> None:
    instances = Instances()
    many = [Row(START, 0, START + i % 2, f"i-{i}") for i in range(SERVICE_INSTANCES_MAX - 1)]
    instances.offer(rows_of([*many, Row(START, 0, START + 2, "bad", 90, 90)]))
    assert instances.merge(START + 3) == 0
    assert dominant(instances) == "bad"
    instances.offer(rows_of([Row(START, 0, START + 2, "one more")]))
    assert instances.merge(START + 4) == 1
    assert dominant(instances) is None
    instances.merge(START + WINDOW_BUCKETS + 1)  # half of the many have left
    assert dominant(instances) == "bad"


@pytest.mark.parametrize("at_once", [1_000_000, 700])
def test_a_bucket_of_too_many_instances_is_dropped_whole(at_once: int) -> None:
    """However its rows come: whoever rebuilds the window from the log drops the same."""
    count = BUCKET_INSTANCES_MAX + 1
    many = [Row(0, 1 + i % 20, START + 1, f"i-{i % count}") for i in range(count + 5_000)]
    rows = [*failing(a=90, b=5, c=5), *many, Row(0, 0, START + 2, "a", 7, 1)]
    instances = Instances()
    over = 0
    for at in range(0, len(rows), at_once):
        instances.offer(rows_of(rows[at : at + at_once]))
        over += instances.merge(START + 3)
    assert over >= count
    assert held(instances) == {0: {"a": (107, 91), "b": (100, 5), "c": (100, 5)}}
    assert dominant(instances) is None
    instances.offer(rows_of(failing(a=90, b=5, c=5)))
    instances.merge(START + WINDOW_BUCKETS)
    assert dominant(instances) is None
    instances.offer(
        rows_of([Row(0, 0, START + 9, n, 9, f) for n, f in (("a", 9), ("b", 1), ("c", 0))])
    )
    instances.merge(START + WINDOW_BUCKETS + 2)  # the full bucket has left
    assert dominant(instances) == "a"


def test_keys_that_ended_leave_no_trace() -> None:
    instances = Instances()
    instances.offer(rows_of([*failing(a=90, b=5, c=5), Row(START, 1, START, "a", 3, 3)]))
    instances.merge(START + 1)
    instances.forget(np.array([0, 2]))
    assert held(instances) == {1: {"a": (3, 3)}}
    instances.offer(rows_of([Row(START, 0, START + 1, "new", 2, 1)]))  # the slot is another's now
    instances.merge(START + 2)
    assert held(instances) == {1: {"a": (3, 3)}, 0: {"new": (2, 1)}}
    instances.merge(START + WINDOW_BUCKETS + 1)
    assert held(instances) == {0: {"new": (2, 1)}}


def test_many_late_rows_of_a_bucket_are_added_up_in_time() -> None:
    instances = Instances()
    names = [f"i-{i}" for i in range(300)]
    for boundary in range(START + 1, START + 50):
        instances.offer(rows_of([Row(0, 0, START, name, 2, 1) for name in names]))
        instances.merge(boundary)
    assert held(instances)[0] == dict.fromkeys(names, (98, 49))
    bucket = instances._buckets[START]
    assert sum(len(chunk.row) for chunk in bucket.chunks) <= 1_000
