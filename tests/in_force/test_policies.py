"""Policies that come by the log: in force from a boundary on, grey, in the shadow, promoted, aborted."""

from tests.in_force.driving import (
    BASE,
    Asked,
    Run,
    is_control,
    log_with,
    push,
    run,
    run_log,
)
from tidegate.schemas.control import Abort, Promote
from tidegate.schemas.decision import Decision

STRICT = "name: strict\nsettings:\n  target_ms: 1\n  level: {open_stand_s: 1}\n"
OPEN_SOONER = "name: sooner\nextends: reference\nsettings: {mode: enforce}\n"
PAY, WEB = "service:pay", "service:web"


def promote() -> Promote:
    return Promote(by="ada", reason="fine", asked_ms=0)


def abort() -> Abort:
    return Abort(by="ada", reason="bad", asked_ms=0)


def plain(decision: Decision) -> tuple[object, ...]:
    return (decision.scope, decision.level, decision.boundary, decision.score, decision.since_ms)


def test_a_pushed_policy_is_in_force_from_its_boundary_on() -> None:
    found = run([Asked(push("name: other\n"), 78.2, 82)])
    labels = {
        (d.policy.partition("@")[0], d.boundary >= BASE + 2 * 82)
        for d in found.decisions
        if d.scope == PAY
    }
    assert labels == {("default", False), ("other", True)}
    # `pay` was not closed: its next decision is that of the very boundary.
    assert any(second == 82.0 for second, _, _ in found.of(PAY))
    assert found.counters["control_entries"] == 1
    assert found.counters["control_late"] == 0


def test_closed_scopes_show_the_new_policy_within_their_turn() -> None:
    found = run([Asked(push("name: other\n"), 30, 32)])
    for scope in {d.scope for d in found.decisions}:
        seconds = [second for second, _, policy in found.of(scope) if policy == "other"]
        assert 32 <= seconds[0] <= 62, scope
    # ... spread, not all at one boundary.
    assert len({d.boundary for d in found.decisions if BASE + 64 <= d.boundary <= BASE + 124}) > 2


def test_an_entry_after_its_boundary_is_applied_at_the_next_one_and_counted() -> None:
    found = run([Asked(push("name: other\n"), 80, 40)])
    assert found.counters["control_late"] == 1
    assert min(s for s, _, policy in found.of(PAY) if policy == "other") >= 79


def test_levels_and_what_was_learned_outlive_a_change_of_policy() -> None:
    found, before = run([Asked(push("name: other\n"), 30, 32)]), run()
    assert [plain(d)[:2] for d in found.decisions if d.scope == PAY and d.level != "closed"] == [
        plain(d)[:2] for d in before.decisions if d.scope == PAY and d.level != "closed"
    ]


def test_what_is_in_the_shadow_moves_nothing() -> None:
    undisturbed = run()
    found = run([Asked(push(STRICT, rollout="shadow"), 30, 32)])
    assert found.decisions == undisturbed.decisions
    assert found.shadow
    assert {d.policy.partition("@")[0] for d in found.shadow} == {"strict"}
    assert {d.boundary >= BASE + 64 for d in found.shadow} == {True}
    assert found.counters["shadow_stricter"] > 0
    assert undisturbed.counters["shadow_stricter"] == 0


def test_the_shadow_decides_as_the_policy_would_alone_from_the_same_standing() -> None:
    full = run([Asked(push(STRICT), 30, 32)])
    shadow = run([Asked(push(STRICT, rollout="shadow"), 30, 32)])

    def levels(decisions: list[Decision]) -> list[tuple[object, ...]]:
        changes = [
            d for d in decisions if d.boundary >= BASE + 64 and "->" in d.reason.split(";")[-1]
        ]
        return [plain(d) for d in changes]

    assert levels(shadow.shadow) == levels(full.decisions)
    assert levels(shadow.shadow)


def test_grey_decides_for_the_services_named_and_no_other() -> None:
    found = run([Asked(push(STRICT, rollout="grey", services=["pa*"]), 30, 32)])
    after = [d for d in found.decisions if d.boundary > BASE + 64 + 60]
    by_service = {
        (
            d.scope.removeprefix("service:").removeprefix("edge:").partition("->")[0],
            d.policy.partition("@")[0],
        )
        for d in after
    }
    assert ("pay", "strict") in by_service
    assert ("web", "default") in by_service
    assert not any(who == "pay" and name == "default" for who, name in by_service)
    assert not any(who != "pay" and name == "strict" for who, name in by_service)


def test_grey_for_everyone_is_as_good_as_full() -> None:
    full = run([Asked(push(STRICT), 30, 32)])
    grey = run([Asked(push(STRICT, rollout="grey", share=1.0), 30, 32)])
    assert _levels(full) == _levels(grey)
    none = run([Asked(push(STRICT, rollout="grey", share=0.0), 30, 32)])
    assert _levels(none) == _levels(run())


def test_a_promoted_candidate_is_in_force_with_all_that_it_knows() -> None:
    full = run([Asked(push(STRICT), 30, 32)])
    found = run([Asked(push(STRICT, rollout="shadow"), 30, 32), Asked(promote(), 90, 92)])
    for scope in (PAY, WEB):
        assert found.at(scope, 199).level == full.at(scope, 199).level
        assert found.at(scope, 199).policy == full.at(scope, 199).policy
    assert not [d for d in found.shadow if d.boundary >= BASE + 2 * 92]


def test_a_promotion_tells_nobody_twice_and_resolves_what_was_told_before() -> None:
    promoted = run([Asked(push(STRICT, rollout="shadow"), 30, 32), Asked(promote(), 85, 86)])
    names = [(alert.id, alert.number) for alert in promoted.alerts]
    assert len(names) == len(set(names))
    before = [a for a in run().alerts if a.boundary < BASE + 2 * 86]
    assert before
    assert promoted.alerts[: len(before)] == before
    starts = [a.id for a in promoted.alerts if a.event == "start" and a.rule == "slo"]
    assert len(starts) == len({a.scope for a in promoted.alerts if a.rule == "slo"})


def test_an_aborted_candidate_leaves_no_trace() -> None:
    found = run(
        [
            Asked(push(STRICT, rollout="grey", share=1.0), 30, 32),
            Asked(abort(), 90, 92),
        ]
    )
    undisturbed = run()
    for scope in (PAY, WEB):
        for second in (130, 160, 199):
            now, then = found.at(scope, second), undisturbed.at(scope, second)
            assert (now.level, now.policy, now.since_ms) == (then.level, then.policy, then.since_ms)


def test_what_came_already_is_ignored_when_the_sequencer_sends_it_again() -> None:
    asked = [Asked(push("name: one\n"), 30, 32), Asked(push("name: two\n"), 40, 42)]
    twice = [r for r in log_with(asked) for _ in range(2 if is_control(r) else 1)]
    assert run_log(twice).decisions == run(asked).decisions


def _levels(found: Run) -> dict[str, list[tuple[float, str]]]:
    out: dict[str, list[tuple[float, str]]] = {}
    for d in found.decisions:
        rows = out.setdefault(d.scope, [])
        if not rows or rows[-1][1] != d.level:
            rows.append(((d.boundary - BASE) / 2, d.level))
    return out
