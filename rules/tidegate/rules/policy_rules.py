"""Which rule under `services` a key falls under, and which rules no key can reach.

A set of rules is a whole number with one bit per rule, so that "first rule whose service and target
match" is two look-ups, an AND and the lowest bit: a restart asks for 60,000 keys under 1,000 rules.
"""

import re
from collections.abc import Callable, Sequence
from fnmatch import translate

from tidegate.rules.policy_types import Match

__all__ = ["RuleMatcher"]

_KNOWN_MAX = 200_000
"""Names whose rules are remembered; then all are forgotten, since names can be made up without end."""
_WILD = re.compile(r"[*?\[]")


class RuleMatcher:
    """The rules of a policy, in their order. Patterns are those of `fnmatch`, case counts."""

    def __init__(self, matches: Sequence[Match]) -> None:
        self._matches = matches
        self._services = _Patterns([match.service for match in matches])
        self._targets = _Patterns([match.target for match in matches])
        self._untargeted = sum(1 << i for i, match in enumerate(matches) if match.target is None)

    def first(self, service: str, target: str) -> int:
        """Number, from 1, of the first rule for this key; 0 where none is. Target `""`: the service's
        own requests, which rules with a target are not for."""
        targets = self._untargeted
        if target:
            targets |= self._targets.matching(target)
        return _lowest(self._services.matching(service) & targets)

    def unreached(self) -> list[tuple[int, int]]:
        """(rule, earlier rule), both from 0: the earlier one certainly matches all that the rule does."""
        out = []
        for number, match in enumerate(self._matches):
            targets = self._untargeted
            if match.target is not None:
                targets |= self._targets.covering(match.target)
            earlier = (1 << number) - 1
            first = _lowest(self._services.covering(match.service) & targets & earlier)
            if first:
                out.append((number, first - 1))
        return out


class _Patterns:
    """Patterns by what they begin with, so that a name is tried against few of them."""

    def __init__(self, patterns: Sequence[str | None]) -> None:
        self._equal: dict[str, int] = {}
        """Bits of the rules with exactly this text as their pattern."""
        self._begins: dict[str, int] = {}
        """Of those that are a beginning and `*`."""
        self._ends: dict[str, int] = {}
        """Of those that are `*` and an ending."""
        self._exact: dict[str, int] = {}
        """Of those that are a name."""
        self._wild: dict[str, list[tuple[int, Callable[[str], object]]]] = {}
        """All others, by the text before their first wildcard."""
        for number, pattern in enumerate(patterns):
            if pattern is not None:
                self._add(pattern, 1 << number)
        self._lengths = sorted({len(start) for start in (*self._begins, *self._wild)})
        self._end_lengths = sorted({len(end) for end in self._ends})
        self._known: dict[str, int] = {}

    def _add(self, pattern: str, bit: int) -> None:
        start = _literal(pattern)
        self._equal[pattern] = self._equal.get(pattern, 0) | bit
        if start == pattern:
            self._exact[pattern] = self._exact.get(pattern, 0) | bit
        elif start + "*" == pattern:
            self._begins[start] = self._begins.get(start, 0) | bit
        elif pattern.startswith("*") and _literal(pattern[1:]) == pattern[1:]:
            self._ends[pattern[1:]] = self._ends.get(pattern[1:], 0) | bit
        else:
            self._wild.setdefault(start, []).append((bit, re.compile(translate(pattern)).match))

    def matching(self, name: str) -> int:
        """Bits of the rules whose pattern matches the name."""
        bits = self._known.get(name)
        if bits is None:
            bits = self._exact.get(name, 0)
            for length in self._lengths:
                if length > len(name):
                    break
                start = name[:length]
                bits |= self._begins.get(start, 0)
                bits |= sum(bit for bit, match in self._wild.get(start, ()) if match(name))
            for length in self._end_lengths:
                if length > len(name):
                    break
                bits |= self._ends.get(name[len(name) - length :], 0)
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[name] = bits
        return bits

    def covering(self, pattern: str) -> int:
        """Bits of the rules whose pattern certainly matches every name that `pattern` does."""
        start = _literal(pattern)
        if start == pattern:
            return self.matching(pattern)
        bits = self._equal.get(pattern, 0)
        for length in self._lengths:
            if length > len(start):
                break
            bits |= self._begins.get(start[:length], 0)
        return bits


def _literal(pattern: str) -> str:
    """The text before the first wildcard."""
    wild = _WILD.search(pattern)
    return pattern if wild is None else pattern[: wild.start()]


def _lowest(bits: int) -> int:
    """Number, from 1, of the lowest bit; 0 for none."""
    return (bits & -bits).bit_length()
