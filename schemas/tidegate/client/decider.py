"""Answers from memory: the same for a client that Kafka feeds and for one that a test feeds.

Never raises into a request because of what was read, and holds its lock for microseconds only.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable

import msgspec

from tidegate.client.admission import (
    Priority,
    Request,
    Verdict,
    admit,
    nothing_known,
    priority_named,
    strictest,
)
from tidegate.client.lease import FALLBACKS, JITTER_MS, RAMP_MS, FallbackLevel
from tidegate.client.state import AdmissionState, first_state, seen
from tidegate.client.store import SCOPES_MAX, Answer, Store
from tidegate.schemas.decision import Decision
from tidegate.schemas.level import Level, level_named
from tidegate.schemas.scope import (
    OVERRIDE_ALL,
    edge_scope,
    graph_scope,
    inbound_scope,
    service_scope,
)

__all__ = ["Decider", "DeciderSettings", "OnChange", "wall_ms"]

OnChange = Callable[[str, Decision | None], None]
"""Called with a scope and its new decision (None: it ended), in the client's thread."""

_log = logging.getLogger("tidegate.client")
_STATES_MAX = 100_000
_NAMES_MAX = 10_000
_WARNED_MAX = 100
_VERDICT_COUNTERS = ("passed", "shed", "would_shed", "probes", "listener_failures")


def wall_ms() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


class DeciderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a client can be told. Raises ValueError for what can't be."""

    caller: str = ""
    """This service's own name, namespace and all as its spans have it. With it a plain name stands for
    the service *and* the edge to it, whichever is stricter."""
    client_id: str = ""
    """Spreads a fleet's probes and its way back over time; unique per process. Empty: made up."""
    fallback_level: FallbackLevel = "closed"
    """What is obeyed when nobody is known to evaluate a scope any more."""
    wanted: Callable[[str], bool] | None = None
    """Keeps only the scopes it says yes to, so that a service holds what concerns it."""
    scopes_max: int = SCOPES_MAX

    def __post_init__(self) -> None:
        if self.fallback_level not in FALLBACKS:
            raise ValueError(
                f"fallback_level: {self.fallback_level!r} is none; give one of {', '.join(FALLBACKS)}"
            )
        if self.scopes_max < 1:
            raise ValueError(f"scopes_max: {self.scopes_max} keeps nothing; give at least 1")


