"""Names, several scopes, listeners, counters, threads, and wrong settings."""

import sys
import threading
import time
import timeit
from collections.abc import Iterator

import pytest

from tests.client.test_store import SCOPE, START, client, opened
from tidegate.client import Client, Priority
from tidegate.client.testing import decision


@pytest.mark.parametrize(
    ("name", "caller", "scope"),
    [
        ("payments", "", "service:payments"),
        ("service:payments", "", "service:payments"),
        ("edge:web->payments", "", "edge:web->payments"),
        ("redis:6379", "", "service:redis:6379"),
        ("shop/payments", "", "service:shop/payments"),
        ("payments", "web", "edge:web->payments"),
        ("redis:6379", "web", "edge:web->redis:6379"),
        ("inbound:payments", "web", "inbound:payments"),
    ],
)
def test_a_plain_name_stands_for_a_service_and_for_the_edge_to_it(
    name: str, caller: str, scope: str
) -> None:
    feed, _ = client(caller=caller)
    feed.publish(decision(scope, "open", boundary=START, admit_ratio=0.0))
    assert feed.decide(name).scope == scope
    assert feed.decide(name).level == "open"
    assert not feed.admit(name, trace_id="a").passes


def test_the_strictest_of_several_scopes_is_obeyed() -> None:
    feed, _ = client(caller="web")
    feed.publish(decision("service:payments", "closed", boundary=START))
    feed.publish(opened())
    for verdict in (feed.admit("payments", trace_id="a"), feed.admit("x", SCOPE, trace_id="a")):
        assert (verdict.passes, verdict.scope) == (False, SCOPE)
    assert feed.decide("payments").level == "open"


def test_what_is_enforced_goes_before_what_is_only_advice() -> None:
    feed, _ = client(caller="web")
    feed.publish(decision("service:payments", "open", boundary=START, enforce=False))
    feed.publish(decision(SCOPE, "degraded_1", boundary=START))
    assert feed.decide("payments").level == "degraded_1"


def test_a_scope_spends_nothing_on_a_request_that_another_scope_refuses() -> None:
    feed, _ = client()
    feed.publish(opened())
    feed.publish(
        decision(
            "service:payments",
            "half_open",
            boundary=START,
            admit_ratio=0.0,
            probe_per_s=1.0,
            callers=1,
        )
    )
    feed.publish(decision("service:cart", "closed", boundary=START))
    for _ in range(30):
        assert not feed.admit("payments", "cart", SCOPE, trace_id="a").passes
    # Only the token that each state begins with: thirty refused tries earned the cart no retry.
    retries = [feed.admit("cart", trace_id="a", is_retry=True).passes for _ in range(3)]
    assert retries == [True, False, False]


def test_a_trace_id_may_be_what_opentelemetry_has() -> None:
    feed, _ = client()
    feed.publish(decision(SCOPE, "degraded_2", boundary=START, admit_ratio=0.5))
    for number in range(1, 200):
        text = f"{number:032x}"
        verdicts = {feed.admit(SCOPE, trace_id=form).passes for form in (number, text)}
        assert len(verdicts) == 1


def test_a_priority_may_be_given_by_its_name_in_baggage() -> None:
    feed, _ = client()
    feed.publish(decision(SCOPE, "degraded_2", boundary=START, admit_ratio=0.5))
    for i in range(100):
        assert feed.admit(SCOPE, trace_id=f"{i}", priority="critical_plus") is not None
        feed.admit(SCOPE, trace_id=f"{i}", priority=Priority.SHEDDABLE)
    assert feed.admit(SCOPE, trace_id="z", priority="critical_plus").passes
    assert not feed.admit(SCOPE, trace_id="z", priority="sheddable").passes


def fails(scope: str, said: object) -> None:
    raise RuntimeError(f"{scope}: {said}")


