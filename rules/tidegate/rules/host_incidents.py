"""L2 (local overload) and L5 (infrastructure) by service, from what its instances say of themselves."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from tidegate.rules import host_instance
from tidegate.rules.host_instance import Instance, named, overload_text
from tidegate.rules.host_metrics import SERIES_TTL_MS, HostMetrics, Reading
from tidegate.rules.policy_types import Settings
from tidegate.schemas.cells import BUCKET_MS

__all__ = ["HostIncident", "HostIncidents"]


@dataclass(frozen=True, slots=True)
class HostIncident:
    """A condition that holds at a service."""

    rule: Literal["L2", "L5"]
    since_boundary: int
    instances: tuple[str, ...]
    """At which it holds, by name; those without a name can't be told apart and are left out."""
    reason: str


@dataclass(slots=True)
class _Service:
    """Names of instances by what holds for them; a service where nothing does has none of these."""

    overloaded: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    seldom: set[str] = field(default_factory=set)
    l2_since: int = -1
    l5_since: int = -1


class HostIncidents:
    """Of all services of one evaluate partition; those without metrics cost nothing."""

    def __init__(self) -> None:
        self.changed: set[str] = set()
        """Services at which a condition, or not knowing, began or ended for an instance at the newest
        boundary."""
        self._instances: dict[tuple[str, str], Instance] = {}
        self._services: dict[str, _Service] = {}

    def step(
        self, metrics: HostMetrics, settings_of: Callable[[str], Settings], boundary: int
    ) -> None:
        """Takes what the boundary read, and judges whom that or the time that went by concerns."""
        now_ms = boundary * BUCKET_MS
        self.changed = set()
        concerned = {key for key, one in self._instances.items() if one.due_ms <= now_ms}
        for reading in sorted(metrics.readings, key=_by_time):
            key = (reading.service, reading.instance)
            concerned.add(key)
            one = self._instances.setdefault(key, Instance())
            host_instance.take(one, reading, settings_of(reading.service).incidents)
        for service, instance in sorted(concerned):
            one = self._instances[service, instance]
            if now_ms - one.seen_ms > SERIES_TTL_MS:
                del self._instances[service, instance]
                one = Instance()
            else:
                host_instance.judge(one, instance, settings_of(service).incidents, now_ms)
            self._enter(service, instance, one)
        for service in self.changed:
            self._settle(service, boundary)

    def reconsider(self) -> None:
        """Has everything judged again at the next boundary: another policy is in force."""
        for one in self._instances.values():
            one.due_ms = 0

    def active(self, service: str) -> tuple[HostIncident, ...]:
        """The conditions that hold at a service, with the numbers of the instance that is worst off."""
        state = self._services.get(service)
        if state is None:
            return ()
        out = []
        if state.overloaded:
            of = {name: self._instances[service, name] for name in state.overloaded}
            worst = min(of, key=lambda name: (-of[name].goroutines, name))
            reason = overload_text(of[worst], worst)
            out.append(_incident("L2", state.l2_since, state.overloaded, reason))
        if state.broken:
            first = min(state.broken)
            reason = f"{self._instances[service, first].broken} on {named(first)}"
            out.append(_incident("L5", state.l5_since, state.broken, reason))
        return tuple(out)

    def services(self) -> list[str]:
        """At which anything holds, or can't be told, by name."""
        return sorted(self._services)

    def unknown(self, service: str) -> str | None:
        """Why L2 can't be told, and what to do about it; None where it can, or nobody sends metrics."""
        state = self._services.get(service)
        if state is None or not state.seldom:
            return None
        return self._instances[service, min(state.seldom)].seldom + _more(state.seldom)

    def state(self) -> dict[str, Any]:
        """Plain values in the order of names."""
        instances = sorted(self._instances.items())
        services = sorted(self._services.items())
        return {
            "instances": [[*key, *msgspec.to_builtins(one)] for key, one in instances],
            "since": [[name, one.l2_since, one.l5_since] for name, one in services],
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Fills an empty one."""
        for service, instance, *rest in saved["instances"]:
            one = msgspec.convert(rest, Instance)
            self._instances[service, instance] = one
            self._enter(service, instance, one)
        for service, l2_since, l5_since in saved["since"]:
            state = self._services[service]
            state.l2_since, state.l5_since = l2_since, l5_since
        self.changed = set()

    def _enter(self, service: str, instance: str, one: Instance) -> None:
        """Notes what holds at an instance now."""
        state = self._services.get(service) or _Service()
        for names, holds in (
            (state.overloaded, one.is_overloaded),
            (state.broken, bool(one.broken)),
            (state.seldom, bool(one.seldom)),
        ):
            if holds != (instance in names):
                names.symmetric_difference_update({instance})
                self.changed.add(service)
                self._services[service] = state

    def _settle(self, service: str, boundary: int) -> None:
        """Since when each condition holds at any instance."""
        state = self._services[service]
        state.l2_since = _since(state.l2_since, boundary, holds=bool(state.overloaded))
        state.l5_since = _since(state.l5_since, boundary, holds=bool(state.broken))
        if not (state.overloaded or state.broken or state.seldom):
            del self._services[service]


def _by_time(reading: Reading) -> tuple[str, str, int, int]:
    """Of all series of an instance; memory before goroutines, so that the newest of both are compared."""
    return reading.service, reading.instance, reading.time_ms, -reading.metric


def _since(before: int, boundary: int, *, holds: bool) -> int:
    if not holds:
        return -1
    return boundary if before < 0 else before


def _incident(
    rule: Literal["L2", "L5"], since_boundary: int, instances: set[str], reason: str
) -> HostIncident:
    names = tuple(sorted(name for name in instances if name))
    return HostIncident(rule, since_boundary, names, reason + _more(instances))


def _more(instances: set[str]) -> str:
    others = len(instances) - 1
    return f" and {others:,} more" if others else ""
