"""Records that series make, read back by protobuf's parser and counted."""

from collections import Counter, defaultdict

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.policy_test.files import series
from tidegate.schemas.outcome import Effect
from tidegate.streams.policy_test.traffic import BASE_MS, Admits, Admitted, Key, Traffic

Arrived = tuple[int, str, Span]
"""(step at whose end it arrived, instance, span)."""


def arrivals(
    texts: dict[Key, str], *, steps: int = 200, seed: int = 1, admits: Admits | None = None
) -> dict[str, list[Arrived]]:
    """By service or `caller->target`."""
    traffic = Traffic({k: series(t) for k, t in texts.items()}, seed, admits=admits)
    out: defaultdict[str, list[Arrived]] = defaultdict(list)
    for step in range(1, steps + 1):
        record, kafka_ms = traffic.next_record()
        assert kafka_ms == BASE_MS + step * 500
        for resource in ExportTraceServiceRequest.FromString(record).resource_spans:
            values = [a.value.string_value for a in resource.resource.attributes]
            service, instance = values[0], values[1] if len(values) > 1 else ""
            for span in resource.scope_spans[0].spans:
                target = attributes(span).get("peer.service", "")
                name = f"{service}->{target}" if target else service
                out[name].append((step, instance, span))
    return out


def attributes(span: Span) -> dict[str, str]:
    return {a.key: a.value.string_value or str(a.value.int_value) for a in span.attributes}


def statuses(found: list[Arrived]) -> Counter[str]:
    return Counter(attributes(s).get("http.response.status_code", "none") for _, _, s in found)


