"""What a boundary should know, from all spans, by loops."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.oracle.spans import FAILED, OracleSpan

__all__ = ["Judged", "Oracle", "counts_of", "judged_of", "quantile_ns"]

WINDOW, FAST, LONG_SUMS = 60, 10, 10
REQUESTS_MIN = 20
DEFAULT_WEIGHTS = (0.0, 0.0, 0.0, 0.5, 1.0, 1.0)
SourceOffset = tuple[str, int, int]


@dataclass(slots=True)
class Oracle:
    """All spans of one partition's keys, by the boundary that merged them."""

    records: dict[SourceOffset, list[OracleSpan]]
    """What was produced, by (topic id, partition, offset)."""
    skew_ms: int = 5_000
    merged: list[tuple[int, OracleSpan]] = field(default_factory=list)
    """(boundary, span)."""
    late: int = 0
    skewed: int = 0
    duplicates: int = 0
    _arrived: set[SourceOffset] = field(default_factory=set)
    _waiting: list[OracleSpan] = field(default_factory=list)

    def arrive(self, where: SourceOffset, *, append_ms: int, keep: set[str] | None = None) -> None:
        """A block came. `keep`: services of this partition, None for all."""
        if where in self._arrived:
            self.duplicates += 1
            return
        self._arrived.add(where)
        for span in self.records[where]:
            if keep is not None and span.key[0] not in keep:
                continue
            if span.bucket > (append_ms + self.skew_ms) // 500:
                self.skewed += 1
            else:
                self._waiting.append(span)

    def step(self, boundary: int) -> None:
        """A boundary merges what came and lies below it, unless it is older than the window."""
        waiting, self._waiting = self._waiting, []
        for span in waiting:
            if span.bucket >= boundary:
                self._waiting.append(span)
            elif span.bucket < boundary - WINDOW:
                self.late += 1
            else:
                self.merged.append((boundary, span))

    def settle(self, boundary: int) -> None:
        """What still waits but could never be merged any more is late."""
        self.late += sum(span.bucket < boundary + 1 - WINDOW for span in self._waiting)

    def by_key(self, boundary: int, first_bucket: int) -> dict[tuple[str, str], list[OracleSpan]]:
        """Merged spans of buckets [first_bucket, boundary)."""
        out: dict[tuple[str, str], list[OracleSpan]] = defaultdict(list)
        for _, span in self.merged:
            if first_bucket <= span.bucket < boundary:
                out[span.key].append(span)
        return out

    def window(self, boundary: int) -> dict[tuple[str, str], list[OracleSpan]]:
        """The 30 s before a boundary."""
        return self.by_key(boundary, boundary - WINDOW)

    def fast(self, boundary: int) -> dict[tuple[str, str], list[OracleSpan]]:
        """The 5 s before it."""
        return self.by_key(boundary, boundary - FAST)

    def long(self, boundary: int) -> dict[tuple[str, str], list[OracleSpan]]:
        """Ten sums of 30 s, the newest still growing."""
        return self.by_key(boundary, ((boundary - 1) // WINDOW - LONG_SUMS + 1) * WINDOW)

    def seen_from(self, boundary: int) -> dict[str, int]:
        """By service the bucket since which it is seen without a gap of a window."""
        first: dict[str, int] = {}
        newest: dict[str, int] = {}
        by_boundary: dict[tuple[int, str], list[int]] = defaultdict(list)
        for merged_at, span in self.merged:
            by_boundary[merged_at, span.key[0]].append(span.bucket)
        for (merged_at, service), buckets in sorted(by_boundary.items()):
            if merged_at > boundary:
                break
            is_new = service not in newest or newest[service] < merged_at - 1 - WINDOW
            first[service] = min(buckets) if is_new else min(first[service], *buckets)
            newest[service] = max(newest.get(service, 0), *buckets)
        return first


def counts_of(spans: Iterable[OracleSpan]) -> list[int]:
    """The count vector: requests by outcome, adjusted counts by outcome, squares, inherited by outcome,
    shed, cut, fallback, probes, bad probes."""
    by_outcome, weights, inherited = [0] * 6, [0] * 6, [0] * 6
    squares = shed = cut = fallback = probes = bad_probes = 0
    for span in spans:
        if span.effect == 0:
            by_outcome[span.outcome] += 1
            weights[span.outcome] += span.weight
            squares += span.weight**2
            inherited[span.outcome] += span.weight * span.is_inherited
        shed += span.weight * (span.effect in (1, 3))
        cut += span.effect == 2
        fallback += span.effect == 3
        probes += span.effect == 4
        bad_probes += span.effect == 4 and span.outcome in FAILED
    return [*by_outcome, *weights, squares, *inherited, shed, cut, fallback, probes, bad_probes]


def quantile_ns(spans: Iterable[OracleSpan], per_mille: int, *, own: bool = False) -> int | None:
    """The smallest duration (or self time) that ceil(q x total) requests don't exceed; None of none.
    Adjusted counts count in quarters."""
    rows = sorted((s.self_ns if own else s.duration_ns, s.weight >> 4) for s in spans)
    wanted = -(-sum(units for _, units in rows) * per_mille // 1000)
    below = 0
    for duration_ns, units in rows:
        below += units
        if below >= wanted:
            return duration_ns
    return None


@dataclass(frozen=True, slots=True)
class Judged:
    """The judged window of a key."""

    which: int
    """0 fast, 1 window, 2 long."""
    spans: list[OracleSpan]
    """Without own effects."""
    effective: float
    error_ratio: float


def judged_of(fast: list[OracleSpan], window: list[OracleSpan], long: list[OracleSpan]) -> Judged:
    """The smallest window with at least 20 requests (effective ones), else the long one."""
    for which, spans in enumerate((fast, window, long)):
        counted = [span for span in spans if span.effect == 0]
        weight = sum(span.weight for span in counted)
        squares = sum(span.weight**2 for span in counted)
        effective = weight**2 / squares if squares else 0.0
        if which == 2 or effective >= REQUESTS_MIN:
            bad = sum(DEFAULT_WEIGHTS[span.outcome] * span.weight for span in counted)
            return Judged(which, counted, effective, bad / weight if weight else 0.0)
    raise AssertionError("unreachable: the long window is always taken")
