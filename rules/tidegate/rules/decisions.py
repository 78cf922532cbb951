"""Decisions of the keys that are due: a level in numbers, and everything that explains it."""

from functools import cached_property

import numpy as np
import numpy.typing as npt

from tidegate.rules import services
from tidegate.rules import window_kernel as kernel
from tidegate.rules.actions import actions_of, backoff_of, with_incidents, with_override
from tidegate.rules.findings import findings_of
from tidegate.rules.judge import WINDOW_SECONDS, JudgedWindow, judged_window, weighted_ratio
from tidegate.rules.judgement import Judgement
from tidegate.rules.level import RULES
from tidegate.rules.partition import Partition, Stepped
from tidegate.rules.reason import Moved, reason_of
from tidegate.rules.ruling import Ruling
from tidegate.schemas.bins import BIN_VALUE_NS
from tidegate.schemas.cells import BUCKET_MS, WEIGHT_ONE
from tidegate.schemas.control import OverrideSet
from tidegate.schemas.decision import Decision, Override, Signals
from tidegate.schemas.level import LEVEL_NAMES, Level

__all__ = ["Asking", "decisions_of"]

Ints = npt.NDArray[np.int64]


class Asking:
    """A boundary for which decisions are wanted."""

    def __init__(self, state: Partition, stepped: Stepped, boundary: int, partition: int) -> None:
        self.state, self.stepped = state, stepped
        self.boundary, self.partition = boundary, partition

    @cached_property
    def is_overridden(self) -> npt.NDArray[np.bool_]:
        """Which live keys an operator's override is in force for."""
        slots = list(self.state.overridden())
        return np.isin(self.stepped.slots, np.array(slots, np.int64))

    def override_of(self, slot: int) -> OverrideSet | None:
        """The one in force for a key."""
        return self.state.overridden().get(slot)


def decisions_of(
    asking: Asking, judgement: Judgement, ruling: Ruling, rows: Ints, *, is_shadow: bool = False
) -> list[Decision]:
    """Of these rows among the live keys, in their order. In the shadow no override counts."""
    if not len(rows):
        return []
    state, stepped, boundary = asking.state, asking.stepped, asking.boundary
    traffic, slots = state.traffic, stepped.slots[rows]
    weights = judgement.policy.columns.outcome_weights[judgement.settings[slots]]
    judged = judged_window(
        traffic.windows,
        slots,
        weights,
        judgement.target_bin(slots),
        requests_min=judgement.policy.evidence.judged_requests_min,
    )
    shown = _Shown(
        asking,
        judgement,
        ruling,
        judged,
        own_ratio=weighted_ratio(judged.counts, weights, own=True),
        self_bins=traffic.windows.sketches.self_quantile_bins(slots, 950).astype(np.int64),
        target_ms=judgement.target_ms(slots),
        ages=services.age_ms(traffic.services, traffic.keys.service_slot[slots]),
        callers=state.callers_of(slots),
    )
    overrides = [None if is_shadow else asking.override_of(slot) for slot in slots.tolist()]
    return [
        shown.decision(i, row, slot, overrides[i], boundary)
        for i, (row, slot) in enumerate(zip(rows.tolist(), slots.tolist(), strict=True))
    ]


