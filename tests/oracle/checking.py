"""An evaluator that is held against the oracle after every boundary it steps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tests.exactness.driving import LogRecord
from tests.oracle.recompute import Oracle, counts_of, judged_of, quantile_ns
from tests.oracle.spans import FAILED, OracleSpan
from tidegate.rules import services
from tidegate.rules.evaluator import Evaluator
from tidegate.rules.judge import judged_window, per_second, weighted_ratio, window_totals
from tidegate.rules.outputs import Outputs
from tidegate.rules.policy import Policy
from tidegate.schemas.bins import BIN_VALUE_NS
from tidegate.schemas.partials import decode_partials

__all__ = ["CheckedEvaluator", "check_log"]

_NO_SPANS: list[OracleSpan] = []


@dataclass(slots=True)
class Seen:
    """How much was compared, so that a test can tell that it compared anything."""

    boundaries: int = 0
    counts: int = 0
    quantiles: int = 0


class CheckedEvaluator(Evaluator):
    """Steps, then compares with `oracle`; the long window and quantiles at every `every` boundaries."""

    oracle: Oracle
    seen: Seen
    every: int = 7

    def _step(self, boundary: int, out: Outputs) -> None:
        super()._step(boundary, out)
        self.oracle.step(boundary)
        self.seen.boundaries += 1
        self._check(boundary)

    def _check(self, boundary: int) -> None:
        windows, by_key = self.state.traffic.windows, self.state.traffic.keys.by_key
        keys = sorted(key for key in by_key if key[0] != "(other)")
        slots = np.array([by_key[key] for key in keys], np.int64)
        fast, window = self.oracle.fast(boundary), self.oracle.window(boundary)
        assert set(window) <= set(keys), (boundary, set(window) - set(keys))
        for key, slot in zip(keys, slots.tolist(), strict=True):
            where = (boundary, key)
            expected = counts_of(window.get(key, _NO_SPANS))
            assert windows.window[slot].tolist() == expected, where
            expected = counts_of(fast.get(key, _NO_SPANS))
            assert windows.fast[slot].tolist() == expected, where
            self.seen.counts += 2
        if boundary % self.every or not keys:
            return
        self._check_rates(boundary, keys, slots, window)
        long = self.oracle.long(boundary)
        for key, slot in zip(keys, slots.tolist(), strict=True):
            assert windows.long[slot].tolist() == counts_of(long.get(key, _NO_SPANS)), key
        self._check_judged(boundary, keys, slots, fast, window, long)

    def _check_rates(
        self,
        boundary: int,
        keys: list[tuple[str, str]],
        slots: "np.ndarray[tuple[int], np.dtype[np.int64]]",
        window: dict[tuple[str, str], list[OracleSpan]],
    ) -> None:
        seen = services.seen_buckets(
            self.state.traffic.services, self.state.traffic.keys.service_slot[slots], boundary
        )
        qps = per_second(window_totals(self.state.traffic.windows, slots).offered, seen)
        since = self.oracle.seen_from(boundary)
        for i, key in enumerate(keys):
            offered = sum(s.weight for s in window.get(key, _NO_SPANS) if s.effect in (0, 1, 3))
            buckets = min(60, max(1, boundary - since.get(key[0], boundary)))
            expected = offered / 64 / max(1.0, buckets * 0.5)
            assert qps[i] == expected, (boundary, key, qps[i], expected)

    def _check_judged(
        self,
        boundary: int,
        keys: list[tuple[str, str]],
        slots: "np.ndarray[tuple[int], np.dtype[np.int64]]",
        fast: dict[tuple[str, str], list[OracleSpan]],
        window: dict[tuple[str, str], list[OracleSpan]],
        long: dict[tuple[str, str], list[OracleSpan]],
    ) -> None:
        weights = self.state.policy.columns.outcome_weights[self.state.judgement.settings[slots]]
        target_bin = self.state.judgement.target_bin()[slots]
        judged = judged_window(
            self.state.traffic.windows, slots, weights, target_bin, requests_min=20
        )
        own = weighted_ratio(judged.counts, weights, own=True)
        self_bins = self.state.traffic.windows.sketches.self_quantile_bins(slots, 950)
        for i, key in enumerate(keys):
            where = (boundary, key)
            expected = judged_of(*(w.get(key, _NO_SPANS) for w in (fast, window, long)))
            assert judged.which[i] == expected.which, where
            assert abs(judged.requests[i] - expected.effective) < 1e-9, where
            assert abs(judged.error_ratio[i] - expected.error_ratio) < 1e-12, where
            inherited = [span for span in expected.spans if span.is_inherited]
            lost = sum(weights[i][span.outcome] * span.weight for span in inherited)
            total = sum(span.weight for span in expected.spans)
            assert abs(own[i] - (expected.error_ratio - lost / max(total, 1))) < 1e-12, where
            if key[1] == "":
                mine = [s for s in window.get(key, _NO_SPANS) if s.effect == 0]
                self._close(int(self_bins[i]), quantile_ns(mine, 950, own=True), where)
            if expected.which == 2 and not self._was_always_quiet(key, boundary):
                continue  # the long window keeps durations of quiet keys only
            good = [span for span in expected.spans if span.outcome not in FAILED]
            for bins, spans, per_mille in (
                (judged.p50_bin, good, 500),
                (judged.p90_bin, good, 900),
                (judged.p95_bin, good, 950),
                (judged.p50_all_bin, expected.spans, 500),
                (judged.p95_all_bin, expected.spans, 950),
            ):
                self._close(int(bins[i]), quantile_ns(spans, per_mille), (*where, per_mille))

    def _close(self, bin_: int, exact_ns: int | None, where: object) -> None:
        if exact_ns is None:
            assert bin_ == -1, where
            return
        assert bin_ >= 0, where
        quick_ns = int(BIN_VALUE_NS[bin_])
        # 1 %; everything below 1 µs is one bin, and everything beyond 1 h another.
        exact_ns = min(exact_ns, 3_600_000_000_000)
        assert abs(quick_ns - exact_ns) <= max(0.01 * exact_ns + 1, 1_000), (
            where,
            quick_ns,
            exact_ns,
        )
        self.seen.quantiles += 1

    def _was_always_quiet(self, key: tuple[str, str], boundary: int) -> bool:
        times = [b for b, span in self.oracle.merged if span.key == key and b > boundary - 660]
        return all(sum(t <= other < t + 61 + 60 for other in times) < 20 for t in times)


def check_log(
    log: Sequence[LogRecord],
    oracle: Oracle,
    policy: Policy,
    *,
    partition: int = 0,
    partitions_count: int = 1,
    keep: set[str] | None = None,
    every: int = 7,
) -> tuple[CheckedEvaluator, Outputs]:
    """Feeds a log; blocks are known to the oracle at the moment the evaluator gets them."""
    evaluator = CheckedEvaluator(partition, policy, partitions_count=partitions_count)
    evaluator.oracle, evaluator.seen, evaluator.every = oracle, Seen(), every
    out = Outputs()
    for offset, record in enumerate(log):
        read, blocks = decode_partials(record.value)
        for source, at in zip(blocks.source.tolist(), blocks.offset.tolist(), strict=True):
            name = read.sources[source]
            oracle.arrive(
                (name.topic_id, name.partition, at), append_ms=record.append_ms, keep=keep
            )
        out.add(evaluator.feed(record.value, offset=offset, append_ms=record.append_ms))
    if evaluator.boundary is not None:
        oracle.settle(evaluator.boundary)
    return evaluator, out
