"""What a boundary may say, drawn at random for both protocols."""

from hypothesis import strategies as st

from tests.level.protocol import Seen
from tidegate.rules.level import OperatorEvent
from tidegate.schemas.level import Level

__all__ = ["phases", "seen"]

SCORES = {
    Level.CLOSED: 900,
    Level.DEGRADED_1: 700,
    Level.DEGRADED_2: 500,
    Level.OPEN: 300,
    Level.FORCED_OPEN: 100,
}
"""A score of each band."""


@st.composite
def seen(draw: st.DrawFn, *, may_lock: bool = True) -> Seen:
    """may_lock: whether operators have a say."""
    wanted = draw(st.sampled_from(list(SCORES)))
    requests = draw(st.sampled_from([0, 1, 2, 6, 30]))
    bad = draw(st.integers(0, requests))
    probes = draw(st.sampled_from([0, 0, 1, 5, 12, 60]))
    asked = list(OperatorEvent) if may_lock else []
    return Seen(
        wanted=wanted,
        score=SCORES[wanted],
        requests=requests,
        bad=draw(st.sampled_from([bad, requests, 0])),
        old_requests=draw(st.sampled_from([0, 0, requests // 2, requests])),
        probes=probes,
        probes_bad=draw(st.sampled_from([0, probes // 5, probes])),
        fast_requests=draw(st.sampled_from([0, 40])),
        qps=draw(st.sampled_from([0.2, 3.0, 50.0])),
        idle=draw(st.sampled_from([0, 0, 0, 119, 120, 9_000])),
        age=draw(st.sampled_from([0, 1, 10])),
        p90_ms=draw(st.sampled_from([-1, 80, 400])),
        target_ms=draw(st.sampled_from([-1, 100])),
        window_error_ratio=draw(st.sampled_from([0.0, 0.5, 0.6])),
        window_requests=draw(st.sampled_from([0.0, 9.0, 10.0, 400.0])),
        is_chronic=draw(st.sampled_from([False] * 5 + [True])),
        may_worsen=draw(st.sampled_from([True, True, False])),
        worst=draw(st.sampled_from([Level.LOCKED] * 5 + list(Level))),
        operator=draw(st.sampled_from([OperatorEvent.NONE] * 20 + asked)),
    )


def phases(*, may_lock: bool = True) -> st.SearchStrategy[list[tuple[int, Seen]]]:
    """Some stretches of boundaries, each with one thing said all along."""
    stretch = st.tuples(st.integers(1, 140), seen(may_lock=may_lock))
    return st.lists(stretch, min_size=1, max_size=14)
