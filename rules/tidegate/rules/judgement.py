"""One policy applied to a partition's traffic: evidence, score, level, findings, of every key, boundary by
boundary. Two of them can look at the same traffic: the policy in force, and one that is tried beside it.

Vectorised over keys. Nothing here depends on the order in which cells arrived.
"""

import copy
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from tidegate.rules import (
    assess,
    baseline,
    evidence,
    findings,
    level_step,
    services,
)
from tidegate.rules import window_kernel as kernel
from tidegate.rules.alarms import Alarms, Heard
from tidegate.rules.baseline import TICK_BOUNDARIES, Baselines
from tidegate.rules.blast_radius import Ceilings, Panic
from tidegate.rules.ceilings import ceilings_of, guide
from tidegate.rules.evidence import Evidence
from tidegate.rules.findings import Findings
from tidegate.rules.judge import (
    FAST,
    WINDOW_SECONDS,
    per_second,
    weighted_ratio,
    window_totals,
)
from tidegate.rules.level_step import LevelInputs, LevelState
from tidegate.rules.policy import PROFILE_NAMES, Policy
from tidegate.rules.policy_columns import PROTOCOL_NAMES
from tidegate.rules.ruling import Numbers, Ruling, Told
from tidegate.rules.score import score_level
from tidegate.rules.shed_log import ShedLog
from tidegate.rules.state_columns import StateColumns
from tidegate.rules.traffic import Traffic
from tidegate.rules.window import FAST_BUCKETS
from tidegate.schemas.bins import BIN_VALUE_NS
from tidegate.schemas.cells import BUCKET_MS, WEIGHT_ONE
from tidegate.schemas.level import Level
from tidegate.schemas.outcome import FAILED_OUTCOMES

