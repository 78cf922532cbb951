"""The protocols' levels, in order of severity. Clients know none by name: decisions carry numbers."""

from enum import IntEnum

__all__ = ["LEVEL_NAMES", "Level", "level_named"]


class Level(IntEnum):
    """The numbers order severity and are kept in snapshots: never renumber."""

    CLOSED = 0
    DEGRADED_1 = 1
    DEGRADED_2 = 2
    HALF_OPEN = 3
    COOLING = 4
    OPEN = 5
    FORCED_OPEN = 6
    LOCKED = 7


LEVEL_NAMES: tuple[str, ...] = tuple(level.name.lower() for level in Level)
"""Wire names, indexed by severity: `closed`, `degraded_1`, ..., `locked`."""


def level_named(name: str) -> Level:
    """The level of a wire name. Raises ValueError for a name that is none."""
    return Level(LEVEL_NAMES.index(name))
