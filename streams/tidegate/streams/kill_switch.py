"""The kill switch: a decision with the scope `override:*`, straight to the decisions topic. Clients obey it
before all else, and no worker need be alive. What it says is made here, purely; writing it is at the end.
"""

import time
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from tidegate.rules.actions import with_override
from tidegate.rules.policy import builtin_policy
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.control import OverrideSet
from tidegate.schemas.decision import Decision, Override, Signals, decode_decision, encode_decision
from tidegate.schemas.level import level_named
from tidegate.schemas.partitioner import partition_of
from tidegate.schemas.scope import OVERRIDE_ALL
from tidegate.schemas.topics import Topics
from tidegate.streams.control_client import deliver
from tidegate.streams.errors import Failure
from tidegate.streams.kafka_log import LogRecord, follow_log, log_spans

__all__ = [
    "newest_boundary",
    "newest_switch",
    "switch_decision",
    "switch_off",
    "switch_on",
    "switch_records",
]

_TICK_S = 0.02
_READ_S = 20.0


def switch_decision(override: OverrideSet, *, boundary: int) -> Decision:
    """The level's own actions, by the settings of the built-in policy."""
    settings = builtin_policy("default").settings[0]
    return Decision(
        scope=OVERRIDE_ALL,
        level=override.level,
        score=None,
        mode="enforce",
        actions=with_override(level_named(override.level), settings, 1),
        reason=f"kill switch by {override.by}: {override.reason}",
        signals=Signals(
            requests=0,
            window_s=0.0,
            error_ratio=0.0,
            own_error_ratio=0.0,
            p50_ms=None,
            p95_ms=None,
            self_p95_ms=None,
            target_ms=None,
            qps=0.0,
            shed=0,
            evidence="none",
            evidence_since_ms=None,
        ),
        window_start_ms=boundary * BUCKET_MS,
        window_end_ms=boundary * BUCKET_MS,
        since_ms=boundary * BUCKET_MS,
        boundary=boundary,
        partition=0,
        policy="override",
        override=Override(
            scope=override.scope,
            level=override.level,
            by=override.by,
            reason=override.reason,
            until_ms=override.until_ms,
        ),
        evidence_age_ms=0,
    )


def newest_boundary(records: Iterable[LogRecord]) -> int:
    """Of all switches that the topic still has, in force or not; -1 for none. Clients remember the last
    one's boundary after its end, too."""
    return max((found.boundary for found in _switches(records)), default=-1)


def newest_switch(records: Iterable[LogRecord], *, now_ms: int) -> Decision | None:
    """The one in force."""
    newest: Decision | None = None
    for record in records:
        if record.key == OVERRIDE_ALL.encode():
            newest = next(_switches([record]), None)
    if newest is None or (newest.override is not None and newest.override.until_ms <= now_ms):
        return None
    return newest


def switch_on(config: Mapping[str, str], topics: Topics, override: OverrideSet) -> Decision:
    """Writes it, newer than any before. Raises Failure."""
    before = newest_boundary(switch_records(config, topics))
    boundary = max(before + 1, override.asked_ms // BUCKET_MS)
    decision = switch_decision(override, boundary=boundary)
    deliver(
        config, topics.decisions, OVERRIDE_ALL.encode(), encode_decision(decision), is_once=False
    )
    return decision


def switch_off(config: Mapping[str, str], topics: Topics) -> None:
    """Its tombstone. Raises Failure."""
    deliver(config, topics.decisions, OVERRIDE_ALL.encode(), None, is_once=False)


def switch_records(config: Mapping[str, str], topics: Topics) -> list[LogRecord]:
    """What the decisions topic holds of it. Raises Failure."""
    spans = log_spans(config, [topics.decisions])
    here = partition_of(OVERRIDE_ALL, len(spans))
    mine = [span for span in spans if span.partition == here and span.low < span.end]
    found: list[LogRecord] = []
    if not mine:
        return found
    # `read_log` waits for whole batches, up to a second: too long for who wants to throw a switch.
    until_s = time.monotonic() + _READ_S
    for records, ended in follow_log(config, mine, tick_s=_TICK_S):
        found += [record for record in records if record.key == OVERRIDE_ALL.encode()]
        if ended or any(record.offset + 1 >= mine[0].end for record in records):
            return found
        if time.monotonic() > until_s:
            break
    raise Failure(f"{topics.decisions}: can't be read to its end; check that its broker is up")


def _switches(records: Iterable[LogRecord]) -> Iterator[Decision]:
    for record in records:
        if record.key == OVERRIDE_ALL.encode() and record.value is not None:
            try:
                yield decode_decision(record.value)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # of another version: its writer's clock is the best guess