__all__ = ["Judgement"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class Standing(StateColumns):
    """What is kept per key beside evidence, baseline, level and findings."""

    spec: ClassVar[dict[str, tuple[type, float, int]]] = {
        "score": (np.int32, -1, 0),
        "is_published": (np.bool_, 0, 0),
        "is_relabelled": (np.bool_, 0, 0),
        "differs": (np.int8, 0, 0),
        "worsened_at": (np.int64, -1, 0),
        "error": (np.int16, 0, 0),
        "own_error": (np.int16, 0, 0),
        "slow": (np.int16, 0, 0),
    }
    score: npt.NDArray[np.int32]
    """Thousandths; -1 while a profile can't tell; held while nothing is merged."""
    is_published: Mask
    is_relabelled: Mask
    """The policy changed since it was published: due at the key's turn."""
    differs: npt.NDArray[np.int8]
    """Of a candidate: 1 where it is stricter than the policy in force, -1 milder, 0 the same."""
    worsened_at: Ints
    """When the panic guard last counted it as worsening."""
    error: npt.NDArray[np.int16]
    """Thousandths of the judged window while on evidence, held as the score is: weighted errors, those that
    were not inherited, and slow requests that did not fail."""
    own_error: npt.NDArray[np.int16]
    slow: npt.NDArray[np.int16]


class Judgement:
    """State of every key under one policy. Rows grow with the traffic's keys."""

    def __init__(
        self,
        policy: Policy,
        capacity: int,
        *,
        partitions_count: int,
        alarms: type[Alarms] = Alarms,
    ) -> None:
        self.policy = policy
        self.is_pushed = False
        """Whether it came by the log; else it is what the worker was started with."""
        self.partitions_count = partitions_count
        self.settings = np.full(capacity, -1, np.int64)
        """Index into the policy's settings, by slot; -1 for a row without a key."""
        self.evidence = Evidence(capacity)
        self.baselines = Baselines(capacity)
        self.levels = LevelState(capacity)
        self.standing = Standing(capacity)
        self.findings = Findings(capacity)
        self.shed = ShedLog(capacity)
        self.alarms = alarms(capacity)
        self.panic = Panic()
        self._ceilings: dict[int, tuple[str, str]] = {}
        """By slot: reason and ejected instance of the boundary before."""

    def under(self, policy: Policy) -> "Judgement":
        """The same standing under another policy, beside this one."""
        other = copy.deepcopy(self, {id(self.policy): self.policy})
        other.switch(policy, is_pushed=True)
        return other

    def switch(self, policy: Policy, *, is_pushed: bool = False) -> None:
        """Another policy from the next boundary on. What was learned and where levels stand remains."""
        self.policy, self.is_pushed = policy, is_pushed
        self.settings[:] = -1
        self.alarms.host.reconsider()
        self.standing.is_relabelled[:] = self.standing.is_published

    def columns(self) -> tuple[StateColumns, ...]:
        """All state with one row per key."""
        return (
            self.evidence,
            self.baselines,
            self.levels,
            self.standing,
            self.findings,
            self.shed,
            *self.alarms.columns(),
        )

    def reset(self, slots: Ints) -> None:
        """Makes rows unused."""
        for state in self.columns():
            state.reset(slots)
        self.settings[slots] = -1
        for slot in slots.tolist():
            self._ceilings.pop(slot, None)

    def grow(self, capacity: int) -> None:
        """Adds unused rows up to `capacity`."""
        more = capacity - len(self.settings)
        if more:
            self.settings = np.concatenate((self.settings, np.full(more, -1, np.int64)))
            for state in self.columns():
                state.grow(capacity)

    def is_quiet(self, slot: int) -> bool:
        """Whether a key is closed, and nothing speaks against it."""
        return (
            int(self.levels.level[slot]) == Level.CLOSED
            and int(self.evidence.since_boundary[slot]) < 0
            and int(self.alarms.incidents.l3_since[slot]) < 0
        )

    def readdress(self, slot: int) -> None:
        """A key has another name, or other targets: its settings are looked up anew, and it is published."""
        self.settings[slot] = -1
        self.standing.is_published[slot] = False

    def move(self, source: int, to: int, *, is_new: bool, adds: bool) -> None:
        """Takes the standing of a key along to another one, which may be new.

        Where both have one, all of the worse one's stands: the more severe level, else the one with a
        service fault, on evidence, nearer to evidence, else the one that is there. A level, the evidence
        it rests on and the baseline it was judged by belong together, and a rename must never make a
        level milder. adds: what is a sum (learned share, what was shed, five minutes, usual load) adds up;
        not so where the key only leaves a copy of its standing behind.
        """
        summed: tuple[npt.NDArray[np.generic], ...] = (
            self.evidence.p0_requests,
            self.evidence.p0_bad,
            self.shed.offered,
            self.shed.turned_away,
            self.alarms.slo.sums,
            self.alarms.slo.total,
        )
        totals = [column[source] + column[to] for column in summed]
        usual = self.baselines.qps[[source, to]]
        if is_new or self._worse(source) > self._worse(to):
            for state in (
                self.evidence,
                self.baselines,
                self.levels,
                self.standing,
                self.findings,
                self.alarms.incidents,
            ):
                state.copy(source, to)
            self._ceilings.pop(to, None)
            if source in self._ceilings:
                self._ceilings[to] = self._ceilings[source]
        if adds:
            for column, total in zip(summed, totals, strict=True):
                column[to] = total
            if (usual >= 0.0).all():
                self.baselines.qps[to] = usual.sum()
        self.readdress(to)

    def _worse(self, slot: int) -> tuple[float, ...]:
        e = self.evidence
        return (
            int(self.levels.level[slot]),
            int(self.alarms.incidents.l3_since[slot] >= 0),
            int(e.on_sharp[slot]),
            int(e.on_mild[slot]),
            float(e.sharp_sum[slot]),
            float(e.mild_sum[slot]),
        )

    def settle(self, traffic: Traffic) -> None:
        """Rows and settings for keys that are new since the boundary before."""
        self.grow(traffic.keys.capacity)
        in_order = traffic.keys.in_order()
        for slot in in_order[self.settings[in_order] < 0].tolist():
            service, target = traffic.keys.names[slot] or ("", "")
            self.settings[slot] = self.policy.settings_for(service, target)

    def relearn(self, slots: Ints) -> None:
        """Forgets what is usual for these keys, evidence included."""
        self.baselines.reset(slots)
        self.evidence.reset(slots)
        self.findings.reset(slots)
        self.standing.is_published[slots] = False  # what was published of them is no longer so

    def target_bin(self, slots: Ints | slice = slice(None)) -> Ints:
        """By slot, or of some slots: the policy's target, else the baseline's; -1 while none is known."""
        fixed = self.policy.columns.target_bin[self.settings[slots]]
        return np.where(fixed >= 0, fixed, self.baselines.target_bin[slots]).astype(np.int64)

    def target_ms(self, slots: Ints) -> Ints:
        """The same in ms, for some slots; -1 while none is known."""
        fixed_ms = self.policy.columns.target_ms[self.settings[slots]]
        learned_us = self.baselines.target_us[slots]
        learned_ms = np.where(learned_us >= 0, learned_us // 1000, -1)
        return np.where(fixed_ms > 0, fixed_ms, learned_ms).astype(np.int64)

    def is_any_ejected(self) -> bool:
        """Whether an instance was named at the boundary before."""
        return any(name for _, name in self._ceilings.values())

    def limit_of(self, slot: int) -> tuple[str, str]:
        """(why its level is held at degraded_1, the instance that is named instead); empty texts without."""
        return self._ceilings.get(slot, ("", ""))

    def save_limits(self, slots: Ints) -> list[tuple[int, str, str]]:
        """(place among the slots, reason, ejected instance)."""
        place = {slot: number for number, slot in enumerate(slots.tolist())}
        limits = ((place[slot], *limit) for slot, limit in self._ceilings.items() if slot in place)
        return sorted(limits)

    def load_limits(self, saved: list[tuple[int, str, str]], slots: Ints) -> None:
        """The opposite."""
        self._ceilings = {int(slots[place]): (reason, name) for place, reason, name in saved}

    def step(self, traffic: Traffic, told: Told) -> Ruling:
        """Everything that a boundary does with what was merged. `settle` first."""
        live, boundary = told.live, told.boundary
        target_bin = self.target_bin()
        found = assess.increments(self, traffic, told.merged, live, boundary, target_bin)
        totals = window_totals(traffic.windows, live)
        seen = services.seen_buckets(traffic.services, traffic.keys.service_slot[live], boundary)
        numbers = Numbers(found, totals, seen, per_second(totals.offered, seen), target_bin)
        shown = np.zeros(traffic.keys.capacity, np.bool_)
        self._look_for_hollow(traffic, live, boundary, shown)
        assess.count_hollow_as_bad(self, live, found)
        assess.weigh_evidence(self, traffic, live, numbers, boundary)
        self._look_for_chronic(live, boundary, shown)
        assess.score_keys(self, traffic, live, numbers)
        if (guidance := told.guidance) is not None:
            given = guidance.scores >= 0
            self.standing.score[live[given]] = guidance.scores[given]
        ruling = self._decide(traffic, told, numbers)
        self._learn(traffic, told, numbers, shown)
        self._log_shed(traffic, told, numbers)
        ruling.is_changed |= self._step_alarms(traffic, told, numbers)
        ruling.is_changed |= ruling.changes.changed | shown[live]
        if told.guidance is not None:
            ruling.is_changed |= told.guidance.is_changed
        return ruling

    # ---- findings ----

    def _look_for_hollow(self, traffic: Traffic, live: Ints, boundary: int, shown: Mask) -> None:
        """At a key's turn, every 5 s."""
        turn = traffic.keys.is_turn(live, boundary, FAST_BUCKETS)
        slots = live[turn & (self.baselines.p05_us[live] > 0)]
        if not len(slots):
            return
        s = self.policy.file.findings
        fast = traffic.windows.fast[slots, : kernel.OUTCOMES]
        is_fast = fast.sum(axis=1) >= s.hollow_requests_min
        # The 30 s window only where the fast one holds too few.
        for sums, plane, mine in (
            (fast, kernel.FAST, is_fast),
            (traffic.windows.window[slots, : kernel.OUTCOMES], kernel.WINDOW, ~is_fast),
        ):
            requests, failed = sums.sum(axis=1), sums[:, _FAILED].sum(axis=1)
            chosen = slots[mine]
            if not len(chosen):
                continue
            bins = traffic.windows.sketches.quantile_bins(
                chosen, 500, which=plane, failed_too=False
            )
            # Who fails openly hides nothing.
            is_well = (bins >= 0) & (2 * failed[mine] < requests[mine])
            p50_us = np.where(is_well, BIN_VALUE_NS[bins] // 1000, -1)
            usual_us = self.baselines.p05_us[chosen]
            changed = findings.note_hollow(
                self.findings, chosen, requests[mine], p50_us, usual_us, s, boundary
            )
            shown[changed] = True

    def _look_for_chronic(self, live: Ints, boundary: int, shown: Mask) -> None:
        since = self.evidence.since_boundary[live]
        begins, changed = findings.note_chronic(
            self.findings,
            live,
            since,
            self.baselines.p95_us[live] < 0,
            self.policy.file.findings,
            boundary,
        )
        self.baselines.reset(begins)
        shown[changed] = True
        never = np.zeros(len(live), np.bool_)
        lasted, ends = findings.end_hollow(
            self.findings, live, never, self.policy.file.findings, boundary
        )
        self.baselines.reset(lasted)
        shown[ends] = True

    # ---- level ----

    def _decide(self, traffic: Traffic, told: Told, numbers: Numbers) -> Ruling:
        live, boundary, found = told.live, told.boundary, numbers.found
        judged, capacity = numbers.judged, traffic.keys.capacity
        p90_ms = np.full(capacity, -1, np.int64)
        is_slow = np.zeros(capacity, np.bool_)
        if judged is not None:
            p90_ms[judged.slots] = np.where(
                judged.p90_bin >= 0, BIN_VALUE_NS[judged.p90_bin] // 1_000_000, -1
            )
            is_slow[judged.slots] = judged.slow > judged.error_ratio * judged.requests
        scores, level = self.standing.score[live], self.levels.level[live]
        settings = self.settings[live]
        guarded = self.policy.columns.profile[settings] == _GUARDED
        wanted = score_level(scores, self.policy.columns.profile[settings], self.policy.profiles)
        mild = self.evidence.on_mild[live] & ~self.evidence.on_sharp[live] & guarded
        wanted = np.where(mild, np.minimum(wanted, np.uint8(Level.DEGRADED_1)), wanted)
        wanted = np.where(scores < 0, level, wanted).astype(np.uint8)
        ceilings = ceilings_of(self, traffic, told, numbers, wanted)
        if (guidance := told.guidance) is not None:
            wanted = guide(ceilings, wanted, guidance)
        wanted = np.minimum(wanted, ceilings.worst)
        within = self.policy.file.blast_radius.panic_within_s * 1000 // BUCKET_MS
        noted = self.standing.worsened_at[live]
        is_noted = (noted >= 0) & (boundary - noted < within)  # a key counts once
        is_panic = self.panic.step(
            asking=int(((wanted > level) & (found[:, 0] > 0) & ~is_noted).sum()),
            active=int((numbers.totals.requests > 0).sum()),
            odd=(told.telemetry.odd, told.telemetry.spans),
            sources_missing=told.telemetry.sources_missing,
            r=self.policy.file.blast_radius,
            boundary=boundary,
        )
        ages = np.zeros(len(live), np.int64)
        ramping = np.flatnonzero(level == int(Level.HALF_OPEN))
        ages[ramping] = services.age_ms(traffic.services, traffic.keys.service_slot[live[ramping]])
        window_ratio, window_requests = self._latched_numbers(traffic, live, numbers)
        changes = level_step.step(
            self.levels,
            live,
            LevelInputs(
                wanted=wanted,
                score=scores,
                # What tells nothing is like no traffic: the level gets better with time.
                requests=np.where(scores < 0, 0.0, found[:, 0]).astype(np.int64),
                bad=found[:, 1].astype(np.int64),
                after_requests=found[:, 5].astype(np.int64),
                after_bad=found[:, 6].astype(np.int64),
                after_probes=found[:, 7].astype(np.int64),
                after_probes_bad=found[:, 8].astype(np.int64),
                fast_requests=numbers.totals.fast_requests,
                qps=numbers.qps,
                idle_boundaries=boundary - traffic.seen.last_boundary[live],
                age_boundaries=ages // BUCKET_MS,
                p90_ms=p90_ms[live],
                target_ms=self.target_ms(live),
                is_slow_caused=is_slow[live],
                jitter=traffic.keys.hash[live].astype(np.int64),
                window_error_ratio=window_ratio,
                window_requests=window_requests,
                is_chronic=self.findings.chronic_since[live] >= 0,
                may_worsen=np.full(len(live), not is_panic),
                worst=ceilings.worst,
                operator=told.operator,
            ),
            self.policy.columns,
            settings,
            boundary,
        )
        worsened = (self.levels.level[live] > changes.before) & ~is_noted
        self.standing.worsened_at[live[worsened]] = boundary
        self.panic.note(int(worsened.sum()), boundary)
        # Silence held it; what was hollow before the sleep must not judge whoever answers now.
        woke = (changes.before >= Level.OPEN) & (self.levels.level[live] == Level.HALF_OPEN)
        findings.end_hollow(self.findings, live, woke, self.policy.file.findings, boundary)
        self.evidence.clear(live[changes.resets_evidence])
        recovered = live[changes.resets_evidence & guarded]
        self.standing.score[recovered] = 1000  # nothing is on evidence any more
        return Ruling(
            numbers,
            changes,
            self._note_ceilings(live, ceilings),
            is_panic,
            counters={"refused_events": changes.refused_count},
        )

    def _latched_numbers(
        self, traffic: Traffic, live: Ints, numbers: Numbers
    ) -> tuple[Floats, Floats]:
        """Error ratio and requests of the 30 s window, for the keys whose latched breaker may trip."""
        columns, settings = self.policy.columns, self.settings[live]
        ratio = np.zeros(len(live))
        rows = np.flatnonzero((columns.protocol[settings] == _LATCHED) & (numbers.found[:, 6] > 0))
        if len(rows):
            ratio[rows] = weighted_ratio(
                traffic.windows.window[live[rows]], columns.outcome_weights[settings[rows]]
            )
        return ratio, numbers.totals.effective

    def admit_ratio(self, slots: Ints) -> Floats:
        """Share of requests that the present level lets pass. Shape kept."""
        columns, settings = self.policy.columns, self.settings[slots]
        ratio = columns.admit_ratio[settings, self.levels.level[slots]]
        step = self.levels.ramp_step[slots].astype(np.int64)
        ramp: Floats = np.where(step > 0, columns.ramp_admit[settings, step], ratio)
        return ramp

    def _note_ceilings(self, live: Ints, ceilings: Ceilings) -> Mask:
        """Keeps them for reasons; gives the keys whose ejected instance changed, since callers act on it."""
        changed = np.zeros(len(live), np.bool_)
        now: dict[int, tuple[str, str]] = {}
        for row, reason in ceilings.reasons.items():  # every ejected one has a reason
            now[int(live[row])] = (reason, ceilings.eject.get(row, ""))
        if now or self._ceilings:
            before = self._ceilings
            rows = {int(slot): row for row, slot in enumerate(live.tolist())}
            for slot in now.keys() | before.keys():
                ejects = now.get(slot, ("", ""))[1] != before.get(slot, ("", ""))[1]
                if slot in rows and ejects:
                    changed[rows[slot]] = True
        self._ceilings = now
        return changed

    def _step_alarms(self, traffic: Traffic, told: Told, numbers: Numbers) -> Mask:
        live, totals = told.live, numbers.totals
        heard = Heard(
            live=live,
            merged=told.merged,
            boundary=told.boundary,
            settings=self.settings,
            requests=totals.requests,
            weight=totals.weight,
            fast_requests=totals.fast_requests,
            fast_offered=totals.fast_offered / WINDOW_SECONDS[FAST],
            is_fast_turn=traffic.keys.is_turn(live, told.boundary, FAST_BUCKETS),
            target_ms=self.target_ms(live),
            usual_qps=self.baselines.qps[live],
        )
        return self.alarms.step(traffic, heard, self.evidence, self.policy)

    # ---- what is usual, what was shed ----

    def _learn(self, traffic: Traffic, told: Told, numbers: Numbers, shown: Mask) -> None:
        """Closed time without evidence teaches what is usual; then the keys whose turn it is decay."""
        live, boundary, found = told.live, told.boundary, numbers.found
        columns, settings = self.policy.columns, self.settings[live]
        guarded = columns.profile[settings] == _GUARDED
        on = self.evidence.on_sharp[live] | self.evidence.on_mild[live]
        is_closed = self.levels.level[live] == int(Level.CLOSED)
        chronic = self.findings.chronic_since[live] >= 0
        # A failure in disguise must not teach itself as normal either.
        hollow = self.findings.hollow_since[live] >= 0
        is_calm = ((is_closed & ~(on & guarded)) | chronic) & ~hollow
        is_learning = np.zeros(traffic.keys.capacity, np.bool_)
        is_learning[live[is_calm]] = True
        baseline.feed(
            self.baselines,
            told.merged,
            is_learning,
            self.settings,
            columns.is_failed,
            self.policy.baseline.bad_units,
            boundary,
        )
        learns = is_calm & ~on & (found[:, 0] > 0)
        evidence.learn(self.evidence, live[learns], found[learns, 0], found[learns, 1])
        turn = traffic.keys.is_turn(live, boundary, TICK_BOUNDARIES)
        due = live[turn]
        if len(due):
            baseline.tick(self.baselines, due, self.policy.baseline)
            calm = turn & is_calm
            baseline.tick_qps(self.baselines, live[calm], numbers.qps[calm], self.policy.baseline)
            evidence.forget(self.evidence, due, self.policy.evidence)
            drifting = self.baselines.is_drifting[due]
            shown[findings.note_drift(self.findings, due, drifting, boundary)] = True

    def _log_shed(self, traffic: Traffic, told: Told, numbers: Numbers) -> None:
        self.shed.turn(told.boundary)
        rows = np.flatnonzero(self.levels.level[told.live] > int(Level.CLOSED))
        if not len(rows):
            return
        slots = told.live[rows]
        away = traffic.shed_merged(told.merged, slots)
        offered = numbers.found[rows, 2] / WEIGHT_ONE + away
        self.shed.add(slots, offered, self.admit_ratio(slots), told.boundary)


_FAILED = [int(outcome) for outcome in FAILED_OUTCOMES]
_GUARDED = PROFILE_NAMES.index("guarded")
_LATCHED = PROTOCOL_NAMES.index("latched")