class _Shown:
    """What was looked up for all of them at once."""

    def __init__(
        self,
        asking: Asking,
        judgement: Judgement,
        ruling: Ruling,
        judged: JudgedWindow,
        *,
        own_ratio: npt.NDArray[np.float64],
        self_bins: Ints,
        target_ms: Ints,
        ages: Ints,
        callers: Ints,
    ) -> None:
        self.asking, self.judgement, self.ruling, self.judged = asking, judgement, ruling, judged
        self.own_ratio, self.self_bins, self.target_ms = own_ratio, self_bins, target_ms
        self.ages, self.callers = ages, callers

    def decision(
        self, i: int, row: int, slot: int, override: OverrideSet | None, boundary: int
    ) -> Decision:
        judgement, changes = self.judgement, self.ruling.changes
        traffic = self.asking.state.traffic
        levels, standing = judgement.levels, judgement.standing
        level = Level(int(levels.level[slot]))
        settings = judgement.policy.settings[int(judgement.settings[slot])]
        score, rule = int(standing.score[slot]), int(changes.rule[row])
        signals = self._signals(i, slot, qps=float(self.ruling.numbers.qps[row]))
        until = int(levels.until_boundary[slot])
        limit, ejected = judgement.limit_of(slot)
        found = findings_of(
            judgement.findings,
            slot,
            p95_us=int(judgement.baselines.p95_us[slot]),
            day_factor=judgement.policy.baseline.drift_factor,
        )
        alarmed = judgement.alarms.shown(
            traffic, judgement.policy, self.asking.stepped.slots, judgement.settings, row
        )
        incidents = alarmed.incidents
        actions = actions_of(
            level,
            settings=settings,
            ramp_step=int(levels.ramp_step[slot]),
            slow_over_ms=int(levels.slow_over_ms[slot]),
            is_slow_caused=bool(levels.is_slow_caused[slot]),
            callers=int(self.callers[i]),
            remaining_boundaries=until - boundary,
            jitter=int(traffic.keys.hash[slot]),
        )
        actions = with_incidents(
            actions,
            incidents,
            settings,
            callers=int(self.callers[i]),
            eject=ejected,
            terminate=alarmed.terminate,
        )
        shown_level, mode, told = level, settings.mode, None
        if override is not None:
            shown_level, mode = Level(LEVEL_NAMES.index(override.level)), "enforce"
            told = Override(
                scope=override.scope,
                level=override.level,
                by=override.by,
                reason=override.reason,
                until_ms=override.until_ms,
            )
            actions = with_override(shown_level, settings, int(self.callers[i]))
        return Decision(
            scope=traffic.keys.scopes[slot],
            level=LEVEL_NAMES[shown_level],  # type: ignore[arg-type]  # a name of the same closed set
            score=score / 1000 if score >= 0 else None,
            mode=mode,
            actions=actions,
            protocol=settings.protocol,
            incidents=incidents,
            findings=[*found, *alarmed.findings, *self.asking.state.findings_of(slot)],
            root_causes=self.asking.state.root_causes(slot),
            reason=reason_of(
                score=score,
                signals=signals,
                moved=Moved(RULES[rule], LEVEL_NAMES[int(changes.before[row])], LEVEL_NAMES[level])
                if rule
                else None,
                limit=limit,
                is_held=self.ruling.is_panic,
                incidents=incidents,
                override=told,
                level=LEVEL_NAMES[level],
            ),
            signals=signals,
            exemplars=self.asking.state.traces_of(slot, boundary),
            window_start_ms=round(boundary * BUCKET_MS - signals.window_s * 1000),
            window_end_ms=boundary * BUCKET_MS,
            since_ms=int(levels.since_boundary[slot]) * BUCKET_MS,
            boundary=boundary,
            partition=self.asking.partition,
            policy=judgement.policy.label,
            targets=self.asking.state.targets_of(slot),
            override=told,
            shed_24h=judgement.shed.shown(slot),
            backoff=backoff_of(level, int(levels.attempt[slot]), until),
            evidence_age_ms=int(self.ages[i]),
        )

    def _signals(self, i: int, slot: int, *, qps: float) -> Signals:
        judged, evidence = self.judged, self.judgement.evidence
        traffic = self.asking.state.traffic
        on_sharp, on_mild = bool(evidence.on_sharp[slot]), bool(evidence.on_mild[slot])
        since, target_ms = int(evidence.since_boundary[slot]), int(self.target_ms[i])
        is_edge = bool(traffic.keys.is_edge[slot])
        return Signals(
            requests=int(judged.counts[i, : kernel.OUTCOMES].sum()),
            window_s=WINDOW_SECONDS[int(judged.which[i])],
            error_ratio=_thousandths(float(judged.error_ratio[i])),
            own_error_ratio=_thousandths(float(self.own_ratio[i])),
            p50_ms=_ms(int(judged.p50_all_bin[i])),
            p95_ms=_ms(int(judged.p95_all_bin[i])),
            self_p95_ms=None if is_edge else _ms(int(self.self_bins[i])),
            target_ms=float(target_ms) if target_ms >= 0 else None,
            qps=_thousandths(qps),
            shed=int(traffic.windows.window[slot, kernel.SHED_WEIGHT]) // WEIGHT_ONE,
            evidence="sharp" if on_sharp else "mild" if on_mild else "none",
            evidence_since_ms=since * BUCKET_MS if since >= 0 else None,
        )


def _ms(duration_bin: int) -> float | None:
    return round(int(BIN_VALUE_NS[duration_bin]) / 1e6, 3) if duration_bin >= 0 else None


def _thousandths(value: float) -> float:
    return int(value * 1000.0 + 0.5) / 1000.0
