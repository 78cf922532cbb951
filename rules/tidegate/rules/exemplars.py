"""Up to five trace ids per key, of failed or slow requests: the newest, then failed, slowest, by trace id.

A total order, so what remains doesn't depend on the order of arrival.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidegate.rules.pending import Renamer
from tidegate.rules.window import WINDOW_BUCKETS
from tidegate.schemas.cells import OUTCOME_MASK
from tidegate.schemas.partials import Blocks

__all__ = ["EXEMPLARS_MAX", "Candidates", "Exemplars", "candidates_of"]

EXEMPLARS_MAX = 5
Exemplar = tuple[int, bool, int, int, int]
"""(bucket, is_failed, bin, trace id's high half, low half)."""


@dataclass(slots=True)
class Candidates:
    """m offered requests, keys replaced by slots."""

    slot: npt.NDArray[np.int64]
    """Or, until a boundary takes them, a code of `aliases`."""
    bucket: npt.NDArray[np.int64]
    code: npt.NDArray[np.uint16]
    bin: npt.NDArray[np.uint16]
    trace_hi: npt.NDArray[np.uint64]
    trace_lo: npt.NDArray[np.uint64]


def candidates_of(
    blocks: Blocks, slot_of_key: npt.NDArray[np.int64], chosen: npt.NDArray[np.bool_]
) -> Candidates:
    """Those of the chosen ones (mask over the record's exemplars)."""
    return Candidates(
        slot_of_key[blocks.exemplar_key[chosen]],
        blocks.exemplar_bucket[chosen],
        blocks.exemplar_code[chosen],
        blocks.exemplar_bin[chosen],
        blocks.exemplar_trace_hi[chosen],
        blocks.exemplar_trace_lo[chosen],
    )


class Exemplars:
    """The best by slot, and what waits for its boundary."""

    def __init__(self) -> None:
        self.best: dict[int, list[Exemplar]] = {}
        self._waiting: list[Candidates] = []

    def offer(self, candidates: Candidates) -> None:
        """Keeps them until a boundary passes their bucket."""
        if len(candidates.slot):
            self._waiting.append(candidates)

    def merge(
        self,
        boundary: int,
        *,
        is_failed: npt.NDArray[np.bool_],
        settings: npt.NDArray[np.int64],
        target_bin: npt.NDArray[np.int64],
        resolved: Renamer,
    ) -> None:
        """Takes what lies below the boundary and is bad by the key's own policy and target. resolved: gives
        the slots of codes."""
        waiting, self._waiting = self._waiting, []
        for c in waiting:
            due = c.bucket < boundary
            if not due.all():
                self.offer(_where(c, ~due))
            c.slot = resolved(c.slot)
            failed = is_failed[settings[c.slot], c.code & OUTCOME_MASK]
            slow = (target_bin[c.slot] >= 0) & (c.bin > target_bin[c.slot])
            taken = due & (failed | slow) & (c.bucket >= boundary - WINDOW_BUCKETS)
            for i in np.flatnonzero(taken).tolist():
                self._keep(
                    int(c.slot[i]),
                    (
                        int(c.bucket[i]),
                        bool(failed[i]),
                        int(c.bin[i]),
                        int(c.trace_hi[i]),
                        int(c.trace_lo[i]),
                    ),
                )

    def trace_ids(self, slot: int, boundary: int) -> list[str]:
        """32 hex characters each, best first; only of requests that the window still holds."""
        oldest = boundary - WINDOW_BUCKETS
        return [f"{e[3]:016x}{e[4]:016x}" for e in self.best.get(slot, ()) if e[0] >= oldest]

    def rewrite(self, renamed: Renamer) -> None:
        """Puts other slots and codes in place of those that something waits under."""
        for c in self._waiting:
            c.slot = renamed(c.slot)

    def take_over(self, source: int, to: int) -> None:
        """Gives what was kept of one key to another."""
        for exemplar in self.best.pop(source, ()):
            self._keep(to, exemplar)

    def waiting_slots(self) -> set[int]:
        """Slots for which something waits (codes, where targets have other names)."""
        return {slot for c in self._waiting for slot in c.slot.tolist()}

    def forget(self, slots: npt.NDArray[np.int64]) -> None:
        """Drops what was kept of keys that ended."""
        for slot in slots.tolist():
            self.best.pop(slot, None)

    def _keep(self, slot: int, exemplar: Exemplar) -> None:
        best = self.best.setdefault(slot, [])
        if len(best) == EXEMPLARS_MAX and exemplar <= best[-1]:
            return
        if exemplar not in best:
            best.append(exemplar)
            best.sort(reverse=True)
            del best[EXEMPLARS_MAX:]


def _where(c: Candidates, mask: npt.NDArray[np.bool_]) -> Candidates:
    return Candidates(
        c.slot[mask], c.bucket[mask], c.code[mask], c.bin[mask], c.trace_hi[mask], c.trace_lo[mask]
    )
