"""Running sums and dense sketches against a recomputation from all cells, at every boundary."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.rules import window_kernel as kernel
from tidegate.rules.pending import Arrived, Pending, merge
from tidegate.rules.window import FAST_BUCKETS, WINDOW_BUCKETS, Windows
from tidegate.schemas.cells import EFFECT_SHIFT, HAS_CALLS, SELF_TIME
from tidegate.schemas.outcome import FAILED_OUTCOMES, Effect, Outcome

SLOTS = 5
START = 1_000_000


@dataclass(frozen=True)
class Cell:
    """One cell, and the boundary before which it arrives."""

    arrives: int
    slot: int
    bucket: int
    code: int
    bin: int
    count: int
    weight: int


@st.composite
def cells(draw: st.DrawFn) -> list[Cell]:
    rows = []
    for _ in range(draw(st.integers(1, 60))):
        bucket = START + draw(st.integers(0, 150))
        arrives = max(
            START, bucket + draw(st.sampled_from([-3, 0, 0, 0, 1, 9, 11, 30, 59, 61, 90]))
        )
        effect = draw(st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4]))
        code = draw(st.sampled_from([int(o) for o in Outcome])) | effect << EFFECT_SHIFT
        if not effect and draw(st.booleans()):
            code |= draw(st.sampled_from([SELF_TIME, HAS_CALLS]))
        rows.append(
            Cell(
                arrives,
                draw(st.integers(0, SLOTS - 1)),
                bucket,
                code,
                draw(st.integers(0, 8)),
                draw(st.sampled_from([1, 1, 1, 4])),
                draw(st.sampled_from([64, 64, 64, 200])),
            )
        )
    return rows


def arrived(rows: list[Cell]) -> Arrived:
    return Arrived(
        np.array([r.slot for r in rows], np.int32),
        np.array([r.bucket for r in rows], np.int64),
        np.array([r.code for r in rows], np.uint16),
        np.array([r.bin for r in rows], np.uint16),
        np.array([r.count for r in rows], np.int32),
        np.array([r.weight for r in rows], np.int32),
        np.zeros(len(rows), np.uint8),
    )


def recomputed(rows: list[Cell], boundary: int, buckets: range) -> npt.NDArray[np.int64]:
    """Count vectors of what had arrived in time, by slot."""
    sums = np.zeros((SLOTS, kernel.COUNTS), np.int64)
    for r in counted(rows, boundary, buckets):
        outcome, effect = r.code & 7, (r.code >> EFFECT_SHIFT) & 7
        if r.code & SELF_TIME:
            continue
        if effect == 0:
            sums[r.slot, outcome] += r.count
            sums[r.slot, 6 + outcome] += r.count * r.weight
            sums[r.slot, 12] += r.count * r.weight**2
        elif effect in (Effect.SHED, Effect.FALLBACK):
            sums[r.slot, kernel.SHED_WEIGHT] += r.count * r.weight
            sums[r.slot, kernel.FALLBACK] += r.count * (effect == Effect.FALLBACK)
        elif effect == Effect.CUT:
            sums[r.slot, kernel.CUT] += r.count
        else:
            sums[r.slot, kernel.PROBES] += r.count
            sums[r.slot, kernel.PROBES_BAD] += r.count * (outcome in FAILED_OUTCOMES)
    return sums


def counted(rows: list[Cell], boundary: int, buckets: range) -> list[Cell]:
    """Cells that some boundary up to this one merged into these buckets."""
    out = []
    for r in rows:
        merged_at = max(r.arrives, r.bucket + 1)
        if merged_at <= boundary and r.bucket in buckets and r.bucket >= merged_at - WINDOW_BUCKETS:
            out.append(r)
    return out


def raw_quantile(bins: list[int], weights: list[int], per_mille: int) -> int:
    """The smallest bin that ceil(q x total) is reached at."""
    total = sum(weights)
    if total == 0:
        return -1
    below = 0
    for b in range(10):
        below += sum(w for x, w in zip(bins, weights, strict=True) if x == b)
        if below >= -(-total * per_mille // 1000):
            return b
    raise AssertionError("unreachable: all bins are below 10")


@settings(max_examples=60, deadline=None)
@given(cells())
def test_running_sums_equal_a_recomputation_at_every_boundary(rows: list[Cell]) -> None:
    windows, pending = Windows(SLOTS), Pending()
    in_order = np.arange(SLOTS)
    windows.advance(START)
    for boundary in range(START + 1, START + 240):
        due = [
            r
            for r in rows
            if r.arrives == boundary or (boundary == START + 1 and r.arrives <= START)
        ]
        if due:
            pending.add(arrived(due), offset=boundary)
        taken, _ = pending.take(boundary)
        windows.advance(boundary)
        if taken is not None:
            windows.merge(merge(taken, boundary, rank=in_order, in_order=in_order), boundary)
        window = range(boundary - WINDOW_BUCKETS, boundary)
        fast = range(boundary - FAST_BUCKETS, boundary)
        first_long = ((boundary - 1) // 60 - 9) * 60
        moved = [r if r.arrives > START else Cell(START + 1, *astuple(r)[1:]) for r in rows]
        assert (windows.window == recomputed(moved, boundary, window)).all()
        assert (windows.fast == recomputed(moved, boundary, fast)).all()
        assert (windows.long == recomputed(moved, boundary, range(first_long, boundary))).all()
        if boundary % 7 == 0:
            check_quantiles(windows, moved, boundary, window, kernel.WINDOW)
            check_quantiles(windows, moved, boundary, fast, kernel.FAST)


def astuple(r: Cell) -> tuple[int, ...]:
    return (r.arrives, r.slot, r.bucket, r.code, r.bin, r.count, r.weight)


def check_quantiles(
    windows: Windows, rows: list[Cell], boundary: int, buckets: range, which: int
) -> None:
    slots = np.arange(SLOTS)
    pool = windows.sketches
    for per_mille in (500, 950):
        quick_ok = pool.quantile_bins(slots, per_mille, which=which, failed_too=False)
        quick_all = pool.quantile_bins(slots, per_mille, which=which, failed_too=True)
        quick_self = pool.self_quantile_bins(slots, per_mille)
        for slot in range(SLOTS):
            mine = [
                r
                for r in counted(rows, boundary, buckets)
                if r.slot == slot and not (r.code >> EFFECT_SHIFT) & 7
            ]
            durations = [r for r in mine if not r.code & SELF_TIME]
            ok = [r for r in durations if (r.code & 7) not in FAILED_OUTCOMES]
            own = [r for r in mine if r.code & SELF_TIME or not r.code & HAS_CALLS]
            for quick, chosen in ((quick_ok, ok), (quick_all, durations)):
                assert quick[slot] == slow(chosen, per_mille)
            if which == kernel.WINDOW and pool.self_row[slot] >= 0:
                assert quick_self[slot] == slow(own, per_mille)


def slow(rows: list[Cell], per_mille: int) -> int:
    units = [r.count * (r.weight >> 4) for r in rows]
    return raw_quantile([r.bin for r in rows], units, per_mille)
