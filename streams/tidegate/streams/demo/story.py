"""What happens when in the demo: when the fault begins and ends, and what is said meanwhile. Pure."""

from dataclasses import dataclass

__all__ = ["FAULT_END_S", "FAULT_START_S", "SECONDS_MIN", "Faults", "Story"]

SECONDS_MIN = 75
"""Below this there is no time for opening, sleeping, probing and the ramp back to closed."""
FAULT_START_S = 12.0
FAULT_END_S = 25.0
_PAYMENTS_ERRORS_RATIO = 0.8
_DATABASE_FACTOR = 25.0


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong at the moment."""

    payments_errors_ratio: float = 0.0
    """Share of payments that are answered with 503 after a while."""
    database_factor: float = 1.0
    """How many times slower the database behind inventory answers."""


@dataclass(frozen=True, slots=True)
class Story:
    """Told the seconds since the shop opened to its first judged second; says what is the case."""

    seconds: float

    def faults(self, elapsed_s: float) -> Faults:
        """What goes wrong now."""
        if FAULT_START_S <= elapsed_s < FAULT_END_S:
            return Faults(_PAYMENTS_ERRORS_RATIO, _DATABASE_FACTOR)
        return Faults()

    def caption(self, elapsed_s: float) -> str:
        """One line about now."""
        if elapsed_s < FAULT_START_S:
            left_s = FAULT_START_S - elapsed_s
            return f"All is well. In {left_s:.0f} s two faults begin."
        if elapsed_s < FAULT_END_S:
            return (
                f"FAULT: payments answers {_PAYMENTS_ERRORS_RATIO:.0%} of calls with 503, and the "
                f"database behind inventory is {_DATABASE_FACTOR:.0f} times slower."
            )
        return "The faults are over. Levels sleep, probe, and come back step by step."

    def is_over(self, elapsed_s: float) -> bool:
        """Whether the time given is up."""
        return elapsed_s >= self.seconds
