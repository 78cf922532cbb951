"""Which channels an event goes to: by tier, an end to whoever was told, nothing twice, nothing silenced."""

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.alert_send.alerts import Event, alert
from tidegate.schemas.alert import Alert
from tidegate.streams.alert import routing as routing_module
from tidegate.streams.alert.routing import Route, Routing

TIERS = {"P1": ("wecom", "phone"), "P2": ("dingtalk",)}
P1, P2 = TIERS["P1"], TIERS["P2"]
TierName = Literal["P1", "P2"]

STORIES: list[tuple[str, list[tuple[Event, TierName, bool]], list[tuple[str, ...]]]] = [
    ("plain", [("start", "P2", False), ("resolve", "P2", False)], [P2, P2]),
    (
        "escalated: the end goes to both",
        [("start", "P2", False), ("repeat", "P1", False), ("resolve", "P1", False)],
        [P2, P1, (*P2, *P1)],
    ),
    (
        "eased: the phone is told of the end",
        [("start", "P1", False), ("change", "P2", False), ("resolve", "P2", False)],
        [P1, P2, (*P1, *P2)],
    ),
    ("all silenced", [("start", "P1", True), ("resolve", "P1", True)], [(), ()]),
    ("nobody was told", [("start", "P1", True), ("resolve", "P1", False)], [(), ()]),
    (
        "silenced while it lasts: the end closes what is open",
        [("start", "P1", False), ("repeat", "P1", True), ("resolve", "P1", True)],
        [P1, (), P1],
    ),
    (
        "silenced until it repeats",
        [("start", "P2", True), ("repeat", "P1", False), ("resolve", "P1", False)],
        [(), P1, P1],
    ),
    ("its start is forgotten", [("resolve", "P1", False)], [P1]),
]


def story(events: list[tuple[Event, TierName, bool]], incident: str = "a" * 16) -> list[Alert]:
    return [
        alert(
            event,
            number=i,
            tier=tier,
            silenced="ops: maintenance" if is_silenced else None,
            incident=incident,
        )
        for i, (event, tier, is_silenced) in enumerate(events, start=1)
    ]


@pytest.mark.parametrize(
    ("events", "expected"), [row[1:] for row in STORIES], ids=[row[0] for row in STORIES]
)
def test_where_each_event_of_a_story_goes(
    events: list[tuple[Event, TierName, bool]], expected: list[tuple[str, ...]]
) -> None:
    routing = Routing(TIERS)
    assert [routing.take(event).channels for event in story(events)] == expected


@pytest.mark.parametrize(("is_silenced", "skipped"), [(True, "silenced"), (False, None)])
def test_why_an_event_goes_nowhere_is_said(is_silenced: bool, skipped: str | None) -> None:
    routing = Routing({"P1": (), "P2": ()})
    (event,) = story([("start", "P1", is_silenced)])
    assert routing.take(event) == Route((), skipped)  # type: ignore[arg-type] # rows are plain text
    assert routing.take(event) == Route((), "duplicate")


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["start", "change", "repeat", "resolve"]),
        st.sampled_from(["P1", "P2"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@given(a=EVENTS, b=EVENTS, data=st.data())
def test_doubles_in_any_place_change_nothing(
    a: list[tuple[Event, TierName, bool]],
    b: list[tuple[Event, TierName, bool]],
    data: st.DataObject,
) -> None:
    left = {"a": story(a, "a" * 16), "b": story(b, "b" * 16)}
    once: list[Alert] = []
    while any(left.values()):
        name = data.draw(st.sampled_from([name for name, rest in left.items() if rest]))
        once.append(left[name].pop(0))
    twice: list[Alert] = []
    for i, event in enumerate(once):
        twice.append(event)
        twice += data.draw(st.lists(st.sampled_from(once[: i + 1]), max_size=2))
    plain, doubled = Routing(TIERS), Routing(TIERS)
    routes = [
        [routing.take(event) for event in events]
        for routing, events in ((plain, once), (doubled, twice))
    ]
    expected, found = ([route for route in each if route.channels] for each in routes)
    assert found == expected


@given(EVENTS)
def test_an_end_goes_to_exactly_those_who_were_told(
    events: list[tuple[Event, TierName, bool]],
) -> None:
    routing, told = Routing(TIERS), set[str]()
    for event in story(events):
        channels = routing.take(event).channels
        if event.event != "resolve":
            told |= set(channels)
    (*_, end) = story([*events, ("resolve", "P1", False)])
    assert set(routing.take(end).channels) == told


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing_module, "INCIDENTS_MAX", 3)
    routing = Routing(TIERS)
    for i in range(10):
        routing.take(alert(incident=f"{i:016x}"))
    assert len(routing._incidents) == 3
    assert routing.take(alert(incident=f"{9:016x}")).skipped == "duplicate"
    assert routing.take(alert(incident=f"{0:016x}")).skipped is None
