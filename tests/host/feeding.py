"""Decisions with an L5, in few words."""

import time
from typing import Any

import msgspec

from tidegate.client.testing import decision
from tidegate.schemas.decision import Decision, Incident

__all__ = ["SCOPE", "SERVICE", "now_ms", "telling_to_end"]

SERVICE = "shop/pay"
SCOPE = f"service:{SERVICE}"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def telling_to_end(
    *instances: str,
    since_ms: int,
    boundary: int,
    enforce: bool = True,
    scope: str = SCOPE,
    rule: str = "L5",
    **more: Any,
) -> Decision:
    """A decision whose L5 began then."""
    plain = decision(scope, "closed", boundary=boundary, enforce=enforce, terminate=list(instances))
    incident = msgspec.convert(
        {"rule": rule, "since_ms": since_ms, "reason": "L5: kernel oopses rose by 1 on pay-1"},
        Incident,
    )
    return msgspec.structs.replace(plain, **{"incidents": [incident], **more})
