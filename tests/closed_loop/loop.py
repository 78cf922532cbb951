"""The loop, in virtual time: requests ask the real admission function, their spans go through all stages of
the evaluator, and what it decides comes back to the callers. Nothing here decides anything.

A tick is 500 ms: what was exported by then is one record for each service, then decisions and leases are
read. Time, chance and the order of requests follow from the seed alone.
"""

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from tests.closed_loop.shop import Backend
from tests.closed_loop.spans import BASE_MS, RawSpan, columns_of
from tidegate.client.admission import Request, Verdict
from tidegate.client.testing import FeedClient
from tidegate.rules.judgement import Judgement
from tidegate.rules.pipeline import Offline
from tidegate.rules.policy import Policy, load_policy
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.decision import Decision, encode_decision, encode_lease
from tidegate.schemas.outcome import Effect, Outcome, SpanKind
from tidegate.schemas.scope import key_of_scope, lease_key, service_scope

__all__ = ["Load", "Loop", "enforcing"]

_EFFECTS = {None: Effect.NONE} | {e.name.lower(): e for e in Effect}


def enforcing(pack: str, *, settings: str = "") -> Policy:
    """A pack whose decisions are obeyed. settings: further ones, as YAML's flow style has them."""
    more = f", {settings}" if settings else ""
    text = f"{{name: {pack}-enforced, extends: {pack}, settings: {{mode: enforce{more}}}}}"
    return load_policy(text, where="closed_loop")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Requests to a service, and who sends them."""

    service: str
    backend: Backend
    per_s: float | Callable[[float], float]
    """Or of the seconds since the start."""
    caller: str = ""
    """The service that calls it for every request of its own, and obeys; its own users obey what is said
    of it. Empty: users call, and the service's own middleware obeys."""
    is_hard: bool = True
    """Whether a caller's request fails with its call; else there is a fallback."""
    clients_count: int = 2
    timeout_ms: float = 10_000.0
    """Who waited so long gives up by itself."""
    can_set_deadline: bool = True
    """Whether calls are cut at `deadline_ms`."""
    marks_cut: bool = True
    """False is a client with a bug: what it cuts looks like a time-out of the service."""
    retries_max: int = 0
    obeys_retry_budget: bool = True
    export_every_ms: int = BUCKET_MS
    """Spans wait so long for their export (5 s by default in SDKs)."""


class Done(NamedTuple):
    """How an attempt ended."""

    end_ms: float
    outcome: Outcome
    effect: Effect


class Ids(NamedTuple):
    """Of a span; parent 0: none."""

    trace: int
    span: int
    parent: int


class _Event(NamedTuple):
    at_ms: float
    number: int
    load: int
    attempt: int
    trace: int


