"""Each run again from snapshots taken while a finding holds, and just after it."""

import pytest

from tests.blast_radius.driving import restored
from tests.findings.scenes import SCENES, scene

HALF_LIFE_BOUNDARIES = 240


@pytest.mark.parametrize("name", SCENES)
def test_restored_while_it_holds_and_after_it_the_same_bytes_follow(name: str) -> None:
    run = scene(name)
    found = [d.boundary for d in run.decisions if d.findings] or [run.decisions[-1].boundary]
    for begins in {found[0], found[-1]}:
        snapshot = next((s for s in run.snapshots if s.boundary > begins + 4), run.snapshots[-2])
        until = snapshot.boundary + HALF_LIFE_BOUNDARIES
        expected = [row for row in run.published if snapshot.boundary < row[0] <= until]
        got = restored(run, snapshot, until)
        assert [row for row in got if row[0] <= until] == expected
