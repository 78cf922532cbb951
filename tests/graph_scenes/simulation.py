"""Lets a world run: requests are processes in virtual time, woken in the order of events.

Causal: a callee doesn't know that its caller gave up, a dead process does nothing more, a retry begins after
the attempt before it has failed. Deterministic: one generator of chance, and events at one time in the order
in which they were planned. Times are µs from the beginning.
"""

import heapq
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from random import Random

from tests.graph_scenes.world import Call, Fault, Operation, World

__all__ = ["CLIENT", "SERVER", "SimulatedSpan", "run"]

SERVER, CLIENT = 2, 3
_OK, _FAILED, _OVERLOADED = 200, 500, 503


@dataclass(frozen=True, slots=True)
class SimulatedSpan:
    """A span, and what only the world knows about it."""

    service: str
    kind: int
    name: str
    start_us: int
    end_us: int
    trace: int
    """128 bits."""
    span: int
    """64 bits."""
    parent: int
    """0: none."""
    attributes: tuple[tuple[str, str | int], ...]
    is_error: bool
    callee: str = ""
    """Of CLIENT spans, whom the call was really for; no span says so."""
    result: str = "ok"
    """`ok`, `error`, `refused` or `timeout`."""


@dataclass(slots=True)
class _Reply:
    """Something that one process waits for and others may settle; the first wins. `status` is HTTP's, 0
    where there is none."""

    status: int | None = None
    error_type: str = ""
    waiting: "_Process | None" = None


_Work = Generator["int | _Reply", None, int]
"""Yields µs to sleep, or a reply to wait for. Returns an HTTP status, 0 for a call without answer."""


@dataclass(slots=True)
class _Process:
    work: _Work
    owner: str
    """The service that does this."""
    life: int
    """Which of its lives: what a dead process was doing ends with it."""
    done: _Reply


@dataclass(frozen=True, slots=True)
class _Request:
    trace: int
    parent: int


@dataclass(slots=True)
class _Workers:
    busy: int = 0
    queue: deque[_Reply] = field(default_factory=deque)


def run(world: World) -> list[SimulatedSpan]:
    """All spans that ended, in the order of their ends: those too that were never exported. Raises ValueError
    where a service with workers is to die: what its next life would begin with isn't defined."""
    for fault in world.faults:
        if (
            fault.kind == "dead"
            and fault.where in world.services
            and world.services[fault.where].workers
        ):
            raise ValueError(f"{fault.where}: has workers, so it can't die; use `slow` or `error`")
    return _Simulation(world).run()