@dataclass(slots=True)
class Loop:
    """Runs loads under a policy. `levels` says what was decided when."""

    policy: Policy
    loads: Sequence[Load]
    seed: int = 1
    now_ms: float = 0.0
    """Since the loop began, as all times here."""
    levels: dict[str, list[tuple[float, str]]] = field(default_factory=dict)
    """By scope: (second, level), one for each change."""
    decisions: list[Decision] = field(default_factory=list)
    tally: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    """(what, service, second): `offered` and `retried` attempts, of which `passed`, of which `good` in
    time."""
    fed: list[tuple[Sequence[Sequence[RawSpan]], int]] | None = None
    """(records, Kafka's time) of each tick, where somebody asks for them."""
    offline: Offline = field(init=False)
    _draws: list[Random] = field(init=False)
    _clients: list[list[FeedClient]] = field(init=False)
    _events: list[_Event] = field(default_factory=list)
    _waiting: dict[int, dict[str, list[RawSpan]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    """By tick of their export and service."""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.offline = Offline(self.policy)
        self._draws = [Random(f"{self.seed}/{load.service}") for load in self.loads]
        self._clients = [
            [self._client(load, number) for number in range(load.clients_count)]
            for load in self.loads
        ]
        for number in range(len(self.loads)):
            self._arrive_after(number, 0.0)

    @property
    def judgement(self) -> Judgement:
        return self.offline._evaluator.state.judgement

    def slot(self, scope: str) -> int:
        """The row of a scope that is known already."""
        return self.offline._evaluator.state.traffic.keys.by_key[key_of_scope(scope)]

    def boundary(self) -> int:
        """The newest one that was stepped."""
        boundary = self.offline._evaluator.boundary
        assert boundary is not None
        return boundary

    def level(self, scope: str) -> str:
        """The newest one that callers know."""
        return self.levels[scope][-1][1] if scope in self.levels else "closed"

    def run(self, seconds: float, *, until: Callable[["Loop"], bool] = lambda _: False) -> None:
        """On for so long, or until something holds."""
        end_ms = self.now_ms + seconds * 1000.0
        while self.now_ms < end_ms and not until(self):
            self._tick()

    def since_s(self, scope: str) -> float:
        """How long the level has been what it is."""
        began_s = self.levels[scope][-1][0] if scope in self.levels else 0.0
        return self.now_ms / 1000.0 - began_s

    # ---- a tick ----

    def _tick(self) -> None:
        end_ms = self.now_ms + BUCKET_MS
        while self._events and self._events[0].at_ms < end_ms:
            event = heapq.heappop(self._events)
            self.now_ms = event.at_ms
            self._ask(event)
        self.now_ms = end_ms
        self._export()

    def _export(self) -> None:
        exported = self._waiting.pop(round(self.now_ms) // BUCKET_MS, {})
        # One without spans says that time goes on, as ingest's watermarks do.
        records = [exported[service] for service in sorted(exported)] or [[]]
        at_ms = BASE_MS + round(self.now_ms)
        if self.fed is not None:
            self.fed.append((records, at_ms))
        out = self.offline.feed_columns(columns_of(records), [at_ms] * len(records))
        # What a consumer of the decisions topic gets: bytes, in publishing order.
        read = [(d.scope, encode_decision(d)) for d in out.decisions]
        read += [(lease_key(lease.partition), encode_lease(lease)) for lease in out.leases]
        for client in itertools.chain.from_iterable(self._clients):
            for key, value in read:
                client.apply(key.encode(), value, kafka_ms=at_ms, is_live=True)
        self.decisions += out.decisions
        for decision in out.decisions:
            known = self.levels.setdefault(decision.scope, [])
            if not known or known[-1][1] != decision.level:
                known.append((self.now_ms / 1000.0, decision.level))

    def _client(self, load: Load, number: int) -> FeedClient:
        return FeedClient(
            now_ms=lambda: BASE_MS + int(self.now_ms),
            client_id=f"{load.caller or load.service}-{number}",
            caller=load.caller,
        )

    # ---- requests ----

    def _arrive_after(self, number: int, at_ms: float) -> None:
        """The next request of a load, which forgets the one before (Poisson)."""
        load, draw = self.loads[number], self._draws[number]
        per_s = load.per_s(at_ms / 1000.0) if callable(load.per_s) else load.per_s
        # Looked at again after a second at the latest: a rate may change.
        wait_ms = draw.expovariate(max(per_s, 1e-9)) * 1000.0
        is_request = wait_ms <= 1000.0
        self._push(at_ms + min(wait_ms, 1000.0), number, 1 if is_request else 0)

    def _push(self, at_ms: float, number: int, attempt: int, trace: int = 0) -> None:
        heapq.heappush(self._events, _Event(at_ms, next(self._numbers), number, attempt, trace))

    def _ask(self, event: _Event) -> None:
        load, draw = self.loads[event.load], self._draws[event.load]
        if event.attempt <= 1:
            self._arrive_after(event.load, event.at_ms)
        if event.attempt == 0:
            return
        trace = draw.getrandbits(64) | 1
        client = self._clients[event.load][event.number % load.clients_count]
        is_retry = event.attempt > 1 and load.obeys_retry_budget
        request = Request(trace_id=trace, is_retry=is_retry, can_set_deadline=load.can_set_deadline)
        end_ms, is_good = self._serve(load, draw, client, request, trace)
        second = int(event.at_ms / 1000.0)
        self.tally["offered" if event.attempt == 1 else "retried", load.service, second] += 1
        self.tally["good", load.service, second] += is_good
        if not is_good and event.attempt <= load.retries_max:
            self._push(end_ms + 50.0 * draw.random(), event.load, event.attempt + 1)

    def _serve(
        self, load: Load, draw: Random, client: FeedClient, request: Request, trace: int
    ) -> tuple[float, bool]:
        """One attempt: (its end, whether its user got what it asked for)."""
        at_ms, number = self.now_ms, next(self._numbers)
        scope = service_scope(load.caller or load.service)
        gate = client.admit_request(request, scope)
        if not load.caller:
            done = self._answered(load, draw, gate)
            self._span(load.service, SpanKind.SERVER, done, Ids(trace, number, 0), load)
            return done.end_ms, self._is_good(load, done)
        if not gate.passes:
            done = Done(at_ms, Outcome.SERVER_ERROR, _EFFECTS[gate.effect])
            self._span(load.caller, SpanKind.SERVER, done, Ids(trace, number, 0), load)
            return at_ms, False
        call = Ids(trace, next(self._numbers), number)
        done = self._answered(load, draw, client.admit_request(request, load.service), call)
        self._span(load.caller, SpanKind.CLIENT, done, call, load, target=load.service)
        is_good = self._is_good(load, done)
        own = Outcome.OK if is_good or not load.is_hard else Outcome.SERVER_ERROR
        mine = Done(done.end_ms, own, _EFFECTS[gate.effect])
        self._span(load.caller, SpanKind.SERVER, mine, Ids(trace, number, 0), load)
        return done.end_ms, is_good

    def _is_good(self, load: Load, done: Done) -> bool:
        is_ok = done.outcome == Outcome.OK and done.effect in (Effect.NONE, Effect.PROBE)
        return is_ok and done.end_ms - self.now_ms <= load.timeout_ms

    def _answered(
        self, load: Load, draw: Random, verdict: Verdict, call: Ids | None = None
    ) -> Done:
        """As whoever admitted it sees it. Behind a call the service works on when its caller has given
        up, and says so in a span of its own."""
        at_ms, effect = self.now_ms, _EFFECTS[verdict.effect]
        if not verdict.passes:
            return Done(at_ms, Outcome.SERVER_ERROR, effect)
        self.tally["passed", load.service, int(at_ms / 1000.0)] += 1
        took_ms, outcome = load.backend.serve(draw, at_ms / 1000.0)
        if call is not None:
            served = Done(at_ms + took_ms, outcome, Effect.NONE)
            ids = Ids(call.trace, next(self._numbers), call.span)
            self._span(load.service, SpanKind.SERVER, served, ids, load)
        deadline_ms = verdict.deadline_ms
        if deadline_ms is not None and deadline_ms < min(took_ms, load.timeout_ms):
            effect = _EFFECTS[verdict.effect_when(is_cut=load.marks_cut)]
            return Done(at_ms + deadline_ms, Outcome.TIMEOUT, effect)
        if call is not None and took_ms > load.timeout_ms:
            return Done(at_ms + load.timeout_ms, Outcome.TIMEOUT, effect)
        return Done(at_ms + took_ms, outcome, effect)

    def _span(
        self, service: str, kind: SpanKind, done: Done, ids: Ids, load: Load, *, target: str = ""
    ) -> None:
        raw = RawSpan(service, kind, target, self.now_ms, *done, *ids)
        every = load.export_every_ms
        tick = (int(done.end_ms) // every + 1) * every // BUCKET_MS
        self._waiting[tick][service].append(raw)
