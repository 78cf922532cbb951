"""One partition's memory, and one boundary of it: what operators asked for, merge, judge, forget.

The traffic is kept once; the policy in force judges it, and so does, while one is tried, a candidate.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.rules import hardness
from tidegate.rules.alarms import Alarms
from tidegate.rules.alerts import AlertEvent
from tidegate.rules.baseline import TICK_BOUNDARIES
from tidegate.rules.in_force import Due, InForce, is_in_rollout, is_match
from tidegate.rules.judgement import Judgement
from tidegate.rules.level import OperatorEvent
from tidegate.rules.pending import Arrived
from tidegate.rules.policy import Policy, PolicyError, policy_from_content
from tidegate.rules.renaming import Renamed, Renaming, expire
from tidegate.rules.ruling import Guidance, Ruling, Telemetry, Told
from tidegate.rules.traffic import SHED_EFFECTS, Traffic
from tidegate.rules.window import Merged
from tidegate.schemas.cells import BUCKET_MS, EFFECT_SHIFT
from tidegate.schemas.control import (
    Abort,
    LatchReset,
    OverrideClear,
    OverrideSet,
    PolicyPush,
    Promote,
    Relearn,
)
from tidegate.schemas.decision import Finding, RootCause
from tidegate.schemas.facts import Fact, Loop
from tidegate.schemas.level import Level

__all__ = ["Candidate", "Partition", "Stepped"]

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
TARGETS_MAX = 256
"""Shown of one edge."""


@dataclass(slots=True)
class Candidate:
    """A policy that is tried beside the one in force."""

    push: PolicyPush
    """How: grey for some services, or shadow."""
    judgement: Judgement
    since_boundary: int


@dataclass(slots=True)
class Stepped:
    """What a boundary found out. Arrays over all live keys, in the order of scopes (k)."""

    slots: Ints
    merged: Merged
    touched: Mask
    """Which keys merged something at this boundary."""
    ruling: Ruling
    """Of the policy in force."""
    tried: Ruling | None
    """Of the candidate."""
    is_candidates: Mask
    """Keys whose published decision is the candidate's (grey)."""
    is_overridden_anew: Mask
    """Keys for which an override began or ended."""
    dropped: list[str]
    """Scopes that ended here."""
    is_dropped: Mask
    """By live key; its slot is free already."""
    shed_count: int
    """Requests that clients turned away, merged at this boundary."""
    applied: list[Due] = field(default_factory=list)
    """What operators had asked for, in force from here on."""
    counters: Counter[str] = field(default_factory=Counter)
    events: list[AlertEvent] = field(default_factory=list)
    """What is to be said of live keys."""
    telemetry_events: list[AlertEvent] = field(default_factory=list)
    ended: list[tuple[str, AlertEvent, str]] = field(default_factory=list)
    """(scope, event, why) of keys that ended here."""
    facts: list[Fact] = field(default_factory=list)
    """Who answers whom, and requests that go round: heard since the boundary before."""
    loops: list[Loop] = field(default_factory=list)


