"""State of many keys as columns: one row per slot, grown together, saved and restored by name."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

__all__ = ["StateColumns"]


class StateColumns:
    """Subclasses name their columns in `spec`: name -> (dtype, value of an unused row, width or 0).

    Width 0 is one number per slot, shape (capacity,); otherwise shape (capacity, width).
    """

    spec: ClassVar[dict[str, tuple[type, float, int]]]

    def __init__(self, capacity: int) -> None:
        for name, (dtype, unused, width) in self.spec.items():
            shape = (capacity, width) if width else (capacity,)
            setattr(self, name, np.full(shape, unused, dtype))

    def columns(self) -> dict[str, npt.NDArray[np.generic]]:
        """The arrays themselves, by name."""
        return {name: getattr(self, name) for name in self.spec}

    def grow(self, capacity: int) -> None:
        """Adds unused rows up to `capacity`."""
        for name, (dtype, unused, width) in self.spec.items():
            old = getattr(self, name)
            shape = (capacity - len(old), width) if width else (capacity - len(old),)
            setattr(self, name, np.concatenate((old, np.full(shape, unused, dtype))))

    def copy(self, source: int, to: int) -> None:
        """Makes a row equal to another."""
        for name in self.spec:
            column = getattr(self, name)
            column[to] = column[source]

    def reset(self, slots: npt.NDArray[np.int64]) -> None:
        """Makes rows unused again."""
        for name, (_, unused, _) in self.spec.items():
            getattr(self, name)[slots] = unused
