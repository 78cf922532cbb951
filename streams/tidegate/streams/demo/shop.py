"""A small shop: five services and what they call, instrumented with the OpenTelemetry SDK as any would be.

Each service has a TracerProvider and a resource of its own, and context travels in headers. Only the
network between them is missing: a call is a coroutine, and time is really slept.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from opentelemetry import propagate
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode

if TYPE_CHECKING:
    pass

from tidegate.streams.demo.story import Faults

__all__ = ["SERVICES", "Gate", "Shop", "Traffic", "Verdict"]

SERVICES = ("web", "cart", "inventory", "payments", "mailer")
EXPORT_DELAY_MS = 300
"""The SDK's default is 5 s (OTEL_BSP_SCHEDULE_DELAY); evidence would be that old."""
REQUESTS_PER_S = 45.0
ROUTES = {"/product": 0.35, "/cart": 0.25, "/checkout": 0.40}
TRAFFIC_WINDOW_S = 5.0
_SEED = 7
_OK, _FALLBACK, _UNAVAILABLE = 200, 203, 503
_SERVER_ERRORS = 500

Headers = dict[str, str]


class Verdict(Protocol):
    """What a thin client says about one call."""

    @property
    def passes(self) -> bool:
        """Whether the call may be made."""
        ...

    @property
    def effect(self) -> str | None:
        """Mark for the span, where the client interferes or probes."""
        ...

    @property
    def deadline_ms(self) -> int | None:
        """When the caller should give up."""
        ...


class Gate(Protocol):
    """A thin client, as a caller uses it."""

    def admit(self, caller: str, target: str, trace_id: str) -> Verdict:
        """Asks before each call; answers from memory."""
        ...

    def done(self, caller: str, target: str, *, is_ok: bool) -> None:
        """Tells how it went."""
        ...


@dataclass(slots=True)
class Traffic:
    """Calls per edge over the last seconds, as the callers saw them."""

    _events: deque[tuple[float, str, str]] = field(default_factory=deque)

    def add(self, now_s: float, edge: str, what: str) -> None:
        """`what` is passed, failed, shed or cut."""
        self._events.append((now_s, edge, what))

    def counts(self, now_s: float) -> dict[str, Counter[str]]:
        """Per edge of the last TRAFFIC_WINDOW_S seconds."""
        while self._events and self._events[0][0] < now_s - TRAFFIC_WINDOW_S:
            self._events.popleft()
        counts: dict[str, Counter[str]] = {}
        for _, edge, what in self._events:
            counts.setdefault(edge, Counter())[what] += 1
        return counts