class Partition:
    """All state of one evaluate partition."""

    def __init__(self, number: int, policy: Policy, *, partitions_count: int) -> None:
        self.number = number
        self.partitions_count = partitions_count
        self.traffic = Traffic(services_max=policy.services_max, keys_max=policy.keys_max)
        self.judgement = self.new_judgement(policy)
        self.candidate: Candidate | None = None
        self.in_force = InForce()
        self._overridden: dict[int, OverrideSet] | None = None
        """By slot; None where it must be looked up anew."""

    def new_judgement(self, policy: Policy) -> Judgement:
        """Of the keys that there are."""
        return Judgement(
            policy,
            self.traffic.keys.capacity,
            partitions_count=self.partitions_count,
            alarms=self.alarms,
        )

    @property
    def policy(self) -> Policy:
        """In force at the last boundary."""
        return self.judgement.policy

    def judgements(self) -> tuple[Judgement, ...]:
        """That in force, then the candidate's."""
        tried = () if self.candidate is None else (self.candidate.judgement,)
        return (self.judgement, *tried)

    def step(self, cells: Arrived | None, boundary: int, telemetry: Telemetry) -> Stepped:
        """Everything that a boundary does, from the cells that fell due."""
        applied, unknown_count = self.in_force.due(boundary)
        counters: Counter[str] = Counter({"control_refused": unknown_count})
        asked: list[LatchReset | Relearn] = []
        touched_patterns = [o.scope for o in self.in_force.expire(boundary * BUCKET_MS)]
        for due in applied:
            self._apply(due, boundary, asked, touched_patterns, counters)
        # Sent again to a partition that has lost its snapshots, some are over by now.
        touched_patterns += [o.scope for o in self.in_force.expire(boundary * BUCKET_MS)]
        traffic = self.traffic
        facts, loops, renamed = self._heed_facts(cells, boundary, counters)
        merged = traffic.merge(cells, boundary)
        for judgement in self.judgements():
            judgement.settle(traffic)
            judgement.standing.is_published[list(renamed.slots)] = False
        traffic.exemplars.merge(
            boundary,
            is_failed=self.policy.columns.is_failed,
            settings=self.judgement.settings,
            target_bin=self.judgement.target_bin(),
            resolved=traffic.aliases.resolved,
        )
        live = traffic.live(merged, boundary)
        self._look_up_overrides(touched_patterns, boundary)
        operator = self._operator_events(live, asked)
        guidance = self.guidance(live, boundary)
        told = Told(live, merged, boundary, operator, telemetry, guidance)
        ruling = self.judgement.step(traffic, told)
        tried = None
        if self.candidate is not None:
            tried = self.candidate.judgement.step(traffic, told)
            counters.update(_differences(self.judgement, self.candidate.judgement, live, tried))
            tried.is_changed |= np.isin(live, np.array(sorted(renamed.slots), np.int64))
        counters.update(ruling.counters)
        is_touched = np.zeros(traffic.keys.capacity, np.bool_)
        is_touched[merged.slot] = True
        is_shed = np.isin((merged.code >> EFFECT_SHIFT) & 7, SHED_EFFECTS)
        shed_count = int(merged.count[is_shed].sum())
        stepped = Stepped(
            slots=live,
            merged=merged,
            touched=is_touched[live],
            ruling=ruling,
            tried=tried,
            is_candidates=self._is_candidates(live),
            is_overridden_anew=self._matching(live, touched_patterns),
            dropped=renamed.gone,
            is_dropped=np.zeros(len(live), np.bool_),
            shed_count=shed_count,
            applied=applied,
            counters=counters,
            ended=renamed.ended,
            facts=facts,
            loops=loops,
        )
        counters["overflow_instances"] += traffic.overflow_instances
        self._tick_hardness(live, boundary)
        self._tell(stepped, boundary)
        self._drop_idle(stepped, boundary)
        return stepped

    def _heed_facts(
        self, cells: Arrived | None, boundary: int, counters: Counter[str]
    ) -> tuple[list[Fact], list[Loop], Renamed]:
        """Takes the facts and loops heard since the boundary before, and ends old ones; edges go by the
        names that follow. `cells` get slots in place of codes."""
        traffic = self.traffic
        known, aliases = traffic.facts, traffic.aliases
        facts, loops, changed = known.hear(
            boundary, facts_max=self.policy.keys_max, counters=counters
        )
        for fact in facts:
            if (number := aliases.number.get((fact.caller, fact.target))) is not None:
                aliases.calls[number] = 0
        renamed = Renamed()
        if not (known.known or changed or aliases.formers):
            return facts, loops, renamed
        judgements = self.judgements()
        for judgement in judgements:
            judgement.grow(traffic.keys.capacity)
        ttl = self.policy.timing.key_ttl_s * 1000 // BUCKET_MS
        ended, less = expire(traffic, judgements, boundary, ttl)
        changed.update(ended)
        if changed:
            silences = list(self.in_force.silences.values())
            renamed = Renaming(traffic, judgements, cells, silences, boundary).run(sorted(changed))
            counters.update(renamed.counters)
            self._overridden = None
        aliases.forget_formers(boundary)
        if cells is not None:
            renamed.slots |= aliases.take(cells, boundary)
        renamed.slots |= less & set(traffic.keys.by_key.values()) if less else set()
        return facts, loops, renamed

    def _tick_hardness(self, live: Ints, boundary: int) -> None:
        traffic, s = self.traffic, self.policy.baseline
        turn = traffic.keys.is_turn(live, boundary, TICK_BOUNDARIES)
        hardness.tick(traffic.hardness, live[turn], s.day_half_life_s)

    def _tell(self, stepped: Stepped, boundary: int) -> None:
        """Alerts, of the policy in force (grey or not: one voice calls people)."""
        judgement, live = self.judgement, stepped.slots
        silences = list(self.in_force.silences.values())
        stepped.events = judgement.alarms.events(
            self.traffic,
            judgement.policy,
            judgement.findings,
            live,
            judgement.settings,
            silences,
            boundary,
        )
        stepped.telemetry_events = judgement.alarms.telemetry_events(
            judgement.policy, stepped.ruling.is_panic, self.number, silences, boundary
        )

    # ---- what operators ask for ----

    def _apply(
        self,
        due: Due,
        boundary: int,
        asked: list[LatchReset | Relearn],
        patterns: list[str],
        counters: Counter[str],
    ) -> None:
        counters["control_entries"] += 1
        counters["control_late"] += due.is_late
        match due.record:
            case PolicyPush() as push:
                try:
                    policy = policy_from_content(due.policy)
                except PolicyError:  # of another version of Tidegate: what is in force stays
                    counters["control_refused"] += 1
                else:
                    self._push(push, policy, boundary)
            case Promote():
                if self.candidate is not None:
                    tried = self.candidate.judgement
                    # Who is called already, and for what, is one story whatever policy is in force.
                    tried.alarms.take_alerts(self.judgement.alarms)
                    self.judgement = tried
                    self.judgement.standing.is_relabelled[:] = True
                    self._end_candidate()
                    self.heed_limits()
            case Abort():
                self._end_candidate()
            case LatchReset() | Relearn() as event:
                asked.append(event)
            case OverrideSet(scope=scope) | OverrideClear(scope=scope):
                patterns.append(scope)
                counters["control_refused"] += not self.in_force.apply(due.record)
            case _:
                counters["control_refused"] += not self.in_force.apply(due.record)

    def _push(self, push: PolicyPush, policy: Policy, boundary: int) -> None:
        if push.rollout == "full":
            self.judgement.switch(policy, is_pushed=True)
            self._end_candidate()
            self.heed_limits()
        else:
            # A second candidate takes the place of the first.
            self._end_candidate()
            self.candidate = Candidate(push, self.judgement.under(policy), boundary)

    def heed_limits(self) -> None:
        """Takes the limits of the policy in force; what there is already stays."""
        self.traffic.keys.services_max = self.policy.services_max
        self.traffic.keys.keys_max = self.policy.keys_max

    def _end_candidate(self) -> None:
        """Keys whose decisions were the candidate's are published again under the policy in force."""
        if self.candidate is not None and self.candidate.push.rollout == "grey":
            self.judgement.standing.is_relabelled[:] = True
        self.candidate = None

    def _operator_events(
        self, live: Ints, asked: list[LatchReset | Relearn]
    ) -> npt.NDArray[np.int8]:
        events = np.zeros(len(live), np.int8)
        for event in asked:
            rows = np.flatnonzero(self._matching(live, [event.scope]))
            if isinstance(event, Relearn):
                for judgement in self.judgements():
                    judgement.relearn(live[rows])
            else:
                wanted = OperatorEvent.LOCK if event.action == "lock" else OperatorEvent.RESET
                events[rows] = int(wanted)
        return events

    def _matching(self, live: Ints, patterns: list[str]) -> Mask:
        found = np.zeros(len(live), np.bool_)
        for pattern in patterns:
            found |= np.isin(live, np.array(self._slots_matching(pattern), np.int64))
        return found

    def _is_candidates(self, live: Ints) -> Mask:
        """Whose decisions are the candidate's."""
        chosen = np.zeros(len(live), np.bool_)
        if self.candidate is None or self.candidate.push.rollout != "grey":
            return chosen
        keys, push = self.traffic.keys, self.candidate.push
        known: dict[str, bool] = {}
        for row, slot in enumerate(live.tolist()):
            service = (keys.names[slot] or ("", ""))[0]
            if service not in known:
                known[service] = is_in_rollout(service, push)
            chosen[row] = known[service]
        return chosen

    # ---- what a stage adds ----

    alarms: type[Alarms] = Alarms

    def guidance(
        self,
        live: Ints,  # noqa: ARG002 - for stages that know more
        boundary: int,  # noqa: ARG002 - for stages that know more
    ) -> Guidance | None:
        """What is known of these keys beside what was merged of them."""
        return None

    def is_hidden(self, slots: Ints) -> Mask:
        """Keys that are judged and not published. Shape kept."""
        return np.zeros(len(slots), np.bool_)

    def root_causes(self, slot: int) -> list[RootCause]:  # noqa: ARG002 - for stages that know more
        """Who is suspected of what is bad with a key."""
        return []

    def findings_of(self, slot: int) -> list[Finding]:  # noqa: ARG002 - for stages that know more
        """What is worth telling of a key beside what its own numbers tell."""
        return []

    def traces_of(self, slot: int, boundary: int) -> list[str]:
        """Exemplars of a key."""
        return self.traffic.exemplars.trace_ids(slot, boundary)

    def save_more(self) -> Any:
        """What a stage keeps beside, for snapshots."""
        return None

    def load_more(self, saved: Any) -> None:
        """The opposite."""

    # ---- what is shown ----

    def is_answered(self, slots: Ints) -> Mask:
        """Edges whose callee is known by a fact. Shape kept."""
        return self.traffic.aliases.is_answered(slots, self.traffic.keys.capacity)

    def targets_of(self, slot: int) -> list[str]:
        """What callers' spans call an edge that goes by its callee's name, other than that; sorted."""
        own = (self.traffic.keys.names[slot] or ("", ""))[1]
        said = self.traffic.aliases.said(slot)
        return [target for _, target in said if target != own][:TARGETS_MAX]

    def overridden(self) -> dict[int, OverrideSet]:
        """The override in force for each key that has one, by slot."""
        if self._overridden is None:
            self._overridden = {}
            for override in self.in_force.overrides.values():  # the newest is last, and wins
                self._overridden |= dict.fromkeys(self._slots_matching(override.scope), override)
        return self._overridden

    def _slots_matching(self, pattern: str) -> list[int]:
        keys = self.traffic.keys
        return [slot for slot in keys.by_key.values() if is_match(keys.scopes[slot], pattern)]

    def _look_up_overrides(self, patterns: list[str], boundary: int) -> None:
        """Of all keys where one has changed, else of those that are new."""
        if patterns:
            self._overridden = None
        elif self._overridden is not None and self.in_force.overrides:
            slots = self.traffic.keys.in_order()
            for slot in slots[self.traffic.seen.made_boundary[slots] == boundary].tolist():
                override = self.in_force.override_of(self.traffic.keys.scopes[slot])
                if override is not None:
                    self._overridden[slot] = override

    def callers_of(self, slots: Ints) -> Ints:
        """Among how many callers probes are shared: one for an edge; for a service the edges to a target
        of its name, at least one (callers of other partitions aren't known here)."""
        keys = self.traffic.keys
        by_target = Counter(target for _, target in keys.by_key if target)
        names = (keys.names[slot] or ("", "") for slot in slots.tolist())
        return np.array([1 if target else max(1, by_target[s]) for s, target in names], np.int64)

    # ---- what ends ----

    def _drop_idle(self, stepped: Stepped, boundary: int) -> None:
        """Keys that are closed and were not seen for `key_ttl_s` end."""
        traffic, live = self.traffic, stepped.slots
        ttl = self.policy.timing.key_ttl_s * 1000 // BUCKET_MS
        idle = boundary - traffic.seen.last_boundary[live] > ttl
        for judgement in self.judgements():
            idle &= judgement.levels.level[live] == int(Level.CLOSED)
        is_due = boundary % TICK_BOUNDARIES == 0
        unborn = traffic.ended_unseen(boundary, ttl) if is_due else np.empty(0, np.int64)
        ends = np.concatenate((live[idle], unborn))
        stepped.is_dropped = idle
        if not len(ends):
            return
        silences = list(self.in_force.silences.values())
        for event in self.judgement.alarms.ended(traffic, live[idle], silences, boundary):
            stepped.ended.append((traffic.keys.scopes[event.slot], event, "unseen for long"))
        scopes = [traffic.keys.scopes[slot] for slot in live[idle].tolist()]
        stepped.dropped = sorted(stepped.dropped + scopes)
        for judgement in self.judgements():
            judgement.reset(ends)
        if self._overridden is not None:
            for slot in ends.tolist():
                self._overridden.pop(slot, None)
        traffic.forget(ends)


def _differences(one: Judgement, tried: Judgement, live: Ints, ruling: Ruling) -> dict[str, int]:
    """How many keys begin to be judged otherwise here, by kind."""
    now = np.sign(tried.levels.level[live].astype(np.int8) - one.levels.level[live].astype(np.int8))
    before = tried.standing.differs[live]
    begins = now != before
    tried.standing.differs[live] = now
    ruling.is_changed |= begins
    return {
        "shadow_stricter": int((begins & (now > 0)).sum()),
        "shadow_milder": int((begins & (now < 0)).sum()),
        "shadow_agree_again": int((begins & (now == 0)).sum()),
    }
