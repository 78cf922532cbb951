"""The same properties for many seeds: `python -m tests.closed_loop.run N FIRST` runs seeds FIRST .. FIRST + N - 1
and prints every run that isn't as it should be. About three minutes a seed on one core.
"""

import sys
import time
from collections.abc import Callable, Iterator

from tests.closed_loop.cases import (
    KEYS_MAX,
    SURE_SHAPES,
    after_faults,
    after_starts,
    after_starts_of_pairs,
    policy_named,
)
from tests.closed_loop.loop import Loop
from tests.closed_loop.starts import GRADED_STARTS, LATCHED_STARTS, Start
from tests.closed_loop.test_healthy import MINUTES, always_healthy
from tests.closed_loop.test_own_effects import cut_while_degraded
from tests.closed_loop.test_recovery import STEADY

Found = tuple[Loop, list[str]]


def _starts(pack: str, starts: list[Start], per_s: float) -> Callable[[int], Found]:
    shapes = STEADY if pack == "adaptive" else SURE_SHAPES
    return lambda seed: after_starts(
        policy_named(pack), starts, per_s=per_s, shapes=shapes, seed=seed
    )


def _pairs(seed: int) -> Found:
    """Other pairs for each seed: every 36 seeds all of them."""
    count = len(GRADED_STARTS)
    starts = [
        (GRADED_STARTS[(7 * n + seed) % count], GRADED_STARTS[(11 * n + 5 * seed) % count])
        for n in range(KEYS_MAX // 3)
    ]
    return after_starts_of_pairs(policy_named("default"), starts, per_s=3.0, seed=seed)


def _faults(pack: str, seed: int) -> Found:
    shapes = STEADY if pack == "adaptive" else SURE_SHAPES
    loop, problems, _ = after_faults(policy_named(pack), shapes=shapes, seed=seed)
    return loop, problems


def _healthy(seed: int) -> Found:
    loop = Loop(policy_named("default"), always_healthy(seed), seed=seed)
    loop.run(60 * MINUTES)
    worse = (f"{scope}: {known[1:]}" for scope, known in loop.levels.items() if len(known) > 1)
    return loop, list(worse)


def _runs() -> Iterator[tuple[str, Callable[[int], Found]]]:
    halves = [list(GRADED_STARTS[:KEYS_MAX]), list(GRADED_STARTS[KEYS_MAX:])]
    for pack, starts in (
        ("default", halves),
        ("adaptive", halves),
        ("latched", [[*LATCHED_STARTS]]),
    ):
        for per_s in (0.2, 3.0, 15.0):
            for number, some in enumerate(starts):
                yield f"{pack}, {per_s:g}/s, starts {number}", _starts(pack, some, per_s)
    yield "pairs", _pairs
    yield "faults, default", lambda seed: _faults("default", seed)
    yield "faults, adaptive", lambda seed: _faults("adaptive", seed)
    yield "always healthy", _healthy
    yield "cut while degraded", lambda seed: cut_while_degraded(marks_cut=True, seed=seed)


def main(seeds_count: int, first: int) -> int:
    """Exit status 1 where anything was found."""
    found = 0
    keys = hours = 0.0
    began_s = time.process_time()
    for seed in range(first, first + seeds_count):
        for name, run in _runs():
            loop, problems = run(seed)
            keys += len(loop.levels)
            hours += len(loop.levels) * loop.now_ms / 3_600_000.0
            found += len(problems)
            for problem in problems:
                print(f"seed {seed}, {name}: {problem}", flush=True)
    print(
        f"{seeds_count} seeds, {keys:.0f} keys, {hours:.0f} virtual hours of a key, "
        f"{time.process_time() - began_s:.0f} s of CPU: {found} problems"
    )
    return 1 if found else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("give N and FIRST, say: python -m tests.closed_loop.run 3 1")
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
