"""The level protocols: what may follow what, as tables. `graded_step.py` and `latched_step.py` walk them.

Theory of operation, `graded`. A key is judged by its score. Worse comes after confirmation, several levels
at once; better comes one level at a time, after a better score has stood. `open` and `forced_open` turn
everything away, so the score says nothing any more: they sleep, then `half_open` lets probes through and is
judged on requests in buckets that begin at or after the change (older failures are exported seconds later).
Good probes lead up a ramp, still `half_open`, to `closed`; bad ones back to `open` with the sleep doubled.

`latched` is judged by failures. They lead to `half_open`, whose first answers decide: back to `closed`, or
`open` for a backoff, then `cooling` until a health check is good. `locked` is an operator's alone.
"""

from enum import IntEnum
from typing import NamedTuple

from tidegate.schemas.level import LEVEL_NAMES, Level

__all__ = [
    "GRADED",
    "LATCHED",
    "PROTOCOLS",
    "RULES",
    "RULE_NUMBERS",
    "SWITCHES",
    "TEXTS",
    "OperatorEvent",
    "Transition",
    "diagram",
]


class OperatorEvent(IntEnum):
    """What an operator asked of a key at one boundary."""

    NONE = 0
    LOCK = 1
    RESET = 2


class Transition(NamedTuple):
    """From `state`, when `guard` holds, to `to`. `text` is what a decision's reason says."""

    state: Level
    guard: str
    to: Level
    text: str


_JUDGED = (Level.CLOSED, Level.DEGRADED_1, Level.DEGRADED_2)
_WORSE_TO = (Level.DEGRADED_1, Level.DEGRADED_2, Level.OPEN, Level.FORCED_OPEN)
_LOCKED_BY = (Level.LOCKED, "locked by an operator")
_SWITCHED = "the policy changed the protocol"

GRADED: tuple[Transition, ...] = (
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
    *(
        Transition(state, "chronic", Level.DEGRADED_1, "it was never well: that is how it is")
        for state in (Level.DEGRADED_2, Level.HALF_OPEN, Level.OPEN, Level.FORCED_OPEN)
    ),
    Transition(
        Level.HALF_OPEN, "undecided", Level.DEGRADED_2, "probes neither good nor bad for long"
    ),
    *(
        Transition(state, "idle_out", Level.CLOSED, "unseen for long")
        for state in (*_JUDGED[1:], Level.HALF_OPEN, Level.OPEN, Level.FORCED_OPEN)
    ),
)
"""Everything that can happen under this protocol. What isn't here can't: the step looks its result up."""

LATCHED: tuple[Transition, ...] = (
    Transition(Level.CLOSED, "failures_in_row", Level.HALF_OPEN, "nothing but failures in a row"),
    Transition(Level.CLOSED, "error_ratio_high", Level.HALF_OPEN, "error ratio too high"),
    Transition(Level.HALF_OPEN, "answer_good", Level.CLOSED, "the answer was good"),
    Transition(Level.HALF_OPEN, "answer_bad", Level.OPEN, "the answer was bad, backs off"),
    Transition(Level.OPEN, "backoff_over", Level.COOLING, "backed off, the health check begins"),
    Transition(Level.COOLING, "health_check_good", Level.CLOSED, "health check good"),
    *(
        Transition(state, "operator_lock", *_LOCKED_BY)
        for state in (Level.CLOSED, Level.HALF_OPEN, Level.COOLING, Level.OPEN)
    ),
    Transition(Level.LOCKED, "operator_reset", Level.CLOSED, "reset by an operator"),
    *(
        Transition(state, "idle_out", Level.CLOSED, "unseen for long")
        for state in (Level.HALF_OPEN, Level.COOLING, Level.OPEN)
    ),
)
"""The same of the latched protocol."""

PROTOCOLS: dict[str, tuple[Transition, ...]] = {"graded": GRADED, "latched": LATCHED}

SWITCHES: dict[str, tuple[Transition, ...]] = {
    "graded": (
        Transition(Level.COOLING, "protocol_changed", Level.HALF_OPEN, _SWITCHED),
        Transition(Level.LOCKED, "protocol_changed", Level.OPEN, _SWITCHED),
    ),
    "latched": (
        Transition(Level.DEGRADED_1, "protocol_changed", Level.CLOSED, _SWITCHED),
        Transition(Level.DEGRADED_2, "protocol_changed", Level.CLOSED, _SWITCHED),
        Transition(Level.FORCED_OPEN, "protocol_changed", Level.OPEN, _SWITCHED),
        *(
            Transition(state, "operator_lock", *_LOCKED_BY)
            for state in (Level.DEGRADED_1, Level.DEGRADED_2, Level.FORCED_OPEN)
        ),
    ),
}
"""By the protocol that a policy switched to: out of the levels of the other one that it doesn't have."""

_ALL = (*GRADED, *LATCHED, *SWITCHES["graded"], *SWITCHES["latched"])

RULES: tuple[str, ...] = ("held", *dict.fromkeys(t.guard for t in _ALL))
"""Guards by number, 0 = nothing happened."""

RULE_NUMBERS: dict[str, int] = {name: number for number, name in enumerate(RULES)}

TEXTS: dict[str, str] = {t.guard: t.text for t in _ALL}


def diagram(protocol: str) -> str:
    """A protocol's table as a Mermaid state diagram, for the docs."""
    lines = ["stateDiagram-v2", "    [*] --> closed"]
    lines += [
        f"    {LEVEL_NAMES[t.state]} --> {LEVEL_NAMES[t.to]}: {t.guard.replace('_', ' ')}"
        for t in PROTOCOLS[protocol]
    ]
    return "\n".join(lines) + "\n"
