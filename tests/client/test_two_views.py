"""A service's own view and all callers' view of it: more than degraded_1 binds everyone only where both agree."""

import msgspec
import pytest

from tests.client.test_store import START, client
from tidegate.client.testing import FeedClient, decision
from tidegate.schemas.decision import Finding
from tidegate.schemas.level import LEVEL_NAMES, Level

SHUT = {"open": 0.0, "degraded_2": 0.7}


def told(**levels: str) -> FeedClient:
    """Decisions about `pay`, by kind of scope; `edge` is `web`'s."""
    feed, _ = client(caller="web")
    scopes = {"edge": "edge:web->pay"}
    for kind, level in levels.items():
        scope = scopes.get(kind, f"{kind}:pay")
        feed.publish(
            decision(scope, level, boundary=START, admit_ratio=SHUT.get(level, 1.0))  # type: ignore[arg-type]  # a name of a level
        )
    return feed


@pytest.mark.parametrize(
    ("levels", "scope", "level"),
    [
        ({"service": "open"}, "service:pay", "open"),
        ({"service": "open", "inbound": "degraded_1"}, "inbound:pay", "degraded_1"),
        ({"service": "open", "inbound": "open"}, "service:pay", "open"),
        ({"service": "degraded_2", "inbound": "open"}, "inbound:pay", "open"),
        ({"service": "closed", "inbound": "open"}, "inbound:pay", "open"),
        ({"service": "degraded_1", "inbound": "closed"}, "service:pay", "degraded_1"),
        ({"service": "open", "inbound": "degraded_1", "edge": "open"}, "edge:web->pay", "open"),
        ({"service": "closed", "graph": "open"}, "graph:pay", "open"),
        ({"inbound": "degraded_2"}, "inbound:pay", "degraded_2"),
        ({"inbound": "closed", "graph": "closed"}, "service:pay", "closed"),
    ],
    ids=lambda value: (
        " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else ""
    ),
)
def test_the_strictest_binds_and_a_view_alone_does_not(
    levels: dict[str, str], scope: str, level: str
) -> None:
    feed = told(**levels)
    assert (feed.decide("pay").scope, feed.decide("pay").level) == (scope, level)
    passing = sum(feed.admit("pay", trace_id=f"{n}").passes for n in range(1_000)) / 1_000
    assert passing == pytest.approx(SHUT.get(level, 1.0), abs=0.05)


@pytest.mark.parametrize("own", [name for name in LEVEL_NAMES if name != "closed"])
def test_without_the_graph_stage_the_own_view_is_obeyed(own: str) -> None:
    assert told(service=own).decide("pay").level == own


def test_a_view_whose_lease_is_over_does_not_hold_the_other_one_back() -> None:
    feed, clock = client(caller="web")
    feed.publish(decision("inbound:pay", "closed", boundary=START, partition=8))
    clock.ms += 60_000
    late = START + 120
    feed.publish(decision("service:pay", "open", boundary=late, admit_ratio=0.0))
    assert feed.decide("pay").level == "open"
    assert not feed.admit("pay", trace_id="a").passes


def test_the_kill_switch_is_obeyed_before_all_views() -> None:
    feed = told(service="open", inbound="open", edge="open")
    feed.publish(decision("override:*", "closed", boundary=START + 1))
    assert feed.decide("pay").status == "override"
    assert feed.admit("pay", trace_id="a").passes


def test_a_service_that_its_requests_come_back_to_is_warned_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    feed, _ = client(caller="web")
    finding = Finding(name="cycle", since_ms=0, reason="requests go round: web -> pay -> web")
    for boundary, scope in ((1, "inbound:web"), (2, "inbound:web"), (3, "inbound:pay")):
        plain = decision(scope, "closed", boundary=START + boundary)
        feed.publish(msgspec.structs.replace(plain, findings=[finding]))
    said = [r.getMessage() for r in caplog.records if r.name == "tidegate.client"]
    assert said == ["web: requests go round: web -> pay -> web"]


def test_levels_are_compared_as_they_are_ordered() -> None:
    assert Level.DEGRADED_1 < Level.DEGRADED_2 < Level.HALF_OPEN < Level.OPEN
