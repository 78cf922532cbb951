"""Whole runs under the pack `adaptive`: a key against its own slow habit, which stands still meanwhile."""

from functools import cache

import pytest

from tests.blast_radius.driving import BASE, Load, Run, restored
from tests.findings.scenes import WELL, scene
from tests.goldens.incidents import BASE_MS
from tidegate.rules.policy import builtin_policy
from tidegate.schemas.control import OverrideSet, Relearn

WEB = "service:web"


def learned(run: Run) -> tuple[int, float]:
    """(P95 in us, QPS)."""
    baselines, slot = run.evaluator.state.judgement.baselines, run.slot("web")
    return int(baselines.p95_us[slot]), float(baselines.qps[slot])


def healthy(seconds: float = 150) -> Run:
    return Run(builtin_policy("adaptive")).hold(seconds, Load("web", 6, ms=40))


def test_twice_the_usual_p95_with_errors_opens_and_recovers() -> None:
    run = scene("adaptive")
    levels = run.levels(WEB)
    assert [level for _, level in levels] == [
        "closed",
        "degraded_2",  # open must stand for 3 s
        "open",
        "half_open",
        "closed",
    ]
    assert levels[2][0] <= WELL + 8
    assert run.at(WEB, WELL + 60).score == pytest.approx(0.1 * 0.75, abs=0.15)
    assert run.at(WEB).score == 1.0


@pytest.mark.parametrize(
    ("ms", "bad", "per_s"),
    [(100, 0.0, 6), (40, 0.1, 6), (40, 0.0, 30), (60, 0.05, 9)],
    ids=["slow alone", "some errors", "five times the load", "a little of each"],
)
def test_one_term_alone_does_not_open(ms: float, bad: float, per_s: float) -> None:
    run = healthy().hold(45, Load("web", per_s, ms=ms, bad=bad))
    assert {level for _, level in run.levels(WEB)} == {"closed"}


def test_always_slow_is_healthy() -> None:
    run = Run(builtin_policy("adaptive")).hold(120, Load("web", 6, ms=3_000))
    assert {level for _, level in run.levels(WEB)} == {"closed"}
    assert run.evaluator.state.judgement.standing.score[run.slot("web")] == 1000


@cache
def frozen() -> tuple[Run, dict[float, tuple[int, float]]]:
    """What was learned, by second: well until 150, bad until 190 (at another load), then well."""
    run, at = healthy(), {}
    for load in (Load("web", 12, ms=100, bad=0.6), Load("web", 6, ms=40)):
        for _ in range(8):
            at[run.second] = learned(run)
            run.hold(5, load)
    for _ in range(24):
        at[run.second] = learned(run)
        run.hold(5, Load("web", 6, ms=40))
    at[run.second] = learned(run)
    return run, at


def test_what_is_usual_stands_still_while_the_level_is_not_closed() -> None:
    run, at = frozen()
    left = next(s for s, level in run.levels(WEB) if level != "closed")
    back = next(s for s, level in run.levels(WEB, since=left) if level == "closed")
    during = {value for second, value in at.items() if left + 1 <= second <= back}
    # At most one tick more: what was merged while it was still closed.
    assert len(during) <= 2
    for p95_us, qps in during:
        assert 44_000 < p95_us < 60_000
        assert qps == pytest.approx(6.0, abs=0.1)
    assert back - left > 40


def test_it_goes_on_learning_once_it_is_closed_again() -> None:
    run = healthy().hold(200, Load("web", 8, ms=50))
    p95_us, qps = learned(run)
    assert p95_us > 50_000
    assert 6.0 < qps < 8.0


def test_what_is_usual_survives_a_snapshot() -> None:
    run, _ = frozen()
    left = next(s for s, level in run.levels(WEB) if level != "closed")
    for second in (140, left + 5, left + 40):
        snapshot = next(s for s in run.snapshots if s.boundary >= BASE + second * 2)
        expected = [row for row in run.published if row[0] > snapshot.boundary]
        assert restored(run, snapshot) == expected


def test_relearned_it_has_no_habit_until_it_is_known_again() -> None:
    run = healthy()
    assert learned(run)[0] > 0
    asked = Relearn(by="ada", reason="new hardware", asked_ms=0, scope=WEB)
    run.ask(asked)
    run.hold(1, Load("web", 6, ms=400))
    assert learned(run) == (-1, -1.0)
    assert run.at(WEB).level == "closed"
    run.hold(120, Load("web", 6, ms=400))
    p95_us, qps = learned(run)
    assert 420_000 < p95_us < 560_000
    assert qps == pytest.approx(6.0, abs=0.2)
    assert {level for _, level in run.levels(WEB)} == {"closed"}


def test_an_override_teaches_nothing_else() -> None:
    one, other = healthy(), healthy()
    override = OverrideSet(
        by="ada",
        reason="drill",
        asked_ms=0,
        scope=WEB,
        level="open",
        until_ms=BASE_MS + 10_000_000,
    )
    one.ask(override)
    for run in (one, other):
        run.hold(40, Load("web", 7, ms=45))
    assert learned(one) == learned(other)
