"""Spans of an incident, from its row of the table. Deterministic: one generator of numbers per golden,
drawn from in the order of requests; times are whole tens of microseconds, ids count up (random ones would
be most of a recording's bytes)."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tests.goldens.incidents import Call, Fault, Incident, Service

__all__ = ["CLIENT", "SERVER", "RawSpan", "spans_of"]

SERVER, CLIENT = 2, 3
TIMEOUT_US = 1_000_000


@dataclass(frozen=True, slots=True)
class RawSpan:
    """A span, times in µs from the incident's start."""

    service: str
    kind: int
    target: str
    """Of CLIENT spans: the address or the database that is called; "" of SERVER spans."""
    start_us: int
    end_us: int
    trace: int
    """A number; the trace id's last 8 bytes."""
    span: int
    parent: int
    """0: none."""
    status: int
    """HTTP's; 0 where the call got no answer."""
    error_type: str = ""


@dataclass(slots=True)
class _Answer:
    end_us: int
    status: int
    error_type: str = ""

    @property
    def is_bad(self) -> bool:
        return self.status == 0 or self.status >= 500 or self.status == 429


def spans_of(incident: Incident) -> list[RawSpan]:
    """All spans, in the order in which their requests begin."""
    return list(_Shop(incident).run())


class _Shop:
    def __init__(self, incident: Incident) -> None:
        self._incident = incident
        self._draw = random.Random(incident.seed)
        self._services = {service.name: service for service in incident.services}
        self._spans: list[RawSpan] = []
        self._trace = incident.seed * 1_000_000
        self._span = incident.seed * 1_000_000

    def run(self) -> Iterator[RawSpan]:
        entry = self._incident.services[0]
        at_s = 0.0
        while at_s < self._incident.seconds:
            self._trace += 1
            self._serve(entry, _us(at_s * 1000), parent=0)
            rate = self._incident.rps
            for fault in self._faults("surge", "", _us(at_s * 1000)):
                rate *= fault.factor
            at_s += (0.4 + 1.2 * self._draw.random()) / rate
        yield from self._spans

    def _serve(self, service: Service, start_us: int, *, parent: int) -> _Answer:
        span = self._next()
        own_us = self._time_us(service.own_ms, service.name, start_us)
        if self._draw.random() < service.heavy_share:
            own_us = _us(own_us * service.heavy_factor / 1000)
        status = 500 if self._draw.random() < service.error_share else 200
        for kind, code in (("error", 500), ("throttle", 429)):
            for fault in self._faults(kind, service.name, start_us):
                if self._draw.random() < fault.share:
                    status, own_us = code, min(own_us, 2_000)
        end_us = start_us + own_us
        if status == 200:
            for call in service.calls:
                if self._draw.random() < call.share:
                    answer = self._call(service, call, end_us, parent=span)
                    end_us = answer.end_us
                    if answer.is_bad and call.is_hard:
                        status = 503
                        break
        self._spans.append(
            RawSpan(service.name, SERVER, "", start_us, end_us, self._trace, span, parent, status)
        )
        return _Answer(end_us, status)

    def _call(self, caller: Service, call: Call, start_us: int, *, parent: int) -> _Answer:
        span = self._next()
        if self._faults("dead", call.target, start_us):
            hangs = self._draw.random() < 0.25
            took_us = TIMEOUT_US if hangs else 500 + _us(self._draw.random())
            name = "timeout" if hangs else "connection_refused"
            answer = _Answer(start_us + took_us, 0, name)
        elif call.target in self._services:
            network_us = 300 + _us(self._draw.random() * 0.4)
            inner = self._serve(self._services[call.target], start_us + network_us, parent=span)
            answer = _Answer(inner.end_us + network_us, inner.status)
        else:
            answer = _Answer(start_us + self._time_us(call.own_ms, call.target, start_us), 200)
        self._spans.append(
            RawSpan(
                caller.name,
                CLIENT,
                call.target,
                start_us,
                answer.end_us,
                self._trace,
                span,
                parent,
                answer.status,
                answer.error_type,
            )
        )
        return answer

    def _time_us(self, bounds_ms: tuple[float, float], name: str, at_us: int) -> int:
        low, high = bounds_ms
        took_ms = low + (high - low) * self._draw.random()
        for fault in self._faults("slow", name, at_us):
            took_ms *= fault.factor
        return _us(took_ms)

    def _faults(self, kind: str, target: str, at_us: int) -> list[Fault]:
        at_s = at_us / 1e6
        return [
            fault
            for fault in self._incident.faults
            if fault.kind == kind and fault.target == target and fault.start_s <= at_s < fault.end_s
        ]

    def _next(self) -> int:
        self._span += 1
        return self._span


def _us(ms: float) -> int:
    """Whole tens of microseconds."""
    return int(ms * 100) * 10
