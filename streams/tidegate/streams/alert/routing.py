"""Which channels an event goes to. A pure function of the events before it in its partition, so a sender that
starts anew knows the same after it has read them again.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tidegate.schemas.alert import Alert

__all__ = ["INCIDENTS_MAX", "Route", "Routing"]

INCIDENTS_MAX = 100_000
"""Remembered of a partition; the one that was silent longest is forgotten first."""


@dataclass(slots=True)
class _Incident:
    number: int = 0
    told: tuple[str, ...] = ()
    """Channels that its events went to so far."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where one event goes."""

    channels: tuple[str, ...]
    skipped: Literal["silenced", "duplicate"] | None = None
    """Why it goes nowhere, where it is no matter of tiers."""


class Routing:
    """What one partition's events so far were, by incident."""

    def __init__(self, tiers: Mapping[str, tuple[str, ...]]) -> None:
        self._tiers = tiers
        self._incidents: OrderedDict[str, _Incident] = OrderedDict()

    def take(self, alert: Alert) -> Route:
        """The channels of the event's tier. An end goes to whoever was told of the incident instead,
        silenced or not: it calls nobody, and on phones and in Alertmanager it closes what is open.
        """
        incident = self._incidents.get(alert.id)
        is_known = incident is not None
        if incident is None:
            incident = self._incidents[alert.id] = _Incident()
            if len(self._incidents) > INCIDENTS_MAX:
                self._incidents.popitem(last=False)
        self._incidents.move_to_end(alert.id)
        if alert.number <= incident.number:
            return Route((), "duplicate")
        incident.number = alert.number
        own = self._tiers[alert.tier]
        if alert.event == "resolve":
            # Where the start is unknown (retention has it), its own tier is the best guess.
            told = incident.told if is_known else own
            return Route(told, "silenced" if alert.silenced is not None and not told else None)
        if alert.silenced is not None:
            return Route((), "silenced")
        incident.told = tuple(dict.fromkeys((*incident.told, *own)))
        return Route(own)
