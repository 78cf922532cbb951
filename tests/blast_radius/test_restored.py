"""Each run again from a snapshot taken in the middle of it; and with its services named the other way round."""

import pytest

from tests.blast_radius.driving import BASE, Load, Run, restored
from tests.blast_radius.scenes import SCENES, WELL, late, many, scene


@pytest.mark.parametrize("name", SCENES)
def test_restored_in_the_middle_of_it_the_same_bytes_follow(name: str) -> None:
    run = scene(name)
    worse = [d.boundary for d in run.decisions if d.boundary > BASE + 2 * WELL]
    alerts = [a.boundary for a in run.alerts if a.event == "start"]
    for begins in {min(worse, default=0), min(alerts, default=0)} - {0}:
        snapshot = next(s for s in run.snapshots if s.boundary > begins + 4)
        expected = [row for row in run.published if row[0] > snapshot.boundary]
        assert restored(run, snapshot) == expected


def test_slots_say_nothing() -> None:
    """The same traffic, but keys are met in another order: their slots are others."""

    def made(turn: int) -> Run:
        def seen(*loads: Load) -> list[Load]:
            return list(loads[::turn])

        run = Run().hold(WELL - 5, *seen(*many())).hold(5, *seen(*many(), late()))
        return run.hold(35, *seen(*many(20, bad=0.9), late())).hold(20, *seen(*many(12, bad=0.9)))

    one, other = made(1), made(-1)
    assert one.slot("s00") != other.slot("s00")
    assert one.published == other.published