class _Simulation:
    def __init__(self, world: World) -> None:
        self._world = world
        self._draw = Random(world.seed)
        self._now_us = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._events_count = 0
        self._workers = {name: _Workers() for name in world.services}
        self._spans: list[SimulatedSpan] = []

    def run(self) -> list[SimulatedSpan]:
        for flow in self._world.flows:
            self._after(
                _us(1000 * self._draw.random() / flow.per_s),
                partial(self._arrive, flow.to, flow.per_s),
            )
        end_us = _us(self._world.seconds * 1000)
        while self._events:
            self._now_us, _, action = heapq.heappop(self._events)
            if self._now_us >= end_us:
                break
            action()
        return self._spans

    def _after(self, us: int, action: Callable[[], None]) -> None:
        self._events_count += 1
        heapq.heappush(self._events, (self._now_us + us, self._events_count, action))

    def _arrive(self, to: str, per_s: float) -> None:
        self._after(
            _us(1000 * (0.4 + 1.2 * self._draw.random()) / per_s), partial(self._arrive, to, per_s)
        )
        request = _Request(self._draw.getrandbits(128) or 1, 0)
        name, _, operation = to.partition(".")
        if not self._is_dead(name):
            self._start(self._serve(name, operation, request), name)

    def _start(self, work: _Work, owner: str) -> _Reply:
        """Begins a process; the reply is settled with its status when it ends."""
        process = _Process(work, owner, self._life(owner), _Reply())
        self._resume(process)
        return process.done

    def _resume(self, process: _Process) -> None:
        if process.life != self._life(process.owner):
            process.work.close()
            return
        try:
            wanted = next(process.work)
        except StopIteration as end:
            self._settle(process.done, end.value)
            return
        if isinstance(wanted, int):
            self._after(wanted, partial(self._resume, process))
        elif wanted.status is None:
            wanted.waiting = process
        else:
            self._after(0, partial(self._resume, process))

    def _settle(self, reply: _Reply, status: int, error_type: str = "") -> None:
        if reply.status is not None:
            return
        reply.status, reply.error_type = status, error_type
        if reply.waiting is not None:
            self._resume(reply.waiting)

    def _serve(self, name: str, operation: str, request: _Request) -> _Work:
        start_us, span = self._now_us, self._id()
        service, workers = self._world.services[name], self._workers[name]
        if (
            service.workers
            and workers.busy >= service.workers
            and len(workers.queue) >= service.queue_max
        ):
            yield 500
            status = _OVERLOADED
        else:
            if service.workers:
                yield from self._take_worker(workers, service.workers)
            status = yield from self._work(
                name, service.operations[operation], _Request(request.trace, span)
            )
            if service.workers:
                self._free_worker(workers)
        self._spans.append(
            SimulatedSpan(
                service=name,
                kind=SERVER,
                name=f"POST /{operation}",
                start_us=start_us,
                end_us=self._now_us,
                trace=request.trace,
                span=span,
                parent=request.parent,
                attributes=(("http.response.status_code", status),),
                is_error=status >= 500,
                result="ok" if status < 500 else "error",
            )
        )
        return status

    def _take_worker(self, workers: _Workers, count: int) -> Generator["int | _Reply", None, None]:
        if workers.busy < count:
            workers.busy += 1
        else:
            turn = _Reply()
            workers.queue.append(turn)
            yield turn

    def _free_worker(self, workers: _Workers) -> None:
        if workers.queue:
            self._settle(workers.queue.popleft(), _OK)
        else:
            workers.busy -= 1

    def _work(self, name: str, operation: Operation, request: _Request) -> _Work:
        is_broken = self._draw.random() < self._world.services[name].error_share
        for fault in self._faults("error", name):
            is_broken |= self._draw.random() < fault.share
        if is_broken:
            yield _us(0.5 + self._draw.random())
            return _FAILED
        yield self._own_us(name, operation.own_ms)
        calls = [call for call in operation.calls if self._draw.random() < call.share]
        if operation.is_parallel:
            replies = [self._start(self._call(name, call, request), name) for call in calls]
            failed = False
            for call, reply in zip(calls, replies, strict=True):
                yield reply
                failed |= call.is_hard and not _is_ok(reply.status or 0)
            return _FAILED if failed else _OK
        for call in calls:
            status = yield from self._call(name, call, request)
            if call.is_hard and not _is_ok(status):
                return _FAILED
        return _OK

    def _call(self, caller: str, call: Call, request: _Request) -> _Work:
        """A call with its retries."""
        status = yield from self._attempt(caller, call, request)
        for retry in range(call.attempts_max - 1):
            if _is_ok(status):
                break
            yield _us(call.backoff_ms * 2**retry * (0.5 + self._draw.random()))
            status = yield from self._attempt(caller, call, request)
        return status

    def _attempt(self, caller: str, call: Call, request: _Request) -> _Work:
        start_us, span, reply = self._now_us, self._id(), _Reply()
        callee, _, operation = call.to.partition(".")
        answer = partial(self._answer, callee, operation, _Request(request.trace, span), reply)
        self._after(self._network_us(), answer)
        self._after(call.timeout_ms * 1000, partial(self._settle, reply, 0, "timeout"))
        yield reply
        status = reply.status or 0
        is_database = callee in self._world.databases
        attributes = self._naming(callee)
        if status and not is_database:
            attributes += (("http.response.status_code", status),)
        if reply.error_type:
            attributes += (("error.type", reply.error_type),)
        results = {"timeout": "timeout", "connection_refused": "refused"}
        self._spans.append(
            SimulatedSpan(
                service=caller,
                kind=CLIENT,
                name="SELECT" if is_database else "POST",
                start_us=start_us,
                end_us=self._now_us,
                trace=request.trace,
                span=span,
                parent=request.parent,
                attributes=attributes,
                is_error=status == 0 or status >= 400,
                callee=callee,
                result=results.get(reply.error_type, "ok" if _is_ok(status) else "error"),
            )
        )
        return status

    def _answer(self, callee: str, operation: str, request: _Request, reply: _Reply) -> None:
        """The call has come to its callee."""
        for fault in self._faults("dead", callee):
            if self._draw.random() < fault.share:
                refuse = partial(self._settle, reply, 0, "connection_refused")
                self._after(self._network_us(), refuse)
            return
        if callee in self._world.databases:
            database = self._world.databases[callee]
            took_us = self._own_us(callee, database.own_ms)
            self._after(took_us + self._network_us(), partial(self._settle, reply, _OK))
        else:
            done = self._start(self._serve(callee, operation, request), callee)
            self._start(self._send_back(done, reply), callee)

    def _send_back(self, done: _Reply, reply: _Reply) -> _Work:
        yield done
        self._after(self._network_us(), partial(self._settle, reply, done.status or 0))
        return _OK

    def _naming(self, callee: str) -> tuple[tuple[str, str | int], ...]:
        world = self._world
        if callee in world.databases:
            database = world.databases[callee]
            return (("db.system.name", database.system), ("db.namespace", database.namespace))
        by_address = world.naming == "address" or callee in world.behind_mesh
        return (("server.address" if by_address else "peer.service", world.target(callee)),)

    def _own_us(self, name: str, own_ms: tuple[float, float]) -> int:
        low, high = own_ms
        took_ms = low + (high - low) * self._draw.random()
        for fault in self._faults("slow", name):
            took_ms *= fault.factor
        return _us(took_ms)

    def _network_us(self) -> int:
        return self._draw.randrange(*self._world.network_us)

    def _faults(self, kind: str, where: str) -> list[Fault]:
        at_s = self._now_us / 1_000_000
        return [
            fault
            for fault in self._world.faults
            if fault.kind == kind and fault.where == where and fault.start_s <= at_s < fault.end_s
        ]

    def _is_dead(self, name: str) -> bool:
        return bool(self._faults("dead", name))

    def _life(self, name: str) -> int:
        at_s = self._now_us / 1_000_000
        return sum(
            fault.kind == "dead" and fault.where == name and fault.start_s <= at_s
            for fault in self._world.faults
        )

    def _id(self) -> int:
        return self._draw.getrandbits(64) or 1


def _is_ok(status: int) -> bool:
    return 0 < status < 500


def _us(ms: float) -> int:
    return int(ms * 1000)