class Shop:
    """`await shop.run()` serves customers until it is cancelled; `close()` flushes the last spans."""

    def __init__(self, exporter: Callable[[str], SpanExporter], gate: Gate) -> None:
        """`exporter` makes one for each service by name."""
        self.faults = Faults()
        self.traffic = Traffic()
        self._gate = gate
        self._random = random.Random(_SEED)
        self._providers = {name: _provider(name, exporter(name)) for name in SERVICES}
        self._tracers = {name: p.get_tracer("shop") for name, p in self._providers.items()}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Customers come at random, REQUESTS_PER_S on average, and don't wait for each other."""
        routes, weights = list(ROUTES), list(ROUTES.values())
        while True:
            await asyncio.sleep(self._random.expovariate(REQUESTS_PER_S))
            route = self._random.choices(routes, weights)[0]
            task = asyncio.create_task(self._web(route))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Exports what is left."""
        for provider in self._providers.values():
            provider.shutdown()

    async def _web(self, route: str) -> None:
        """A call that fails fails the page; one that the thin client turns away or cuts is answered by
        a fallback (yesterday's stock, pay later), and the page is fine.
        """
        with self._serve("web", f"GET {route}", {}) as span:
            await self._work(4)
            statuses = [await self._call("web", "cart", "/items", self._cart)]
            if route != "/cart":
                statuses.append(await self._call("web", "inventory", "/stock", self._inventory))
            if route == "/checkout":
                paid = await self._call("web", "payments", "/charge", self._payments)
                statuses.append(paid)
                if paid == _OK:
                    await self._order()
            _answer(span, _UNAVAILABLE if _UNAVAILABLE in statuses else _OK)

    async def _cart(self, headers: Headers) -> int:
        with self._serve("cart", "GET /items", headers) as span:
            await self._work(2)
            await self._query("cart", {"db.system.name": "redis", "db.namespace": "carts"}, 2)
            return _answer(span, _OK)

    async def _inventory(self, headers: Headers) -> int:
        with self._serve("inventory", "GET /stock", headers) as span:
            await self._work(3)
            database = {"db.system.name": "postgresql", "db.namespace": "stock"}
            await self._query("inventory", database, 12 * self.faults.database_factor)
            return _answer(span, _OK)

    async def _payments(self, headers: Headers) -> int:
        with self._serve("payments", "POST /charge", headers) as span:
            if self._random.random() < self.faults.payments_errors_ratio:
                await self._work(60)
                return _answer(span, _UNAVAILABLE)
            await self._work(5)
            await self._call("payments", "bank.example", "/authorize", self._bank)
            return _answer(span, _OK)

    async def _bank(self, _headers: Headers) -> int:
        """Somebody else's: it answers and exports no spans."""
        await self._work(20)
        return _OK

    async def _order(self) -> None:
        attributes = {"messaging.system": "kafka", "messaging.destination.name": "orders"}
        tracer, headers = self._tracers["web"], Headers()
        with tracer.start_as_current_span(
            "send orders", kind=SpanKind.PRODUCER, attributes=attributes
        ):
            propagate.inject(headers)
        with self._tracers["mailer"].start_as_current_span(
            "process orders",
            context=propagate.extract(headers),
            kind=SpanKind.CONSUMER,
            attributes=attributes,
        ):
            await self._work(6)

    def _serve(self, service: str, name: str, headers: Headers) -> AbstractContextManager[Span]:
        method, _, route = name.partition(" ")
        return self._tracers[service].start_as_current_span(
            name,
            context=propagate.extract(headers),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "http.route": route},
        )

    async def _call(
        self, caller: str, target: str, path: str, callee: Callable[[Headers], Awaitable[int]]
    ) -> int:
        """An HTTP call with the thin client asked first: its status, or _FALLBACK."""
        attributes = {"http.request.method": "POST", "server.address": target, "url.path": path}
        edge = f"{caller}->{target}"
        now_s = asyncio.get_running_loop().time()
        with self._tracers[caller].start_as_current_span(
            f"POST {path}", kind=SpanKind.CLIENT, attributes=attributes
        ) as span:
            trace_id = f"{span.get_span_context().trace_id:032x}"
            verdict = self._gate.admit(caller, target, trace_id)
            if verdict.effect is not None:
                span.set_attribute("tidegate.effect", verdict.effect)
            if not verdict.passes:
                self.traffic.add(now_s, edge, "shed")
                return _FALLBACK
            headers = Headers()
            propagate.inject(headers)
            deadline_ms = verdict.deadline_ms
            try:
                status = await asyncio.wait_for(
                    callee(headers), None if deadline_ms is None else deadline_ms / 1000
                )
            except TimeoutError:
                span.set_attribute("tidegate.effect", "cut")
                self.traffic.add(now_s, edge, "cut")
                return _FALLBACK
            self.traffic.add(now_s, edge, "failed" if status >= _SERVER_ERRORS else "passed")
            self._gate.done(caller, target, is_ok=status < _SERVER_ERRORS)
            return _answer(span, status)

    async def _query(self, caller: str, attributes: Mapping[str, str], median_ms: float) -> None:
        with self._tracers[caller].start_as_current_span(
            "query", kind=SpanKind.CLIENT, attributes=attributes
        ):
            await self._work(median_ms)

    async def _work(self, median_ms: float) -> None:
        await asyncio.sleep(median_ms * self._random.lognormvariate(0.0, 0.3) / 1000)


def _provider(service: str, exporter: SpanExporter) -> TracerProvider:
    resource = Resource.create({"service.name": service, "service.instance.id": f"{service}-1"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=EXPORT_DELAY_MS))
    return provider


def _answer(span: Span, status: int) -> int:
    span.set_attribute("http.response.status_code", status)
    if status >= _SERVER_ERRORS:
        span.set_status(StatusCode.ERROR)
    return status
