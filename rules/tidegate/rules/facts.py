"""Who answers a caller's target, as far as pairing has told: what is known, and when it ends.

A target with one callee is called by the callee's name; with several (a mesh, a gateway) or none by its own. What
is heard takes effect at the next boundary, in an order that doesn't depend on the order of arrival. Pairing has
partitions too, and none of them sees all traces: so callees of several facts are taken together.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.facts import Fact, Loop
from tidegate.schemas.scope import ALL_CALLERS, OTHER, WHOLE_GRAPH

__all__ = [
    "CALLS_MIN",
    "FACT_TTL_MS",
    "WAITING_MAX",
    "Facts",
    "Key",
    "Known",
]

Key = tuple[str, str]
"""(caller, target)."""
FACT_TTL_MS = 600_000
"""A fact unseen for so long may end."""
CALLS_MIN = 160
"""Calls after which it would have been seen again: one trace in 32 is looked at, so that none of 160 is has a
probability of 0.6 %."""
CALLEES_MAX = 16
"""Kept of one target: two already make a mesh of it."""
WAITING_MAX = 50_000
"""Facts, and loops, between two boundaries; more are dropped and counted."""
_RESERVED = ("", ALL_CALLERS, OTHER, WHOLE_GRAPH)


class Known(msgspec.Struct, array_like=True):
    """What is known of a target."""

    callees: dict[str, int]
    """Callee -> event time (ms) of the newest fact that named it."""
    seen_ms: int
    """Of the newest fact."""

    @property
    def callee(self) -> str | None:
        """Who answers; None where several do."""
        return next(iter(self.callees)) if len(self.callees) == 1 else None


class Facts:
    """Of one evaluate partition. `offer` what a record of the log holds, `hear` at every boundary."""

    def __init__(self) -> None:
        self.known: dict[Key, Known] = {}
        self._facts: list[Fact] = []
        self._loops: list[Loop] = []
        self._dropped_count = 0

    def offer(self, facts: Sequence[Fact], loops: Sequence[Loop]) -> None:
        """Keeps them until the next boundary."""
        for waiting, more in ((self._facts, facts), (self._loops, loops)):
            room = WAITING_MAX - len(waiting)
            self._dropped_count += max(0, len(more) - room)
            waiting.extend(more[:room])  # type: ignore[arg-type]  # pairs of the same type

    def hear(
        self, boundary: int, *, facts_max: int, counters: Counter[str]
    ) -> tuple[list[Fact], list[Loop], set[Key]]:
        """What was offered since the boundary before, known from now on, sorted; and the targets that have
        another callee than before."""
        if not (self._facts or self._loops or self._dropped_count):
            return [], [], set()
        facts = sorted(self._facts, key=msgspec.structs.astuple)
        loops = sorted(self._loops, key=msgspec.structs.astuple)
        self._facts, self._loops = [], []
        counters["overflow_facts"] += self._dropped_count
        self._dropped_count = 0
        before = {key: self.callee(key) for key in {(f.caller, f.target) for f in facts}}
        for fact in facts:
            counters["facts"] += 1
            self._take(fact, boundary * BUCKET_MS, facts_max, counters)
        changed = {key for key, callee in before.items() if self.callee(key) != callee}
        return facts, loops, changed

    def callee(self, key: Key) -> str | None:
        """Who alone answers a target; None where that is not known."""
        known = self.known.get(key)
        return None if known is None else known.callee

    def expire(self, boundary: int, may_end: Callable[[Key, Known], bool]) -> list[Key]:
        """Ends facts unseen for FACT_TTL_MS, where they name somebody only those that `may_end`. Sorted."""
        oldest_ms = boundary * BUCKET_MS - FACT_TTL_MS
        ended = sorted(
            key
            for key, known in self.known.items()
            if known.seen_ms <= oldest_ms and (known.callee is None or may_end(key, known))
        )
        for key in ended:
            del self.known[key]
        return ended

    def save(self) -> list[Any]:
        """Plain values in the order of keys. Nothing waits where a boundary has just been stepped."""
        return [
            [*key, sorted(known.callees.items()), known.seen_ms]
            for key, known in sorted(self.known.items())
        ]

    def load(self, saved: list[Any]) -> None:
        """Fills an empty one."""
        for caller, target, callees, seen_ms in saved:
            self.known[caller, target] = Known(dict(callees), seen_ms)

    def _take(self, fact: Fact, now_ms: int, facts_max: int, counters: Counter[str]) -> None:
        key = (fact.caller, fact.target)
        if fact.caller in _RESERVED or fact.target in _RESERVED:
            counters["refused_facts"] += 1
            return
        seen_ms = min(fact.seen_ms, now_ms)  # a wrong clock must not keep it for ever
        callees = [name for name in fact.callees if name not in _RESERVED]
        known = self.known.get(key)
        if known is None:
            if not callees:
                return
            if len(self.known) >= facts_max:
                counters["overflow_facts"] += 1
                return
            known = self.known[key] = Known({}, seen_ms)
        if not callees:
            if seen_ms >= known.seen_ms:
                del self.known[key]
            return
        for name in callees:
            known.callees[name] = max(seen_ms, known.callees.get(name, seen_ms))
        known.seen_ms = max(known.seen_ms, seen_ms)
        # By the target's own newest fact, not by the time that it is: silence ends nobody.
        oldest_ms = known.seen_ms - FACT_TTL_MS
        lately = [(-ms, name) for name, ms in known.callees.items() if ms > oldest_ms]
        known.callees = {name: -ms for ms, name in sorted(lately)[:CALLEES_MAX]}