class Decider:
    """Answers from a store. `Client` feeds one from Kafka, `testing.FeedClient` from a test."""

    def __init__(
        self, settings: DeciderSettings | None = None, *, now_ms: Callable[[], int] = wall_ms
    ) -> None:
        given = settings or DeciderSettings()
        self._settings = (
            given if given.client_id else msgspec.structs.replace(given, client_id=uuid.uuid4().hex)
        )
        self._now_ms = now_ms
        self._store = self._new_store()
        self._warned: set[str] = set()
        self._filling: Store | None = None
        """The store that is being read from the topic's beginning, while the old one answers."""
        self._lock = threading.Lock()
        self._states: dict[str, AdmissionState] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self._listeners: tuple[OnChange, ...] = ()
        self._counters = dict.fromkeys(_VERDICT_COUNTERS, 0)

    # ---- for services ----

    def decide(self, scope: str) -> Answer:
        """What is obeyed for `payments` (a service) or a full scope (`edge:web->payments`)."""
        now_ms, store = self._now_ms(), self._store
        scopes = self._names.get(scope) or self._expand(scope)
        if len(scopes) == 1:
            return store.answer(scopes[0], now_ms)
        return max(_binding(store, (scopes,), now_ms), key=_severity)

    def admit(
        self,
        scope: str,
        *others: str,
        trace_id: str | bytes | int = "",
        session: str | bytes = "",
        priority: Priority | str = Priority.CRITICAL,
        is_retry: bool = False,
        is_heartbeat: bool = False,
        can_set_deadline: bool = True,
    ) -> Verdict:
        """Whether a request may be made; with several scopes (service, edge) the strictest verdict.

        priority: also by its name in baggage, `sheddable_plus` say.
        """
        request = Request(
            trace_id=trace_id,
            session=session,
            priority=priority_named(priority) if isinstance(priority, str) else priority,
            is_retry=is_retry,
            is_heartbeat=is_heartbeat,
            can_set_deadline=can_set_deadline,
        )
        return self.admit_request(request, scope, *others)

    def admit_request(self, request: Request, scope: str, *others: str) -> Verdict:
        """As `admit`, for a request that is described already (`tidegate.client.otel.request_of`)."""
        groups = [self._names.get(name) or self._expand(name) for name in (scope, *others)]
        now_ms, store = self._now_ms(), self._store
        with self._lock:
            verdict = self._admit(store, groups, request, now_ms)
            counters = self._counters
            counters["passed" if verdict.passes else "shed"] += 1
            if verdict.passes and not verdict.would_pass:
                counters["would_shed"] += 1
            if verdict.effect == "probe":
                counters["probes"] += 1
        return verdict

    def on_change(self, listener: OnChange) -> None:
        """Adds a listener for changed decisions. It runs in the client's thread and should be quick."""
        self._listeners = (*self._listeners, listener)

    def stats(self) -> dict[str, int]:
        """Counters by name since the start, and the gauges `scopes` and `stale_partitions`."""
        with self._lock:
            self._tell_lost()
            store = self._store
            return {
                **self._counters,
                **store.counters,
                "scopes": len(store),
                "stale_partitions": store.stale_partitions(self._now_ms()),
            }

    # ---- for whoever feeds it ----

    def begin(self) -> None:
        """The topic is read from its beginning, the first time or because it was made anew."""
        self._filling = self._new_store()

    def apply(self, key: bytes, value: bytes | None, *, kafka_ms: int, is_live: bool) -> None:
        """One record of the topic."""
        store = self._store if self._filling is None else self._filling
        scope = store.apply(key, value, kafka_ms=kafka_ms, now_ms=self._now_ms(), is_live=is_live)
        if scope is not None and store is self._store:
            self._tell(scope, store.newest(scope))

    def caught_up(self) -> None:
        """All that was there when reading began is known: from here on it is what answers."""
        new, old = self._filling, self._store
        if new is None:
            return
        new.caught_up(self._now_ms())
        new.end_override(self._now_ms())  # one of long ago: listeners never heard of it
        with self._lock:
            for name, count in old.counters.items():
                new.counters[name] += count
            self._store, self._filling = new, None
        for scope in (*old.scopes(), OVERRIDE_ALL):
            if new.newest(scope) is None and old.newest(scope) is not None:
                self._tell(scope, None)
        for scope in (*new.scopes(), OVERRIDE_ALL):
            decision, before = new.newest(scope), old.newest(scope)
            is_same = before is not None and decision and before.boundary == decision.boundary
            if decision is not None and not is_same:
                self._tell(scope, decision)

    def tick(self) -> None:
        """Says, once each, which partitions nobody evaluates any more, and that a kill switch is over.
        Called about every second."""
        with self._lock:
            self._tell_lost()
        if self._store.end_override(self._now_ms()):
            self._tell(OVERRIDE_ALL, None)

    # ---- inside ----

    def _new_store(self) -> Store:
        s = self._settings
        return Store(
            client_id=s.client_id,
            fallback_level=s.fallback_level,
            wanted=s.wanted,
            scopes_max=s.scopes_max,
        )

    def _expand(self, name: str) -> tuple[str, ...]:
        """The scopes that a name stands for; kept, since building them costs more than the answer."""
        if ":" in name and name.partition(":")[0] in _SCOPE_KINDS:
            scopes: tuple[str, ...] = (name,)
        else:
            scopes = (service_scope(name), inbound_scope(name), graph_scope(name))
            if self._settings.caller:
                scopes += (edge_scope(self._settings.caller, name),)
        if len(self._names) < _NAMES_MAX:
            self._names[name] = scopes
        return scopes

    def _admit(
        self, store: Store, groups: list[tuple[str, ...]], request: Request, now_ms: int
    ) -> Verdict:
        verdicts, states = [], []
        for answer in _binding(store, groups, now_ms):
            if answer.decision is None:
                verdicts.append(nothing_known(answer.scope))
                continue
            named = answer.scope  # an edge has one budget, whatever its target is called
            state = self._states.get(named)
            if state is None:
                if len(self._states) >= _STATES_MAX:
                    self._states.clear()  # only probes' and retries' tokens: they begin anew
                state = first_state(self._settings.client_id, named)
            verdict, moved = admit(
                answer.decision,
                request,
                state,
                now_ms,
                actions=answer.actions,
                level=answer.level,
                is_stale=answer.is_stale,
            )
            verdicts.append(verdict)
            states.append((named, state, verdict, moved))
        if not states:
            return verdicts[0]
        is_refused = not all(verdict.would_pass for verdict in verdicts)
        for scope, state, verdict, moved in states:
            # Where another scope refuses it, nothing is spent here, and nothing earned.
            is_idle = is_refused and verdict.would_pass
            self._states[scope] = _only_seen(state, request, now_ms) if is_idle else moved
        return verdicts[0] if len(verdicts) == 1 else strictest(verdicts)

    def _tell(self, scope: str, decision: Decision | None) -> None:
        if decision is not None and decision.findings and self._settings.caller:
            self._warn_of_circles(scope, decision)
        for listener in self._listeners:
            try:
                listener(scope, decision)
            except Exception:  # noqa: BLE001 - a listener's fault must not end the client
                self._counters["listener_failures"] += 1
                _log.exception("on_change listener failed for %s", scope)

    def _warn_of_circles(self, scope: str, decision: Decision) -> None:
        """Once for each way round that leads through this service: retries multiply there."""
        if scope != inbound_scope(self._settings.caller):
            return
        for finding in decision.findings:
            is_new = finding.name == "cycle" and finding.reason not in self._warned
            if is_new and len(self._warned) < _WARNED_MAX:
                self._warned.add(finding.reason)
                _log.warning("%s: %s", self._settings.caller, finding.reason)

    def _tell_lost(self) -> None:
        now_ms = self._now_ms()
        lost = self._store.lost(now_ms)
        if lost:
            _log.warning(
                "nobody evaluates partition %s of Tidegate any more; falling back to %s within %d s",
                ", ".join(map(str, lost)),
                self._settings.fallback_level,
                (JITTER_MS + RAMP_MS) // 1_000,
            )


