"""What the last 24 hours' decisions turned away, or would have: read from the newest decision of a service
and of each of its edges."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from tidegate.schemas.decision import Decision, decode_decision
from tidegate.schemas.scope import edge_scope, service_scope
from tidegate.streams.kafka_log import log_spans, read_log

__all__ = ["newest_decisions", "shed_lines", "shed_report"]

_NUMBERS = (1, 2, 3)
"""Columns that are set to the right."""


def newest_decisions(
    config: Mapping[str, str], topic: str, service: str, target: str = ""
) -> list[Decision]:
    """Of one edge; without a target of the service and all its edges, the service first. Raises Failure
    where the broker doesn't answer or the topic is missing."""
    own, prefix = service_scope(service), edge_scope(service, target)
    newest: dict[str, Decision] = {}
    for record in read_log(config, log_spans(config, [topic])):
        scope = (record.key or b"").decode(errors="replace")
        is_asked = scope == prefix if target else scope == own or scope.startswith(prefix)
        if not is_asked:
            continue
        if record.value is None:
            newest.pop(scope, None)
            continue
        try:
            decision = decode_decision(record.value)
        except msgspec.DecodeError:
            continue  # `tidegate watch` tells of it
        known = newest.get(scope)
        if known is None or known.boundary < decision.boundary:
            newest[scope] = decision
    return sorted(newest.values(), key=lambda decision: (decision.scope != own, decision.scope))


def shed_lines(decisions: Sequence[Decision], scope: str) -> Iterator[str]:
    """A table: scope, requests while not closed, turned away of them, as of when, and whether obeyed."""
    if not decisions:
        yield f"last 24 h: no decision of {scope} was published yet"
        return
    rows = [("last 24 h", "requests", "turned away", "share", "as of", "mode")]
    rows += [_row(decision) for decision in decisions]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.rjust(width) if column in _NUMBERS else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def shed_report(decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [
        {
            "scope": decision.scope,
            "requests": decision.shed_24h.requests if decision.shed_24h else 0,
            "turned_away": decision.shed_24h.turned_away if decision.shed_24h else 0,
            "share": _share(decision),
            "as_of_ms": decision.window_end_ms,
            "mode": decision.mode,
            "policy": decision.policy,
        }
        for decision in decisions
    ]


def _row(decision: Decision) -> tuple[str, str, str, str, str, str]:
    as_of = datetime.fromtimestamp(decision.window_end_ms / 1000, UTC)
    shed = decision.shed_24h
    told = "were turned away" if decision.mode == "enforce" else "would have been"
    return (
        decision.scope,
        f"{shed.requests if shed else 0:,}",
        f"{shed.turned_away if shed else 0:,}",
        f"{_share(decision):.1%}",
        as_of.strftime("%Y-%m-%dT%H:%M:%SZ"),
        f"{decision.mode}: {told}, under {decision.policy}",
    )


def _share(decision: Decision) -> float:
    shed = decision.shed_24h
    return shed.turned_away / shed.requests if shed and shed.requests else 0.0
