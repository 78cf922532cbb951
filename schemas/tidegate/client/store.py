"""What a client has heard: the newest decision of each scope, and the lease of each partition.

Told the time; does no I/O and never raises for what a record holds: it counts. One writer, many readers.
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from tidegate.client.lease import (
    FALLBACKS,
    FallbackLevel,
    PartitionLease,
    blend,
    is_late,
    jitter_ms,
    ramp,
)
from tidegate.schemas.decision import (
    DECISION_SCHEMA,
    Actions,
    Decision,
    Lease,
    LevelName,
    decode_decision,
    decode_lease,
)
from tidegate.schemas.scope import OVERRIDE_ALL, lease_key

__all__ = ["COUNTERS", "SCOPES_MAX", "Answer", "Store"]

SCOPES_MAX = 100_000
"""More scopes than that are not kept: about 1.5 kB each."""
ENDED_MAX = 10_000
"""Boundaries of ended scopes that are remembered, so that a frozen writer that wakes revives none."""
OVERRIDE_SETTLE_MS = 5_000
"""A worker says what holds after an operator's override within a second or two of its end; a scope of
which nothing more was heard by then falls back as without a lease."""

_LEASE_PREFIX = b"lease:"
COUNTERS = (
    "decisions",
    "leases",
    "tombstones",
    "not_newer",
    "late_decisions",
    "late_leases",
    "leases_lost",
    "undecodable",
    "unknown_schema",
    "overflow_scopes",
    "overflow_targets",
)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a scope, and what is obeyed."""

    scope: str
    status: Literal["none", "obeyed", "stale", "shown", "override"]
    """none: nothing is known. stale: its lease has run out, the fallback takes over by a ramp. shown: the
    newest decision was published too late, or its lease was over when it was read. override: the
    kill switch."""
    level: LevelName
    """The level that is obeyed."""
    mode: Literal["observe", "enforce"]
    actions: Actions
    """What is obeyed: the decision's, the fallback's, or between both on the ramp."""
    decision: Decision | None
    """The newest decision, to show; None where there is none."""

    @property
    def is_stale(self) -> bool:
        """Nobody is known to evaluate the scope any more, or its decision came too late."""
        return self.status in ("stale", "shown")


class _Held:
    """A scope's newest decision. `base` is what was obeyed before one that can't be."""

    __slots__ = ("answer", "base", "base_until_ms", "epoch", "lease", "over_ms")

    def __init__(self, answer: Answer, lease: PartitionLease, *, epoch: int) -> None:
        self.answer = answer
        self.lease = lease
        self.epoch = epoch
        """Of the lease when it was read; -1 where it came too late. Obeyed while both are the same."""
        self.base: Answer | None = None
        self.base_until_ms = 0
        override = None if answer.decision is None else answer.decision.override
        self.over_ms = _NEVER_MS if override is None else override.until_ms + OVERRIDE_SETTLE_MS
        """When it can't be obeyed any more, whatever its lease: it was an operator's, for a time."""


class _Head(msgspec.Struct):
    """The part of a record that every version has."""

    schema: int


_head_decoder = msgspec.json.Decoder(_Head)


