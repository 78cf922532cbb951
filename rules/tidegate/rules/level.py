"""The graded protocol: what may follow what, as a table. `level_step.py` walks it for many keys at once.

Theory of operation. A key is judged by its score. Worse comes after confirmation, several levels at once;
better comes one level at a time, after a better score has stood. `open` and `forced_open` turn everything
away, so the score says nothing any more: they sleep, then `half_open` lets probes through and is judged on
requests in buckets that begin at or after the change (older failures are exported seconds later). Good
probes lead up a ramp, still `half_open`, to `closed`; bad ones back to `open` with the sleep doubled.
"""

from typing import NamedTuple

from tidegate.schemas.level import LEVEL_NAMES, Level

__all__ = ["RULES", "TRANSITIONS", "Transition", "diagram"]


class Transition(NamedTuple):
    """From `state`, when `guard` holds, to `to`. `text` is what a decision's reason says."""

    state: Level
    guard: str
    to: Level
    text: str


_JUDGED = (Level.CLOSED, Level.DEGRADED_1, Level.DEGRADED_2)
_WORSE_TO = (Level.DEGRADED_1, Level.DEGRADED_2, Level.OPEN, Level.FORCED_OPEN)

TRANSITIONS: tuple[Transition, ...] = (
    *(
        Transition(state, "worse_confirmed", to, "worse score confirmed")
        for state in _JUDGED
        for to in _WORSE_TO
        if to > state
    ),
    Transition(Level.OPEN, "worse_confirmed", Level.FORCED_OPEN, "worse score confirmed"),
    Transition(Level.DEGRADED_1, "better_stood", Level.CLOSED, "better score stood"),
    Transition(Level.DEGRADED_2, "better_stood", Level.DEGRADED_1, "better score stood"),
    Transition(Level.DEGRADED_1, "idle_minute", Level.CLOSED, "no request for a minute"),
    Transition(Level.DEGRADED_2, "idle_minute", Level.DEGRADED_1, "no request for a minute"),
    Transition(Level.OPEN, "slept", Level.HALF_OPEN, "slept long enough, probes may pass"),
    Transition(Level.FORCED_OPEN, "slept", Level.HALF_OPEN, "slept long enough, probes may pass"),
    Transition(Level.HALF_OPEN, "probes_good", Level.HALF_OPEN, "probes good, the ramp begins"),
    Transition(Level.HALF_OPEN, "ramp_held", Level.HALF_OPEN, "next step of the ramp"),
    Transition(Level.HALF_OPEN, "ramp_done", Level.CLOSED, "recovered"),
    Transition(Level.HALF_OPEN, "probes_bad", Level.OPEN, "probes bad, sleep doubled"),
    Transition(
        Level.HALF_OPEN, "undecided", Level.DEGRADED_2, "probes neither good nor bad for long"
    ),
    *(
        Transition(state, "idle_out", Level.CLOSED, "unseen for long")
        for state in (*_JUDGED[1:], Level.HALF_OPEN, Level.OPEN, Level.FORCED_OPEN)
    ),
)
"""Everything that can happen under this protocol. What isn't here can't: the step looks its result up."""

RULES: tuple[str, ...] = ("held", *dict.fromkeys(t.guard for t in TRANSITIONS))
"""Guards by number, 0 = nothing happened."""

TEXTS: dict[str, str] = {t.guard: t.text for t in TRANSITIONS}


def diagram() -> str:
    """The table as a Mermaid state diagram, for the docs."""
    lines = ["stateDiagram-v2", "    [*] --> closed"]
    lines += [
        f"    {LEVEL_NAMES[t.state]} --> {LEVEL_NAMES[t.to]}: {t.guard.replace('_', ' ')}"
        for t in TRANSITIONS
    ]
    return "\n".join(lines) + "\n"
