"""One partition's memory, and one boundary of it: merge, judge, decide, learn, forget.

Vectorised over keys; a Python loop runs only over keys whose decision is published. Nothing here depends
on the order in which cells arrived.
"""

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from tidegate.rules import baseline, evidence, level_step, services
from tidegate.rules import window_kernel as kernel
from tidegate.rules.baseline import TICK_BOUNDARIES, Baselines
from tidegate.rules.evidence import Evidence, Increments
from tidegate.rules.exemplars import Exemplars
from tidegate.rules.judge import (
    JudgedWindow,
    WindowTotals,
    judged_window,
    per_second,
    weighted_ratio,
    window_totals,
)
from tidegate.rules.keys import Keys
from tidegate.rules.level_step import LevelChanges, LevelInputs, LevelState
from tidegate.rules.pending import Arrived, Pending, merge
from tidegate.rules.policy import PROFILE_NAMES, Policy
from tidegate.rules.score import Judged, score, score_level
from tidegate.rules.services import Services
from tidegate.rules.state_columns import StateColumns
from tidegate.rules.window import Merged, Windows
from tidegate.schemas.bins import BIN_VALUE_NS, bin_of_ns
from tidegate.schemas.cells import BUCKET_MS, EFFECT_SHIFT
from tidegate.schemas.level import Level
from tidegate.schemas.outcome import Effect
from tidegate.schemas.scope import OTHER