class Store:
    """Fed with the records of the decisions topic, in order."""

    def __init__(
        self,
        *,
        client_id: str = "",
        fallback_level: FallbackLevel = "closed",
        wanted: Callable[[str], bool] | None = None,
        scopes_max: int = SCOPES_MAX,
    ) -> None:
        """wanted: keeps only the scopes it says yes to."""
        self.override: Decision | None = None
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self._held: dict[str, _Held] = {}
        self._called: dict[str, tuple[str, ...]] = {}
        """Edge of a target, as spans call it -> scopes whose decisions list it, the newest last."""
        self._ended: dict[str, int] = {}
        self._leases: dict[int, PartitionLease] = {}
        self._client_id = client_id
        self._fallback_level: FallbackLevel = fallback_level
        self._fallback = FALLBACKS[fallback_level]
        self._wanted = wanted
        self._scopes_max = scopes_max

    def __len__(self) -> int:
        return len(self._held)

    # ---- answers ----

    def answer(self, scope: str, now_ms: int) -> Answer:
        """What is obeyed for a scope now. About 0.2 µs while its lease runs. The edge to a target that has
        no decision of its own is the one that goes by its callee's name."""
        override = self.override
        if override is not None and not _is_over(override, now_ms):
            return _answer(scope, override, "override")
        held = self._held.get(scope) or self._held_by_target(scope)
        if held is None:
            return Answer(
                scope=scope,
                status="none",
                level="closed",
                mode="observe",
                actions=FALLBACKS["closed"],
                decision=None,
            )
        lease = held.lease
        if held.epoch == lease.epoch and now_ms <= lease.until_ms and now_ms < held.over_ms:
            return held.answer
        return self._fallen_back(held, now_ms)

    def newest(self, scope: str) -> Decision | None:
        """The newest decision of a scope itself, obeyed or not."""
        if scope == OVERRIDE_ALL:
            return self.override
        held = self._held.get(scope)
        return None if held is None else held.answer.decision

    def scopes(self) -> list[str]:
        """All scopes that have a decision."""
        return list(self._held)

    def stale_partitions(self, now_ms: int) -> int:
        """How many partitions were evaluated once and are no more."""
        return sum(0 < lease.until_ms < now_ms for lease in list(self._leases.values()))

    def end_override(self, now_ms: int) -> bool:
        """Lets go of a kill switch whose time is over. True once for each, for its listeners: nobody has
        obeyed it since then."""
        if self.override is None or not _is_over(self.override, now_ms):
            return False
        self._forget(OVERRIDE_ALL)
        return True

    def lost(self, now_ms: int) -> list[int]:
        """Partitions whose lease has run out since it was last asked: each is said once."""
        new = []
        for partition, lease in list(self._leases.items()):
            if now_ms <= lease.until_ms:
                lease.is_said = False
            elif not lease.is_said and lease.until_ms > 0:
                lease.is_said = True
                self.counters["leases_lost"] += 1
                new.append(partition)
        return new

    # ---- records ----

    def apply(
        self, key: bytes, value: bytes | None, *, kafka_ms: int, now_ms: int, is_live: bool
    ) -> str | None:
        """Takes one record. Returns the scope whose decision changed, None where nothing did.

        is_live: read as it was published; not so at start, and after a time without Kafka, when what
        is read may be old. kafka_ms below 0: the record has no time.
        """
        if kafka_ms < 0:
            kafka_ms = now_ms
        heard_ms = now_ms if is_live else min(kafka_ms, now_ms)
        if value is None:
            return self._end(key.decode(errors="replace"))
        try:
            if key.startswith(_LEASE_PREFIX):
                self._apply_lease(key, decode_lease(value), kafka_ms, heard_ms, is_live=is_live)
                return None
            decision = decode_decision(value)
            if decision.schema == DECISION_SCHEMA and decision.scope == key.decode():
                return self._apply_decision(decision, kafka_ms, heard_ms, is_live=is_live)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # counted below
        self._count_unread(value)
        return None

    def caught_up(self, now_ms: int) -> None:
        """All that was there at the start has been read. Where the lease was over by then, decisions are
        kept to be shown."""
        for lease in self._leases.values():
            if lease.until_ms < now_ms:
                lease.epoch += 1

    # ---- inside ----

    def _fallen_back(self, held: _Held, now_ms: int) -> Answer:
        newest, lease = held.answer, held.lease
        if held.epoch == lease.epoch:
            base, until_ms = newest, min(lease.until_ms, held.over_ms)
        elif held.base is not None:
            base, until_ms = held.base, held.base_until_ms
        else:
            return self._fallback_answer(newest, "shown")
        partition = 0 if base.decision is None else base.decision.partition
        fraction = ramp(now_ms - until_ms, jitter_ms(self._client_id, partition))
        status: Literal["stale", "shown"] = "stale" if base is newest else "shown"
        if fraction >= 1.0:
            return self._fallback_answer(newest, status)
        return Answer(
            scope=newest.scope,
            status=status,
            level=base.level,
            mode=base.mode,
            actions=blend(base.actions, self._fallback, fraction),
            decision=newest.decision,
        )

    def _fallback_answer(self, newest: Answer, status: Literal["stale", "shown"]) -> Answer:
        return msgspec.structs.replace(
            newest, status=status, level=self._fallback_level, actions=self._fallback
        )

    def _apply_lease(
        self, key: bytes, lease: Lease, kafka_ms: int, heard_ms: int, *, is_live: bool
    ) -> None:
        if lease.schema != DECISION_SCHEMA:
            self.counters["unknown_schema"] += 1
            return
        if key.decode() != lease_key(lease.partition) or lease.lease_ms <= 0:
            self.counters["undecodable"] += 1
            return
        held = self._leases.setdefault(lease.partition, PartitionLease())
        if lease.boundary <= held.boundary:
            self.counters["not_newer"] += 1
            return
        held.boundary = lease.boundary
        self.counters["leases"] += 1
        if is_late(kafka_ms=kafka_ms, window_end_ms=lease.window_end_ms, lease_ms=lease.lease_ms):
            self.counters["late_leases"] += 1
            return
        held.extend(heard_ms, lease.lease_ms, is_live=is_live)

    def _apply_decision(
        self, decision: Decision, kafka_ms: int, heard_ms: int, *, is_live: bool
    ) -> str | None:
        scope = decision.scope
        old = self._held.get(scope)
        known = self.newest(scope)
        fence = self._ended.get(scope, -1) if known is None else known.boundary
        if decision.boundary <= fence:
            self.counters["not_newer"] += 1
            return None
        self.counters["decisions"] += 1
        if scope == OVERRIDE_ALL:
            self.override = decision
            return scope
        edges = _edges_of(decision)
        if self._wanted is not None and not any(map(self._wanted, (scope, *edges))):
            if old is not None:  # it was wanted for a target that it had
                self._forget(scope)
            return None
        if old is None and len(self._held) >= self._scopes_max:
            self.counters["overflow_scopes"] += 1
            return None
        lease = self._leases.setdefault(decision.partition, PartitionLease())
        epoch = -1
        if is_late(
            kafka_ms=kafka_ms, window_end_ms=decision.window_end_ms, lease_ms=lease.lease_ms
        ):
            self.counters["late_decisions"] += 1
        else:
            # Published in time, it is a sign of life itself: leases come every 10 s only.
            lease.extend(heard_ms, lease.lease_ms, is_live=is_live)
            epoch = lease.epoch
        held = _Held(_answer(scope, decision, "obeyed"), lease, epoch=epoch)
        if epoch < 0 and old is not None:
            is_obeyed = old.epoch == old.lease.epoch
            held.base = old.answer if is_obeyed else old.base
            held.base_until_ms = (
                min(heard_ms, old.lease.until_ms, old.over_ms) if is_obeyed else old.base_until_ms
            )
        self._ended.pop(scope, None)
        self._held[scope] = held
        self._call(scope, old, edges)
        return scope

    def _end(self, scope: str) -> str | None:
        self.counters["tombstones"] += 1
        return self._forget(scope)

    def _forget(self, scope: str) -> str | None:
        ended = self.newest(scope)
        if ended is None:
            return None
        if len(self._ended) >= ENDED_MAX:
            self._ended.pop(next(iter(self._ended)))
        self._ended[scope] = ended.boundary
        if scope == OVERRIDE_ALL:
            self.override = None
        else:
            self._call(scope, self._held.get(scope), ())
            self._held.pop(scope, None)
        return scope

    def _held_by_target(self, edge: str) -> _Held | None:
        scopes = self._called.get(edge)
        return None if scopes is None else self._held.get(scopes[-1])

    def _call(self, scope: str, old: _Held | None, edges: tuple[str, ...]) -> None:
        """A scope is called by these edges of targets now. A target that moves is listed by two decisions
        for a moment: the one that came last has it."""
        before = (
            () if old is None or old.answer.decision is None else _edges_of(old.answer.decision)
        )
        if edges == before:
            return
        for edge in set(before) - set(edges):
            others = tuple(each for each in self._called.get(edge, ()) if each != scope)
            if others:
                self._called[edge] = others
            else:
                self._called.pop(edge, None)
        for edge in edges:
            known = self._called.get(edge, ())
            if scope in known:
                continue
            if not known and len(self._called) >= self._scopes_max:
                self.counters["overflow_targets"] += 1
                continue
            self._called[edge] = (*known, scope)

    def _count_unread(self, value: bytes) -> None:
        """A newer version may have other fields: its number alone says what it is."""
        try:
            is_other = _head_decoder.decode(value).schema != DECISION_SCHEMA
        except (msgspec.DecodeError, UnicodeDecodeError):
            is_other = False
        self.counters["unknown_schema" if is_other else "undecodable"] += 1


_NEVER_MS = 1 << 62


def _edges_of(decision: Decision) -> tuple[str, ...]:
    """Scopes of the same caller's edges to the targets that a decision lists."""
    if not decision.targets:
        return ()
    caller, arrow, _ = decision.scope.partition("->")
    return tuple(f"{caller}->{target}" for target in decision.targets) if arrow else ()


def _is_over(decision: Decision, now_ms: int) -> bool:
    """Whether an operator's time has passed; a decision without one lasts until it is replaced."""
    return decision.override is not None and now_ms >= decision.override.until_ms


def _answer(scope: str, decision: Decision, status: Literal["obeyed", "override"]) -> Answer:
    return Answer(
        scope=scope,
        status=status,
        level=decision.level,
        mode=decision.mode,
        actions=decision.actions,
        decision=decision,
    )
