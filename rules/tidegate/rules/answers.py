"""Who answers each (caller, target), from pairs of spans: what is told of it, and when it is forgotten."""

from collections import Counter
from dataclasses import dataclass, field

from tidegate.schemas.facts import Fact

__all__ = ["ANSWERS_MAX", "CALLEES_MAX", "CALLEE_TTL_MS", "Answers"]

ANSWERS_MAX = 100_000
"""(caller, target) that are remembered; the one answered longest ago leaves first."""
CALLEES_MAX = 8
"""Of one target; the one that answered longest ago leaves first. One callee or several: that is what
counts."""
CALLEE_TTL_MS = 600_000

Key = tuple[str, str]


@dataclass(slots=True)
class _Answer:
    heard_ms: int
    callees: dict[str, int] = field(default_factory=dict)
    """When each answered last, in ms of event time."""
    pairs: int = 0
    """Since it was last told, as the next two."""
    outlived: int = 0
    outlived_ms: int = 0


class Answers:
    """Every (caller, target) that was answered lately. A function of what it is told, in order."""

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._by_key: dict[Key, _Answer] = {}
        """The one that was heard longest ago first."""
        self._untold: set[Key] = set()
        self._news: set[Key] = set()

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def has_untold(self) -> bool:
        """Whether `tell` would tell anything."""
        return bool(self._untold)

    def note(
        self, key: Key, callee: str, *, seen_ms: int, outlived_ms: int = 0, now_ms: int
    ) -> None:
        """A pair. now_ms: the log's time. News is who answers, first, and that others do too."""
        answer = self._by_key.pop(key, None) or _Answer(now_ms)
        self._by_key[key] = answer
        answer.heard_ms = now_ms
        is_news = callee not in answer.callees and len(answer.callees) < 2
        answer.callees[callee] = max(seen_ms, answer.callees.get(callee, 0))
        if len(answer.callees) > CALLEES_MAX:
            self._counters["callees_left_out"] += 1
            del answer.callees[min(answer.callees, key=lambda name: (answer.callees[name], name))]
        answer.pairs += 1
        answer.outlived += outlived_ms > 0
        answer.outlived_ms += outlived_ms
        self._untold.add(key)
        if is_news:
            self._news.add(key)
        if len(self._by_key) > ANSWERS_MAX:
            self._counters["answers_left_out"] += 1
            self._forget(next(iter(self._by_key)))

    def forget_old(self, now_ms: int) -> None:
        """Drops what nobody answered for CALLEE_TTL_MS of the log's time."""
        while self._by_key:
            key, answer = next(iter(self._by_key.items()))
            if answer.heard_ms + CALLEE_TTL_MS > now_ms:
                return
            self._forget(key)

    def tell(self, *, only_news: bool = False) -> list[Fact]:
        """Facts, sorted, of all that were answered since they were last told, or of news among them."""
        keys = sorted(self._news if only_news else self._untold)
        facts = [self._fact(key, self._by_key[key]) for key in keys]
        self._untold.difference_update(keys)
        self._news = set()
        return facts

    def _fact(self, key: Key, answer: _Answer) -> Fact:
        newest_ms = max(answer.callees.values())
        answer.callees = {
            name: seen_ms
            for name, seen_ms in answer.callees.items()
            if seen_ms > newest_ms - CALLEE_TTL_MS
        }
        fact = Fact(
            *key,
            sorted(answer.callees),
            newest_ms,
            answer.pairs,
            answer.outlived,
            answer.outlived_ms,
        )
        answer.pairs = answer.outlived = answer.outlived_ms = 0
        return fact

    def _forget(self, key: Key) -> None:
        del self._by_key[key]
        self._untold.discard(key)
        self._news.discard(key)