__all__ = ["KeyState", "Partition", "Stepped"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class KeyState(StateColumns):
    """What is kept per key beside windows, evidence, baseline and level."""

    spec: ClassVar[dict[str, tuple[type, float, int]]] = {
        "score": (np.int32, -1, 0),
        "seen_boundary": (np.int64, -1, 0),
        "made_boundary": (np.int64, -1, 0),
        "is_published": (np.bool_, 0, 0),
    }
    score: npt.NDArray[np.int32]
    """Thousandths, -1 unknown; held while nothing is merged."""
    seen_boundary: Ints
    """The last boundary that merged anything of the key; -1: its cells are still waiting, so for all
    that is published it does not exist yet."""
    made_boundary: Ints
    """The first boundary after the key got its slot."""
    is_published: npt.NDArray[np.bool_]


@dataclass(slots=True)
class Stepped:
    """What a boundary found out. Arrays over all live keys, in the order of scopes (k)."""

    slots: Ints
    merged: Merged
    touched: npt.NDArray[np.bool_]
    """Which keys merged something at this boundary."""
    qps: Floats
    changes: LevelChanges
    """By live key."""
    dropped: list[str]
    """Scopes that ended here."""
    is_dropped: npt.NDArray[np.bool_]
    """By live key; its slot is free already."""
    shed_count: int
    """Requests that clients turned away, merged at this boundary."""


class Partition:
    """All state of one evaluate partition. Rows of all columns grow together with `keys`."""

    def __init__(self, policy: Policy, *, partitions_count: int) -> None:
        self.policy = policy
        self.partitions_count = partitions_count
        self.keys = Keys(services_max=policy.services_max, keys_max=policy.keys_max)
        capacity = self.keys.capacity
        self.settings = np.zeros(capacity, np.int64)
        """Index into the policy's settings, by slot."""
        self.windows = Windows(capacity)
        self.evidence = Evidence(capacity)
        self.baselines = Baselines(capacity)
        self.levels = LevelState(capacity)
        self.key_state = KeyState(capacity)
        self.services = Services(capacity)
        self.exemplars = Exemplars()
        self.pending = Pending()
        self.other_slot = -1

    def slot_of(self, service: str, target: str, *, may_add: bool = True) -> tuple[int, bool]:
        """(slot, is_overflow). Keys beyond a limit share the slot `other`, which is never judged."""
        if not may_add:
            known = self.keys.by_key.get((service, target))
            return (self._other(), True) if known is None else (known, False)
        before = len(self.keys)
        slot = self.keys.slot_of(service, target)
        if slot < 0:
            return self._other(), True
        if len(self.keys) != before:
            self._settle_new(slot, service, target)
        return slot, False

    def _other(self) -> int:
        if self.other_slot < 0:
            self.other_slot = self.keys.reserve(OTHER, "")
            self._settle_new(self.other_slot, OTHER, "")
        return self.other_slot

    def _settle_new(self, slot: int, service: str, target: str) -> None:
        if self.keys.capacity > len(self.settings):
            self._grow(self.keys.capacity)
        self.settings[slot] = self.policy.settings_for(service, target)
        if service == OTHER:
            self.other_slot = slot

    def _grow(self, capacity: int) -> None:
        more = capacity - len(self.settings)
        self.settings = np.concatenate((self.settings, np.zeros(more, np.int64)))
        for state in (*self.key_columns(), self.services):
            state.grow(capacity)
        self.windows.grow(capacity)

    def restore_key(self, service: str, target: str) -> int:
        """A slot for a key of a snapshot, whatever the limits are now."""
        slot = self.keys.reserve(service, target)
        self._settle_new(slot, service, target)
        return slot

    def key_columns(self) -> tuple[StateColumns, ...]:
        """All state with one row per key that outlives the window."""
        return (self.evidence, self.baselines, self.levels, self.key_state)

    def target_bin(self) -> Ints:
        """By slot: the policy's target, else the baseline's; -1 while none is known."""
        fixed_ms = self.policy.columns.target_ms[self.settings]
        fixed = bin_of_ns(np.maximum(fixed_ms, 0).astype(np.int64) * 1_000_000)
        return np.where(fixed_ms > 0, fixed, self.baselines.target_bin).astype(np.int64)

    def target_ms(self, slots: Ints) -> Ints:
        """The same in ms, for some slots; -1 while none is known."""
        fixed_ms = self.policy.columns.target_ms[self.settings[slots]]
        learned_us = self.baselines.target_us[slots]
        learned_ms = np.where(learned_us >= 0, learned_us // 1000, -1)
        return np.where(fixed_ms > 0, fixed_ms, learned_ms).astype(np.int64)

    def step(self, cells: Arrived | None, boundary: int) -> Stepped:
        """Everything that a boundary does, from the cells that fell due."""
        in_order = self.keys.in_order()
        merged = _NOTHING
        self.windows.advance(boundary)
        if cells is not None:
            merged = merge(cells, boundary, rank=self.keys.rank(), in_order=in_order)
            services.feed(
                self.services.lags,
                self.services.seen_from,
                self.services.seen_last,
                self.keys.service_slot,
                cells.slot,
                cells.bucket,
                cells.lag,
                cells.count,
                boundary,
            )
        target_bin = self.target_bin()
        self.windows.merge(merged, boundary)
        self.exemplars.merge(
            boundary,
            is_failed=self.policy.columns.is_failed,
            settings=self.settings,
            target_bin=target_bin,
        )
        live = self._live(in_order, merged, boundary)
        found = self._increments(merged, boundary, live, target_bin)
        touched: npt.NDArray[np.bool_] = np.asarray((found > 0).any(axis=1))
        totals = window_totals(self.windows, live)
        seen = services.seen_buckets(self.services, self.keys.service_slot[live], boundary)
        qps = per_second(totals.offered, seen)
        self._weigh_evidence(live, found, totals, seen, boundary, target_bin)
        judged = self._score(live, found, qps, totals, target_bin)
        changes = self._decide(live, found, qps, totals, judged, boundary)
        self._learn(merged, live, found, boundary)
        is_shed = np.isin((merged.code >> EFFECT_SHIFT) & 7, _SHED_EFFECTS)
        shed_count = int(merged.count[is_shed].sum())
        dropped, is_dropped = self._drop_idle(live, boundary)
        return Stepped(live, merged, touched, qps, changes, dropped, is_dropped, shed_count)

    def _live(self, in_order: Ints, merged: Merged, boundary: int) -> Ints:
        """Keys that merged something now or before, but `other`. When a key's cells arrive depends on
        how far ahead its source is; when they are merged doesn't."""
        state = self.key_state
        state.seen_boundary[merged.slot] = boundary
        new = in_order[state.made_boundary[in_order] < 0]
        state.made_boundary[new] = boundary
        is_live = (state.seen_boundary[in_order] >= 0) & (in_order != self.other_slot)
        live: Ints = in_order[is_live]
        return live

    def _increments(self, merged: Merged, boundary: int, live: Ints, target_bin: Ints) -> Floats:
        place = np.full(self.keys.capacity, len(live), np.int64)  # a last row for `other`
        place[live] = np.arange(len(live))
        out = np.zeros((len(live) + 1, 10), np.float64)
        kernel.increments(
            merged.slot,
            boundary - 1 - merged.age,
            merged.code,
            merged.bin,
            merged.count,
            merged.weight,
            place,
            self.settings,
            self.policy.columns.is_failed,
            target_bin,
            self.levels.counts_from,
            out,
        )
        return out[:-1]

    def _weigh_evidence(
        self,
        live: Ints,
        found: Floats,
        totals: WindowTotals,
        seen: Ints,
        boundary: int,
        target_bin: Ints,
    ) -> None:
        """Evidence moves only for keys that merged requests: silence is held."""
        has = found[:, 0] > 0
        if not has.any():
            return
        slots, mine = live[has], found[has]
        rules = self.policy.evidence
        requests = mine[:, 2] * mine[:, 2] / np.maximum(mine[:, 3], 1.0)
        bad = requests * mine[:, 4] / np.maximum(mine[:, 2], 1.0)
        rate = per_second(totals.effective[has], seen[has])
        active = int((totals.requests > 0).sum())
        h = evidence.threshold(rate, active * self.partitions_count)
        increments = Increments(slots, requests, bad, h)
        for rule in evidence.RULES:
            rule(self.evidence, increments, rules)
        on = np.flatnonzero(self.evidence.on_sharp[slots] | self.evidence.on_mild[slots])
        if len(on):
            judged = self._judge(slots[on], target_bin)
            failed = self.policy.columns.is_failed[self.settings[slots[on]]]
            bad_share = weighted_ratio(judged.counts, failed.astype(np.float64))
            evidence.settle(
                self.evidence,
                Increments(slots[on], requests[on], bad[on], h[on]),
                judged.requests,
                bad_share * judged.requests + judged.slow,
                rules,
                boundary,
            )

    def _judge(self, slots: Ints, target_bin: Ints) -> JudgedWindow:
        weights = self.policy.columns.outcome_weights[self.settings[slots]]
        return judged_window(self.windows, slots, weights, target_bin[slots])

    def _score(
        self,
        live: Ints,
        found: Floats,
        qps: Floats,
        totals: WindowTotals,
        target_bin: Ints,
    ) -> JudgedWindow | None:
        """Scores of keys that merged requests. Quantiles are looked up only where they can matter."""
        has = found[:, 0] > 0
        slots = live[has]
        if not len(slots):
            return None
        columns, settings = self.policy.columns, self.settings[slots]
        on_sharp, on_mild = self.evidence.on_sharp[slots], self.evidence.on_mild[slots]
        matters = on_sharp | on_mild | (columns.profile[settings] != _GUARDED)
        index = np.flatnonzero(matters)
        zeros, none = np.zeros(len(slots)), np.full(len(slots), -1, np.int64)
        table = Judged(
            error_ratio=zeros.copy(),
            p95_bin=none.copy(),
            target_bin=target_bin[slots],
            qps=qps[has],
            expected_qps=columns.expected_qps[settings],
            is_on_evidence=on_sharp | on_mild,
            window_error_ratio=zeros.copy(),
            window_requests=zeros.copy(),
            window_p95_us=none.copy(),
        )
        judged = None
        if len(index):
            chosen = slots[index]
            judged = self._judge(chosen, target_bin)
            window = self.windows.window[chosen]
            table.error_ratio[index] = judged.error_ratio
            table.p95_bin[index] = judged.p95_bin
            table.window_error_ratio[index] = weighted_ratio(
                window, columns.outcome_weights[self.settings[chosen]]
            )
            table.window_requests[index] = totals.effective[has][index]
            p95 = self.windows.sketches.quantile_bins(
                chosen, 950, which=kernel.WINDOW, failed_too=True
            )
            table.window_p95_us[index] = np.where(p95 >= 0, BIN_VALUE_NS[p95] // 1000, -1)
        new = score(table, columns.profile[settings], self.policy.profiles)
        self.key_state.score[slots] = np.where(new >= 0, new, self.key_state.score[slots])
        return judged

    def _decide(
        self,
        live: Ints,
        found: Floats,
        qps: Floats,
        totals: WindowTotals,
        judged: JudgedWindow | None,
        boundary: int,
    ) -> LevelChanges:
        p90_ms = np.full(self.keys.capacity, -1, np.int64)
        is_slow = np.zeros(self.keys.capacity, np.bool_)
        if judged is not None:
            p90_ms[judged.slots] = np.where(
                judged.p90_bin >= 0, BIN_VALUE_NS[judged.p90_bin] // 1_000_000, -1
            )
            is_slow[judged.slots] = judged.slow > judged.error_ratio * judged.requests
        scores = self.key_state.score[live]
        mild_only = self.evidence.on_mild[live] & ~self.evidence.on_sharp[live]
        guarded = self.policy.columns.profile[self.settings[live]] == _GUARDED
        wanted = score_level(scores, self.policy.profiles.bands)
        limit = np.where(mild_only & guarded, int(Level.DEGRADED_1), int(Level.LOCKED))
        wanted = np.minimum(wanted, limit)
        wanted = np.where(scores < 0, self.levels.level[live], wanted).astype(np.uint8)
        ages = np.zeros(len(live), np.int64)
        ramping = np.flatnonzero(self.levels.level[live] == int(Level.HALF_OPEN))
        ages[ramping] = services.age_ms(self.services, self.keys.service_slot[live[ramping]])
        changes = level_step.step(
            self.levels,
            live,
            LevelInputs(
                wanted=wanted,
                score=scores,
                requests=found[:, 0].astype(np.int64),
                bad=found[:, 1].astype(np.int64),
                after_requests=found[:, 5].astype(np.int64),
                after_bad=found[:, 6].astype(np.int64),
                after_probes=found[:, 7].astype(np.int64),
                after_probes_bad=found[:, 8].astype(np.int64),
                fast_requests=totals.fast_requests,
                qps=qps,
                idle_boundaries=boundary - self.key_state.seen_boundary[live],
                age_boundaries=ages // BUCKET_MS,
                p90_ms=p90_ms[live],
                target_ms=self.target_ms(live),
                is_slow_caused=is_slow[live],
                jitter=self.keys.hash[live].astype(np.int64),
            ),
            self.policy.columns,
            self.settings[live],
            boundary,
        )
        self.evidence.clear(live[changes.resets_evidence])
        recovered = live[changes.resets_evidence & guarded]
        self.key_state.score[recovered] = 1000  # nothing is on evidence any more
        return changes

    def _learn(self, merged: Merged, live: Ints, found: Floats, boundary: int) -> None:
        """Closed time without evidence teaches what is usual; then the keys whose turn it is decay."""
        is_calm = (self.levels.level[live] == int(Level.CLOSED)) & ~(
            self.evidence.on_sharp[live] | self.evidence.on_mild[live]
        )
        is_learning = np.zeros(self.keys.capacity, np.bool_)
        is_learning[live[is_calm]] = True
        baseline.feed(
            self.baselines,
            merged,
            is_learning,
            self.settings,
            self.policy.columns.is_failed,
            self.policy.baseline.bad_units,
            boundary,
        )
        learns = is_calm & (found[:, 0] > 0)
        evidence.learn(self.evidence, live[learns], found[learns, 0], found[learns, 1])
        due = live[(boundary + self.keys.hash[live].astype(np.int64)) % TICK_BOUNDARIES == 0]
        if len(due):
            baseline.tick(self.baselines, due, self.policy.baseline, boundary)
            evidence.forget(self.evidence, due, self.policy.evidence)
        if boundary % TICK_BOUNDARIES == 0:
            self.services.lags -= self.services.lags >> 1

    def callers_of(self, slots: Ints) -> Ints:
        """Among how many callers probes are shared: one for an edge; for a service the edges to a target
        of its name, at least one (callers of other partitions aren't known here)."""
        by_target = Counter(target for _, target in self.keys.by_key if target)
        names = (self.keys.names[slot] or ("", "") for slot in slots.tolist())
        return np.array([1 if target else max(1, by_target[s]) for s, target in names], np.int64)

    def _drop_idle(self, live: Ints, boundary: int) -> tuple[list[str], npt.NDArray[np.bool_]]:
        """Keys that are closed and were not seen for `key_ttl_s` end."""
        ttl = self.policy.columns.key_ttl_boundaries[self.settings[live]]
        idle = boundary - self.key_state.seen_boundary[live] > ttl
        is_dropped = idle & (self.levels.level[live] == int(Level.CLOSED))
        unborn = self._never_merged(boundary) if boundary % TICK_BOUNDARIES == 0 else _EMPTY
        ends = np.concatenate((live[is_dropped], unborn))
        if not len(ends):
            return [], is_dropped
        scopes = [self.keys.scopes[slot] for slot in live[is_dropped].tolist()]
        self.windows.reset(ends)
        self.exemplars.forget(ends)
        for state in self.key_columns():
            state.reset(ends)
        ended_services = np.unique(self.keys.service_slot[ends])
        # Cells of later buckets may have come for a key that ends here (a job that runs once an hour):
        # it keeps its slot, and begins anew when they are merged.
        waiting = self.pending.slots() | self.exemplars.waiting_slots()
        for slot in ends.tolist():
            if slot not in waiting:
                self.keys.remove(slot)
        in_order = self.keys.in_order()
        seen = in_order[self.key_state.seen_boundary[in_order] >= 0]
        self.services.reset(np.setdiff1d(ended_services, self.keys.service_slot[seen]))
        return scopes, is_dropped

    def _never_merged(self, boundary: int) -> Ints:
        """Slots of keys all of whose cells were too late."""
        slots = self.keys.in_order()
        ttl = self.policy.columns.key_ttl_boundaries[self.settings[slots]]
        never = (self.key_state.seen_boundary[slots] < 0) & (slots != self.other_slot)
        ended: Ints = slots[never & (boundary - self.key_state.made_boundary[slots] > ttl)]
        return ended


_SHED_EFFECTS = (int(Effect.SHED), int(Effect.FALLBACK))
_EMPTY = np.empty(0, np.int64)
_NOTHING = Merged(_EMPTY, _EMPTY, _EMPTY, _EMPTY, _EMPTY, _EMPTY)
_GUARDED = PROFILE_NAMES.index("guarded")