def test_listeners_hear_changes_and_a_broken_one_breaks_nothing() -> None:
    feed, _ = client()
    heard: list[tuple[str, str | None]] = []
    feed.on_change(fails)
    feed.on_change(lambda scope, said: heard.append((scope, said.level if said else None)))
    feed.publish(opened())
    feed.publish(opened())
    feed.end(SCOPE)
    feed.publish(decision("override:*", "closed", boundary=START))
    feed.end("override:*")
    assert heard == [(SCOPE, "open"), (SCOPE, None), ("override:*", "closed"), ("override:*", None)]
    assert feed.stats()["listener_failures"] == 4


def test_verdicts_are_counted() -> None:
    feed, _ = client()
    feed.publish(opened())
    feed.publish(decision("service:a", "open", boundary=START, enforce=False, admit_ratio=0.0))
    feed.publish(
        decision("service:b", "open", boundary=START, heartbeats_pass=True, admit_ratio=0.0)
    )
    feed.admit(SCOPE, trace_id="x")
    feed.admit("a", trace_id="x")
    feed.admit("b", trace_id="x", is_heartbeat=True)
    feed.admit("unknown", trace_id="x")
    stats = feed.stats()
    counted = {name: stats[name] for name in ("passed", "shed", "would_shed", "probes")}
    assert counted == {"passed": 3, "shed": 1, "would_shed": 1, "probes": 1}


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Threads take turns after microseconds, so that what isn't locked shows."""
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual_s)


@pytest.mark.usefixtures("quick_switches")
def test_many_threads_ask_while_decisions_change_and_no_budget_is_overdrawn() -> None:
    feed, _ = client()
    feed.publish(decision(SCOPE, "closed", boundary=START, retry_ratio_max=0.1))
    retries: list[int] = []
    failures: list[Exception] = []

    def ask() -> None:
        passed = 0
        try:
            for i in range(1_500):
                feed.admit(SCOPE, trace_id=f"{i}")
                passed += feed.admit(SCOPE, trace_id=f"{i}", is_retry=True).passes
                feed.decide("payments")
                feed.stats()
        except Exception as problem:  # noqa: BLE001 - shown below, in the test's own thread
            failures.append(problem)
        retries.append(passed)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(1_000):
        feed.publish(decision(f"service:s{i}", "closed", boundary=START))
    for thread in threads:
        thread.join()
    assert failures == []
    assert sum(retries) <= 4 * 1_500 * 0.1 + 1
    assert feed._states[SCOPE].sequence == 4 * 2 * 1_500  # no request's update was lost
    assert feed.stats()["passed"] == 4 * 1_500 + sum(retries)


@pytest.mark.parametrize(
    ("config", "settings", "said"),
    [
        ("", {}, "no brokers"),
        ({}, {}, "no brokers"),
        ({"bootstrap.servers": "a:1", "no.such.key": "1"}, {}, "no.such.key"),
        ({"bootstrap.servers": "a:1", "security.protocol": "carrier pigeon"}, {}, "security"),
        ("a:1", {"fallback_level": "half_open"}, "fallback_level"),
        ("a:1", {"scopes_max": 0}, "scopes_max"),
        ("a:1", {"topic_prefix": "white space"}, "prefix"),
    ],
)
def test_wrong_settings_are_told_at_once(config: object, settings: object, said: str) -> None:
    before = threading.active_count()
    with pytest.raises(ValueError, match=said):
        Client(config, **settings)  # type: ignore[arg-type]  # that is the test
    assert threading.active_count() == before


def test_an_answer_from_memory_takes_under_five_microseconds() -> None:
    """CPU time, the best of several runs: other processes must not decide this test."""
    feed, _ = client()
    for i in range(5_000):
        feed.publish(decision(f"service:s{i}", "closed", boundary=START))
    best_s = min(timeit.repeat(lambda: feed.decide("s77"), timer=time.process_time, number=10_000))
    assert best_s / 10_000 < 5e-6
