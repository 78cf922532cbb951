"""Coming back, and staying there: what went wrong, scope by scope."""

import itertools
from collections.abc import Sequence

from tests.closed_loop.loop import Loop

__all__ = ["CALM_S", "closed_share", "problems_of_recovery"]

CALM_S = 300.0
"""Whoever is closed again stays so for five minutes."""


def problems_of_recovery(
    loop: Loop, scopes: Sequence[str], *, within_s: float, may_relapse: bool = False
) -> list[str]:
    """Runs the loop until every scope has been closed for five minutes, or had its time: what isn't as
    it should be, in words. Empty: all came back in time and stayed.

    may_relapse: what counts is when a scope was closed for good.
    """
    began_s = loop.now_ms / 1000.0
    loop.run(1.0)  # by then callers know where it starts
    known_s = loop.now_ms / 1000.0

    def is_done(loop: Loop) -> bool:
        return all(loop.level(s) == "closed" and loop.since_s(s) > CALM_S for s in scopes)

    loop.run(within_s + CALM_S, until=is_done)
    problems = []
    for scope in scopes:
        known = [(s, level) for s, level in loop.levels[scope] if s <= known_s][-1:]
        known += [(s, level) for s, level in loop.levels[scope] if s > known_s]
        closed = [s for s, level in known if level == "closed"]
        closed_s = (closed[-1] if may_relapse else closed[0]) if closed else float("inf")
        again = [s for s, level in known if level != "closed" and closed_s < s <= closed_s + CALM_S]
        way = ", ".join(f"{level} at {s - began_s:.1f} s" for s, level in known)
        if closed_s - began_s > within_s:
            problems.append(f"{scope}: not closed within {within_s:.0f} s: {way}")
        elif again:
            problems.append(f"{scope}: didn't stay closed: {way}")
    return problems


def closed_share(loop: Loop, scope: str, *, from_s: float) -> float:
    """Part of the time since then in which the scope was closed."""
    now_s = loop.now_ms / 1000.0
    known = [*loop.levels[scope], (now_s, "")]
    spans = itertools.pairwise(known)
    closed_s = sum(
        max(0.0, end - max(start, from_s))
        for (start, level), (end, _) in spans
        if level == "closed"
    )
    return closed_s / (now_s - from_s)