def ms(span: Span) -> float:
    return (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6


def start_ms(span: Span) -> float:
    return span.start_time_unix_nano / 1e6 - BASE_MS


@pytest.mark.parametrize(
    ("rate", "count"),
    [("200rps", 2000), ("1rps", 10), ("6rpm", 1), ("0rps", 0), ("0..200rps", 1000), ("3rps", 30)],
)
def test_ten_seconds_hold_as_many_requests_as_the_rate_says(rate: str, count: int) -> None:
    found = arrivals({("pay", ""): f"{rate} p50=1ms for 10s"})["pay"]
    assert len(found) == count


def test_requests_come_evenly_and_inside_their_segment() -> None:
    found = arrivals({("pay", ""): "0rps for 2s; then 20rps p50=1ms for 2s"})["pay"]
    by_step = Counter(int(start_ms(span) // 500) for _, _, span in found)
    assert by_step == {4: 10, 5: 10, 6: 10, 7: 10}


def test_two_hundred_requests_have_just_the_quantiles_that_were_asked_for() -> None:
    found = arrivals({("pay", ""): "20rps p50=20ms p95=80ms for 10s"})["pay"]
    took = sorted(ms(span) for _, _, span in found)
    assert took[99] <= 20 <= took[100]
    assert took[189] <= 80 <= took[190]


@pytest.mark.parametrize(
    ("words", "status", "least", "most"),
    [
        ("errors=1/8", "500", 250, 250),
        ("errors=1/1", "500", 2000, 2000),
        ("errors=100%", "500", 2000, 2000),
        ("errors=10%", "500", 160, 240),
        ("errors=0..100%", "500", 900, 1060),
        ("errors=40% timeouts=40%", "504", 720, 880),
        ("throttled=10%", "429", 160, 240),
        ("client_errors=1/10", "404", 200, 200),
        ("cancelled=1/10", "499", 200, 200),
    ],
)
def test_outcomes_come_as_often_as_their_share(
    words: str, status: str, least: int, most: int
) -> None:
    found = arrivals({("pay", ""): f"200rps p50=1ms timeout=2ms {words} for 10s"})["pay"]
    assert len(found) == 2000
    assert least <= statuses(found)[status] <= most


def test_what_times_out_lasts_as_long_as_the_time_out() -> None:
    found = arrivals({("shop", "pay"): "10rps p50=1ms p95=2ms timeouts=1/2 timeout=3s for 10s"})
    assert sorted(Counter(ms(span) > 100 for _, _, span in found["shop->pay"]).values()) == [50, 50]
    late = [span for _, _, span in found["shop->pay"] if ms(span) > 100]
    assert {ms(span) for span in late} == {3000.0}
    assert all(attributes(span)["error.type"] == "timeout" for span in late)


def test_another_series_beside_it_or_a_longer_one_changes_nothing() -> None:
    def sent(texts: dict[Key, str], seed: int = 1) -> list[tuple[float, float, str]]:
        found = arrivals(texts, steps=20, seed=seed)["pay"]
        return [
            (start_ms(s), ms(s), attributes(s)["http.response.status_code"]) for _, _, s in found
        ]

    text = "20rps p50=20ms errors=10% for 10s"
    alone = sent({("pay", ""): text})
    assert alone == sent(
        {("pay", ""): text, ("a", ""): "20rps for 5s", ("z", "pay"): "9rps for 5s"}
    )
    assert alone == sent({("pay", ""): f"{text}; then 90rps for 9s"})
    assert alone == sent({("pay", ""): text})
    assert alone != sent({("pay", ""): text}, seed=2)


@pytest.mark.parametrize(
    ("words", "arrives_at"),
    [
        ("p50=1ms", {1, 2, 3, 4}),
        ("p50=1s p95=1s", {3, 4, 5, 6}),
        ("p50=1ms export=5s", {10}),
        ("p50=1ms delay=3s", {7, 8, 9, 10}),
        ("p50=1ms export=1s delay=500ms", {3, 5}),
    ],
)
def test_spans_arrive_when_they_are_exported(words: str, arrives_at: set[int]) -> None:
    found = arrivals({("pay", ""): f"2rps {words} for 2s"}, steps=20)["pay"]
    assert {step for step, _, _ in found} == arrives_at


def test_a_wrong_clock_moves_the_times_and_not_the_arrival() -> None:
    right = arrivals({("pay", ""): "2rps p50=1ms for 2s"}, steps=9)["pay"]
    wrong = arrivals({("pay", ""): "2rps p50=1ms skew=-2s for 2s"}, steps=9)["pay"]
    assert [step for step, _, _ in right] == [step for step, _, _ in wrong]
    assert [
        start_ms(a) - start_ms(b) for (_, _, a), (_, _, b) in zip(right, wrong, strict=True)
    ] == ([2000.0] * 4)


def test_instances_take_turns_and_a_bad_one_is_alone_bad() -> None:
    text = "20rps p50=1ms instances=4 bad_instance=2 errors=100% for 2s"
    found = arrivals({("pay", ""): text}, steps=9)["pay"]
    assert Counter(name for _, name, _ in found) == {f"pod-{i}": 10 for i in (1, 2, 3, 4)}
    failed = {name for _, name, s in found if attributes(s)["http.response.status_code"] == "500"}
    assert failed == {"pod-2"}


def test_sampled_spans_say_how_many_they_stand_for() -> None:
    found = arrivals({("pay", ""): "200rps p50=1ms sampled=25% for 10s"})["pay"]
    assert 400 <= len(found) <= 600
    assert {span.trace_state for _, _, span in found} == {"ot=th:c"}


def test_a_call_belongs_to_a_request_of_its_caller_which_lasts_as_long() -> None:
    found = arrivals(
        {
            ("shop", ""): "10rps p50=1ms p95=2ms instances=2 for 5s",
            ("shop", "pay"): "20rps p50=30ms p95=50ms for 5s",
            ("shop", "db"): "5rps p50=1ms p95=2ms for 5s",
        }
    )
    requests = {span.span_id: (step, name, span) for step, name, span in found["shop"]}
    assert len(found["shop->pay"]) == 2 * len(requests)
    for target, most in (("pay", 2), ("db", 1)):
        calls = found[f"shop->{target}"]
        assert set(Counter(s.parent_span_id for _, _, s in calls).values()) == {most}
        for step, name, call in calls:
            its_step, its_name, request = requests[call.parent_span_id]
            assert (step, name, call.trace_id) == (its_step, its_name, request.trace_id)
            assert call.end_time_unix_nano <= request.end_time_unix_nano
            assert call.start_time_unix_nano >= request.start_time_unix_nano


def test_failed_calls_fail_the_request_as_often_as_the_series_says() -> None:
    for share, failed in (("0%", 0), ("1/4", 25), ("100%", 100)):
        found = arrivals(
            {
                ("shop", ""): "10rps p50=1ms for 10s",
                ("shop", "pay"): f"10rps p50=1ms errors=100% fails_request={share} for 10s",
            }
        )
        assert statuses(found["shop"])["500"] == failed


def test_heartbeats_come_beside_the_traffic_and_are_marked() -> None:
    found = arrivals({("pay", ""): "4rps heartbeats=2rps p50=1ms for 5s"})["pay"]
    marks = Counter(attributes(span).get("tidegate.effect", "") for _, _, span in found)
    assert marks == {"": 20, "probe": 10}


class Shut:
    """A client that lets every second request pass, for 5 ms."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, key: Key, trace_id: bytes, now_ms: int, *, is_heartbeat: bool) -> Admitted:
        self.asked.append(now_ms)
        return Admitted(Effect.SHED) if len(self.asked) % 2 else Admitted(deadline_us=5_000)


def test_what_a_client_turns_away_or_cuts_is_marked() -> None:
    shut = Shut()
    found = arrivals({("shop", "pay"): "10rps p50=9ms p95=10ms for 4s"}, admits=shut)["shop->pay"]
    marks = Counter(attributes(span)["tidegate.effect"] for _, _, span in found)
    assert marks == {"shed": 20, "cut": 20}
    assert {ms(s) for _, _, s in found if attributes(s)["tidegate.effect"] == "cut"} == {5.0}
    assert all(BASE_MS <= now < BASE_MS + 4_000 for now in shut.asked)


def test_a_service_that_obeys_is_shed_but_never_cut_by_callers_nobody_described() -> None:
    found = arrivals({("pay", ""): "10rps p50=9ms p95=10ms for 4s"}, admits=Shut())["pay"]
    marks = Counter(attributes(span).get("tidegate.effect", "") for _, _, span in found)
    assert marks == {"shed": 20, "": 20}