def _binding(store: Store, groups: Iterable[tuple[str, ...]], now_ms: int) -> list[Answer]:
    """Answers of those scopes that count for a request. A group: one scope, or a name's service, all callers'
    view of it, its graph, and the caller's edge to it.

    Two views: where all callers' view is in force and at most degraded_1, the service's own view is not
    obeyed when it is worse (all callers' view then asks for degraded_1, see the graph stage). Views that ask
    for nothing are left out.
    """
    found = []
    for scopes in groups:
        own = store.answer(scopes[0], now_ms)
        if len(scopes) == 1:
            found.append(own)
            continue
        inbound, graph = store.answer(scopes[1], now_ms), store.answer(scopes[2], now_ms)
        views = [view for view in (inbound, graph) if _asks(view)]
        is_alone = inbound.status == "obeyed" and level_named(inbound.level) <= Level.DEGRADED_1
        if not is_alone or level_named(own.level) <= Level.DEGRADED_1:
            views.insert(0, own)
        views += [store.answer(scope, now_ms) for scope in scopes[3:]]
        found += views or [own]
    return found


def _asks(view: Answer) -> bool:
    return view.decision is not None and (
        view.level != "closed" or view.actions.admit_ratio < 1.0 or view.status == "override"
    )


_SCOPE_KINDS = frozenset({"service", "edge", "inbound", "graph", "override"})


def _only_seen(state: AdmissionState, request: Request, now_ms: int) -> AdmissionState:
    return state if request.is_heartbeat else seen(state, request.priority, now_ms)


def _severity(answer: Answer) -> tuple[bool, bool, int]:
    """Strictness: a level that is enforced and isn't closed before all that is only advice."""
    level = level_named(answer.level)
    return (answer.mode == "enforce" and level > 0, answer.decision is not None, level)
