"""Slots: every live key (service, target) of a partition has one row in all columns of state."""

import zlib

import numpy as np
import numpy.typing as npt

from tidegate.schemas.scope import scope_of_key

__all__ = ["Keys", "stable_hash"]

_START_CAPACITY = 256


def stable_hash(text: str) -> int:
    """32 bits, the same on every machine and in every version: spreads work and jitter over scopes."""
    return zlib.crc32(text.encode())


class Keys:
    """Keys to slots, bounded. Slot numbers depend on the order of arrival, so nothing that is published
    may: use `in_order`, which sorts by scope."""

    def __init__(self, *, services_max: int, keys_max: int) -> None:
        self.services_max = services_max
        self.keys_max = keys_max
        self.capacity = _START_CAPACITY
        self.by_key: dict[tuple[str, str], int] = {}
        self.names: list[tuple[str, str] | None] = [None] * self.capacity
        self.scopes: list[str] = [""] * self.capacity
        self.hash = np.zeros(self.capacity, np.uint32)
        self.is_edge = np.zeros(self.capacity, np.bool_)
        self.service_slot = np.full(self.capacity, -1, np.int64)
        """Row of the service a key belongs to, in the columns kept per service name."""
        self._services: dict[str, int] = {}
        self._service_keys = np.zeros(self.capacity, np.int64)
        self._free_services: list[int] = []
        self._free = list(range(self.capacity - 1, -1, -1))
        self._order: npt.NDArray[np.int64] | None = None
        self._rank: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.by_key)

    def slot_of(self, service: str, target: str) -> int:
        """The key's slot, made if there is room; -1 beyond a limit (the caller counts it)."""
        slot = self.by_key.get((service, target))
        if slot is not None:
            return slot
        is_new_service = service not in self._services
        if len(self.by_key) >= self.keys_max or (
            is_new_service and len(self._services) >= self.services_max
        ):
            return -1
        return self._add(service, target, is_new_service)

    def _add(self, service: str, target: str, is_new_service: bool) -> int:
        if not self._free:
            self._grow()
        slot = self._free.pop()
        scope = scope_of_key(service, target)
        self.by_key[service, target] = slot
        self.names[slot] = (service, target)
        self.scopes[slot] = scope
        self.hash[slot] = stable_hash(scope)
        self.is_edge[slot] = bool(target)
        if is_new_service:
            self._services[service] = (
                self._free_services.pop() if self._free_services else len(self._services)
            )
        service_slot = self._services[service]
        self.service_slot[slot] = service_slot
        self._service_keys[service_slot] += 1
        self._order = None
        return slot

    def reserve(self, service: str, target: str) -> int:
        """A slot beside the limits."""
        slot = self.by_key.get((service, target))
        return self._add(service, target, service not in self._services) if slot is None else slot

    def remove(self, slot: int) -> int:
        """Frees a slot; the caller resets its columns. Returns the service's slot where that ended with
        it, else -1."""
        name = self.names[slot]
        if name is None:
            return -1
        if self.by_key.get(name) == slot:  # else another one has the name by now
            del self.by_key[name]
        self.names[slot] = None
        self.scopes[slot] = ""
        service_slot = int(self.service_slot[slot])
        self._service_keys[service_slot] -= 1
        if self._service_keys[service_slot] == 0:
            del self._services[name[0]]
            self._free_services.append(service_slot)
        self.service_slot[slot] = -1
        self._free.append(slot)
        self._order = None
        return service_slot if self._service_keys[service_slot] == 0 else -1

    def unname(self, slot: int) -> None:
        """Makes an edge's name free for others. Follow with `rename` or `remove`."""
        name = self.names[slot]
        assert name is not None
        del self.by_key[name]
        self._order = None

    def rename(self, slot: int, target: str) -> None:
        """Gives an unnamed edge another target; nobody may have that name."""
        service = (self.names[slot] or ("", ""))[0]
        scope = scope_of_key(service, target)
        self.by_key[service, target] = slot
        self.names[slot] = (service, target)
        self.scopes[slot] = scope
        self.hash[slot] = stable_hash(scope)
        self._order = None

    def in_order(self) -> npt.NDArray[np.int64]:
        """Live slots, sorted by scope, shape (keys,)."""
        if self._order is None:
            slots = sorted(self.by_key.values(), key=self.scopes.__getitem__)
            self._order = np.array(slots, np.int64)
            self._rank = np.zeros(self.capacity, np.int64)
            self._rank[self._order] = np.arange(len(slots))
        return self._order

    def service_rows(self, slots: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """For each of these slots the place among them of its service's own key, -1 without. Shape kept."""
        place = np.full(self.capacity, -1, np.int64)
        own = np.flatnonzero(~self.is_edge[slots])
        place[self.service_slot[slots[own]]] = own
        rows: npt.NDArray[np.int64] = place[self.service_slot[slots]]
        return rows

    def is_turn(
        self, slots: npt.NDArray[np.int64], boundary: int, every: int
    ) -> npt.NDArray[np.bool_]:
        """Whose turn it is at a boundary of what comes every so many, spread by hash of the scope. Shape
        kept."""
        turn: npt.NDArray[np.bool_] = (boundary + self.hash[slots].astype(np.int64)) % every == 0
        return turn

    def rank(self) -> npt.NDArray[np.int64]:
        """Place of each live slot in `in_order`, shape (capacity,)."""
        self.in_order()
        assert self._rank is not None
        return self._rank

    @property
    def services_count(self) -> int:
        """Distinct services among the live keys."""
        return len(self._services)

    def _grow(self) -> None:
        old, self.capacity = self.capacity, 2 * self.capacity
        self.names += [None] * old
        self.scopes += [""] * old
        self.hash = np.concatenate((self.hash, np.zeros(old, np.uint32)))
        self.is_edge = np.concatenate((self.is_edge, np.zeros(old, np.bool_)))
        self.service_slot = np.concatenate((self.service_slot, np.full(old, -1, np.int64)))
        self._service_keys = np.concatenate((self._service_keys, np.zeros(old, np.int64)))
        self._free = list(range(self.capacity - 1, old - 1, -1))
