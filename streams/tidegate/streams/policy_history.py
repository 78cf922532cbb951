"""What the control topic says of policies: which were in force when, and which one is tried. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.control import Abort, PolicyPush, Promote
from tidegate.streams.control_topic import Accepted, Refused
from tidegate.streams.errors import Failure

__all__ = ["PolicyStatus", "history_rows", "rollback_target", "rollout_text", "status_of"]


@dataclass(frozen=True, slots=True)
class PutInForce:
    """A policy that all run, or ran."""

    push: Accepted
    """The record that has its text."""
    by: Accepted
    """The record that put it in force: that push, or its promotion."""


@dataclass(frozen=True, slots=True)
class PolicyStatus:
    """Where an installation stands."""

    in_force: tuple[PutInForce, ...]
    """All that were, oldest first; the last one is."""
    tried: Accepted | None
    """The candidate (grey, shadow)."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        newest = self.in_force[-1] if self.in_force else None
        return {
            "in_force": None
            if newest is None
            else _row(newest.by) | {"policy": newest.push.label, "where": _where(newest.push)},
            "tried": None
            if self.tried is None
            else _row(self.tried) | {"policy": self.tried.label, "where": _where(self.tried)},
        }


def status_of(records: Iterable[Accepted | Refused]) -> PolicyStatus:
    """From the topic's records, in order."""
    in_force: list[PutInForce] = []
    tried: Accepted | None = None
    for one in records:
        if not isinstance(one, Accepted):
            continue
        match one.record:
            case PolicyPush(rollout="full"):
                in_force.append(PutInForce(one, one))
                tried = None
            case PolicyPush():
                tried = one
            case Promote() if tried is not None:
                in_force.append(PutInForce(tried, one))
                tried = None
            case Abort():
                tried = None
            case _:
                pass
    return PolicyStatus(tuple(in_force), tried)


def history_rows(records: Iterable[Accepted | Refused]) -> list[dict[str, Any]]:
    """All that was asked about policies, accepted or refused, in order."""
    return [_row(one) for one in records if isinstance(one.record, PolicyPush | Promote | Abort)]


def rollback_target(records: Sequence[Accepted | Refused], to: str | None) -> Accepted:
    """The push to make again: the one before the one in force, or an offset or label of an earlier
    accepted one. Raises Failure where there is none."""
    if to is None:
        put = status_of(records).in_force
        labels = [each.push.label for each in put]
        earlier = [each.push for each in put if each.push.label != labels[-1]]
        if not earlier:
            raise Failure(
                "there is no earlier policy to go back to; `tidegate policy history` lists all, "
                "`tidegate policy push default` puts the built-in one in force"
            )
        return earlier[-1]
    pushes = [one for one in records if isinstance(one, Accepted) and one.label]
    found = [one for one in pushes if to in (str(one.offset), one.label)]
    if not found:
        known = ", ".join(dict.fromkeys(one.label for one in reversed(pushes))) or "none at all"
        raise Failure(f"--to {to}: no accepted policy has this offset or label; there is {known}")
    return found[-1]


def rollout_text(push: PolicyPush) -> str:
    """`grey 10% and services cart-*`."""
    if push.rollout != "grey":
        return push.rollout
    share = [f"{push.share * 100:g}%"] if push.share else []
    services = [f"services {', '.join(push.services)}"] if push.services else []
    return f"grey {' and '.join(share + services)}"


def _row(one: Accepted | Refused) -> dict[str, Any]:
    record = one.record
    assert record is not None
    push = record if isinstance(record, PolicyPush) else None
    return {
        "offset": one.offset,
        "append_ms": one.append_ms,
        "effective_ms": one.effective_boundary * BUCKET_MS if isinstance(one, Accepted) else None,
        "kind": str(record.__struct_config__.tag),
        "policy": one.label if isinstance(one, Accepted) else "",
        "where": push.where if push else "",
        "rollout": rollout_text(push) if push else "",
        "by": record.by,
        "reason": record.reason,
        "is_accepted": isinstance(one, Accepted),
        "problems": [] if isinstance(one, Accepted) else list(one.problems),
    }


def _where(push: Accepted) -> str:
    return push.record.where if isinstance(push.record, PolicyPush) else ""
