"""Whole runs in which the simple rule was wrong: callers that obey, quiet edges, keys that worsen twice."""

from itertools import pairwise

import pytest

from tests.blast_radius.driving import Call, Load, Run
from tests.blast_radius.scenes import WELL, late, many
from tidegate.rules.policy import load_policy

WEB = "service:web"
FIVE = ("i-1", "i-2", "i-3", "i-4", "i-5")


@pytest.mark.parametrize("per_s", [5, 21])
def test_one_of_five_is_named_although_a_fifth_of_all_requests_asks_for_degraded_1_only(
    per_s: float,
) -> None:
    run = Run().hold(WELL, Load("web", per_s, instances=FIVE))
    run.hold(40, Load("web", per_s, instances=FIVE, bad_instances=("i-3",)))
    told = run.at(WEB)
    assert (told.level, told.actions.eject) == ("degraded_1", ["i-3"])
    assert "nearly all failures come from instance i-3" in told.reason


def test_callers_that_spare_the_named_instance_try_it_again_more_and_more_seldom() -> None:
    run = Run().hold(WELL, Load("web", 10, instances=FIVE[:4]))
    spared: list[tuple[float, list[str]]] = []
    for _ in range(400):
        named = run.at(WEB).actions.eject
        if not spared or spared[-1][1] != named:
            spared.append((run.second, named))
        left = tuple(name for name in FIVE[:4] if name not in named)
        run.step(Load("web", 10, instances=left, bad_instances=("i-2",)))
    ends = [*(second for second, _ in spared), run.second]
    lengths = [end - second for (second, named), end in zip(spared, ends[1:], strict=True) if named]
    assert {tuple(named) for _, named in spared} == {(), ("i-2",)}
    assert len(lengths) <= 8
    assert all(later >= earlier for earlier, later in pairwise(lengths[:-1]))
    assert sum(lengths) > 0.75 * 200
    assert {level for _, level in run.levels(WEB)} == {"closed", "degraded_1"}


def test_a_chronic_service_still_names_its_one_bad_instance() -> None:
    policy = load_policy("name: t\nfindings: {chronic_after_s: 60}\n", where="t")
    run = Run(policy).hold(120, Load("web", 12, instances=FIVE[:3], bad_instances=("i-2",)))
    told = run.at(WEB)
    assert [finding.name for finding in told.findings] == ["chronic"]
    assert (told.level, told.actions.eject) == ("degraded_1", ["i-2"])


def test_what_a_quiet_edge_failed_long_ago_does_not_explain_what_its_caller_fails_now() -> None:
    """The edge gets a call in 2.5 s, so five minutes of them are judged; its caller's 30 s are not all of it."""
    web, quiet = Load("web", 20), Load("web", 0.4, calls=(Call("pay", bad=1.0),))
    run = Run().hold(WELL, web, Load("web", 0.4, calls=(Call("pay"),))).hold(330, web, quiet)
    assert run.at("edge:web->pay").level in ("open", "forced_open")
    fails = run.second
    run.hold(15, Load("web", 20, bad=0.6), quiet)
    assert not any("explains" in d.reason for d in run.decisions if d.scope == WEB)
    assert next(s for s, level in run.levels(WEB) if level == "open") <= fails + 9


def test_a_key_that_worsens_twice_is_one_key_to_the_panic_guard() -> None:
    """Five of thirty are no third of them, through degraded_2 or not."""
    run = Run().hold(WELL - 5, *many()).hold(5, *many(), late())
    run.hold(15, *many(5, bad=0.95), late())
    assert run.events("telemetry") == []
    assert {run.at(f"service:s{n:02d}").level for n in range(5)} == {"forced_open"}
