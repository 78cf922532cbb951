"""L1, L3 and L4: each row of the design's table under both packs, how they begin and end, and what they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.incidents.drive import DEFAULT, REFERENCE, SETTINGS, START, Driver, Seen
from tidegate.rules.incident_reasons import reasons
from tidegate.rules.incidents import IncidentState

SERVICE = [("shop", "")]
EDGE = [("shop", ""), ("shop", "pay")]
WELL = Seen()


@pytest.mark.parametrize(
    ("pack", "p95_ms", "target_ms", "requests", "is_l1"),
    [
        (REFERENCE, 200.5, -1, 50, True),
        (REFERENCE, 200.0, -1, 50, False),
        (REFERENCE, 201.0, 500, 50, True),
        (REFERENCE, 201.0, -1, 1, True),
        (DEFAULT, 201.0, -1, 50, True),
        (DEFAULT, 200.0, -1, 50, False),
        (DEFAULT, 201.0, 100, 50, True),
        (DEFAULT, 201.0, 500, 50, False),
        (DEFAULT, 501.0, 500, 50, True),
        (DEFAULT, 201.0, -1, 20, True),
        (DEFAULT, 201.0, -1, 19, False),
    ],
)
def test_l1_is_a_p95_above_the_limit_three_fast_windows_in_a_row(
    pack: int, p95_ms: float, target_ms: int, requests: int, is_l1: bool
) -> None:
    driver = Driver(SERVICE, [pack])
    slow = Seen(p95_ms=p95_ms, target_ms=target_ms, fast_requests=requests)
    assert driver.hold(29, slow) == [()]
    assert driver.hold(10, slow) == [("L1",) if is_l1 else ()]


def test_l1_is_of_edges_too() -> None:
    driver = Driver(EDGE, [DEFAULT, DEFAULT])
    assert driver.hold(40, WELL, Seen(p95_ms=300)) == [(), ("L1",)]


def test_l1_begins_anew_after_one_window_that_is_not_above() -> None:
    driver, slow = Driver(SERVICE, [DEFAULT]), Seen(p95_ms=300)
    driver.hold(20, slow)
    driver.hold(10, WELL)
    assert driver.hold(20, slow) == [()]
    assert driver.hold(10, slow) == [("L1",)]


@pytest.mark.parametrize("quiet", [Seen(fast_requests=0), Seen(fast_requests=5, p95_ms=1)])
def test_a_window_with_too_few_requests_neither_counts_for_l1_nor_ends_it(quiet: Seen) -> None:
    driver, slow = Driver(SERVICE, [DEFAULT]), Seen(p95_ms=300)
    driver.hold(20, slow)
    assert driver.hold(50, quiet) == [()]
    assert driver.hold(10, slow) == [("L1",)]
    assert driver.hold(500, quiet) == [("L1",)]


def test_l1_ends_at_the_first_window_that_is_not_above() -> None:
    driver = Driver(SERVICE, [DEFAULT])
    driver.hold(60, Seen(p95_ms=300))
    assert driver.hold(10, WELL) == [()]


@pytest.mark.parametrize(
    ("pack", "ratio", "is_on_evidence", "is_l3"),
    [
        (REFERENCE, 0.41, False, True),
        (REFERENCE, 0.40, True, False),
        (DEFAULT, 0.41, True, True),
        (DEFAULT, 0.41, False, False),
        (DEFAULT, 0.40, True, False),
    ],
)
def test_l3_is_a_timeout_ratio_above_the_limit(
    pack: int, ratio: float, is_on_evidence: bool, is_l3: bool
) -> None:
    bad = Seen(timeout_ratio=ratio, is_on_evidence=is_on_evidence)
    assert Driver(EDGE, [pack, pack]).step(WELL, bad) == [(), ("L3",) if is_l3 else ()]


def test_l3_is_of_edges_only() -> None:
    bad = Seen(timeout_ratio=1.0, is_on_evidence=True, fast_qps=0.0)
    assert Driver(SERVICE, [REFERENCE]).hold(30, bad) == [()]


def test_l3_ends_when_the_ratio_is_no_longer_above_the_limit() -> None:
    driver = Driver(EDGE, [DEFAULT, DEFAULT])
    driver.step(WELL, Seen(timeout_ratio=0.5, is_on_evidence=True))
    assert driver.step(WELL, Seen(timeout_ratio=0.4, is_on_evidence=True)) == [(), ()]


def test_silence_holds_l3_until_its_evidence_ends() -> None:
    driver = Driver(EDGE, [DEFAULT, DEFAULT])
    driver.step(WELL, Seen(timeout_ratio=0.5, is_on_evidence=True))
    silent = Seen(requests=0, fast_requests=0, is_on_evidence=True)
    assert driver.hold(200, WELL, silent) == [(), ("L3",)]
    assert driver.step(WELL, Seen(requests=0, fast_requests=0)) == [(), ()]


def test_silence_begins_no_l3() -> None:
    silent = Seen(requests=0, fast_requests=0, is_on_evidence=True)
    assert Driver(EDGE, [DEFAULT, DEFAULT]).hold(200, WELL, silent) == [(), ()]


@pytest.mark.parametrize(
    ("pack", "edge", "caller", "is_l3"),
    [
        (DEFAULT, Seen(fast_qps=0.19, usual_qps=1.0), WELL, True),
        (DEFAULT, Seen(fast_qps=0.2, usual_qps=1.0), WELL, False),
        (DEFAULT, Seen(fast_qps=0.0, usual_qps=0.9), WELL, False),
        (DEFAULT, Seen(fast_qps=0.0, usual_qps=-1.0), WELL, False),
        (DEFAULT, Seen(fast_qps=0.0), Seen(fast_qps=5.0), True),
        (DEFAULT, Seen(fast_qps=0.0), Seen(fast_qps=4.9), False),
        (DEFAULT, Seen(fast_qps=0.0), Seen(fast_requests=1, usual_qps=-1.0), True),
        (DEFAULT, Seen(fast_qps=0.0), Seen(fast_requests=0, usual_qps=-1.0), False),
        (DEFAULT, Seen(fast_qps=0.0), Seen(fast_requests=0, usual_qps=0.0), False),
        (DEFAULT, Seen(fast_qps=0.0), Seen(is_on_evidence=True), False),
        (DEFAULT, Seen(fast_qps=0.0), Seen(is_on_evidence=True, timeout_ratio=0.5), True),
        (REFERENCE, Seen(fast_qps=0.0), WELL, False),
    ],
)
def test_l3_is_also_a_stall_while_the_caller_gets_requests(
    pack: int, edge: Seen, caller: Seen, is_l3: bool
) -> None:
    driver = Driver(EDGE, [pack, pack])
    assert driver.hold(10, caller, edge) == [(), ()]
    assert driver.hold(10, caller, edge) == [(), ("L3",) if is_l3 else ()]


def test_no_stall_is_told_of_an_edge_whose_caller_is_unknown() -> None:
    driver = Driver([("shop", "pay"), ("web", "")], [DEFAULT, DEFAULT])
    assert driver.hold(40, Seen(fast_qps=0.0), WELL) == [(), ()]


def test_a_stall_ends_with_the_first_fast_window_that_is_none() -> None:
    driver = Driver(EDGE, [DEFAULT, DEFAULT])
    assert driver.hold(30, WELL, Seen(fast_qps=0.0)) == [(), ("L3",)]
    assert driver.hold(10, WELL, WELL) == [(), ()]


CASCADE = [("shop", ""), ("shop", "inventory"), ("shop", "pay"), ("shop", "stock")]
FAULT = Seen(timeout_ratio=0.9, is_on_evidence=True)
SOFT = Seen(timeout_ratio=0.9, is_on_evidence=True, is_hard=False)


@pytest.mark.parametrize(
    ("pack", "edges", "is_l4"),
    [
        (REFERENCE, (FAULT, FAULT, FAULT), True),
        (REFERENCE, (FAULT, SOFT, SOFT), True),
        (REFERENCE, (FAULT, FAULT, WELL), False),
        (DEFAULT, (FAULT, FAULT, FAULT), True),
        (DEFAULT, (FAULT, FAULT, SOFT), False),
        (DEFAULT, (FAULT, FAULT, WELL), False),
    ],
)
def test_l4_is_three_dependencies_at_l3_together(
    pack: int, edges: tuple[Seen, ...], is_l4: bool
) -> None:
    driver = Driver(CASCADE, [pack] * 4)
    assert driver.step(WELL, *edges)[0] == (("L4",) if is_l4 else ())


def test_dependencies_of_other_services_count_for_themselves() -> None:
    keys = [("a", ""), ("a", "x"), ("a", "y"), ("b", ""), ("b", "x"), ("c", "x"), ("c", "y")]
    driver = Driver(keys, [DEFAULT] * 7)
    now = driver.step(WELL, FAULT, FAULT, WELL, FAULT, FAULT, FAULT)
    assert "L4" not in {rule for rules in now for rule in rules}


def test_l4_ends_after_its_condition_was_gone_for_thirty_seconds() -> None:
    driver = Driver(CASCADE, [DEFAULT] * 4)
    driver.step(WELL, FAULT, FAULT, FAULT)
    assert driver.hold(60, WELL, FAULT, FAULT, WELL)[0] == ("L4",)
    driver.step(WELL, FAULT, FAULT, FAULT)  # and began again: the time starts anew
    assert driver.hold(60, WELL, FAULT, FAULT, WELL)[0] == ("L4",)
    assert driver.step(WELL, FAULT, FAULT, WELL)[0] == ()


KEYS = [("a", ""), ("a", "x"), ("a", "y"), ("a", "z"), ("c", "x"), ("d", "")]
MOMENTS = [
    WELL,
    FAULT,
    SOFT,
    Seen(timeout_ratio=0.9),
    Seen(requests=0, fast_requests=0, fast_qps=0.0, is_on_evidence=True, p95_ms=-1.0),
    Seen(requests=0, fast_requests=0, fast_qps=0.0),
    Seen(fast_requests=5, p95_ms=300.0, fast_qps=1.0),
    Seen(p95_ms=300.0, target_ms=250),
    Seen(p95_ms=300.0, target_ms=500, usual_qps=-1.0),
    Seen(fast_qps=1.9),
    Seen(timeout_ratio=0.4, is_on_evidence=True, fast_qps=0.0),
]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([1, 2, 9, 10, 11, 20, 30, 59, 60, 61]),
            st.tuples(*[st.sampled_from(MOMENTS)] * len(KEYS)),
        ),
        max_size=8,
    ),
    st.tuples(*[st.sampled_from([DEFAULT, REFERENCE])] * len(KEYS)),
)
def test_every_key_has_the_incidents_of_a_plain_recomputation(
    segments: list[tuple[int, tuple[Seen, ...]]], packs: tuple[int, ...]
) -> None:
    driver = Driver(KEYS, packs)
    for boundaries, seen in segments:
        driver.hold(boundaries, *seen)


def test_nobody_to_step_is_no_trouble() -> None:
    driver = Driver([], [])
    assert driver.step() == []


def test_reasons_name_the_numbers_and_since_when() -> None:
    driver = Driver(EDGE, [DEFAULT, DEFAULT])
    driver.hold(30, WELL, Seen(p95_ms=312.4, target_ms=250))
    driver.hold(20, WELL, Seen(p95_ms=312.4, target_ms=250, fast_qps=0.4, usual_qps=12.0))
    driver.step(WELL, Seen(requests=410, timeout_ratio=0.6195, is_on_evidence=True, fast_qps=0.4))
    slot = int(driver.live[1])
    told = reasons(driver.state, slot, SETTINGS[DEFAULT])
    assert [i.rule for i in told] == ["L1", "L3"]
    assert [i.since_ms for i in told] == [(START + 27) * 500, (START + 47) * 500]
    assert [i.reason for i in told] == [
        "L1: P95 312 ms over 250 ms, in 5 windows of 5 s in a row",
        (
            "L3: 62 % of 410 calls timed out in 30 s; 0.4 calls/s ended in 5 s, usual are 12, while "
            "the caller gets requests"
        ),
    ]


def test_held_incidents_keep_the_numbers_that_began_them() -> None:
    driver = Driver(EDGE, [DEFAULT, DEFAULT])
    driver.step(WELL, Seen(requests=410, timeout_ratio=0.62, is_on_evidence=True))
    driver.hold(70, WELL, Seen(requests=0, fast_requests=0, is_on_evidence=True))
    told = reasons(driver.state, int(driver.live[1]), SETTINGS[DEFAULT])
    assert [i.reason for i in told] == ["L3: 62 % of 410 calls timed out in 30 s"]


def test_a_cascade_names_its_dependencies_and_why_it_still_stands() -> None:
    driver, slot = Driver(CASCADE, [DEFAULT] * 4), 4
    driver.step(WELL, FAULT, FAULT, FAULT)
    told = reasons(driver.state, slot, SETTINGS[DEFAULT], driver.targets(0))
    assert [i.reason for i in told] == ["L4: 3 dependencies at L3: inventory, pay, stock"]
    driver.hold(2, WELL, FAULT, WELL, SOFT)
    told = reasons(driver.state, slot, SETTINGS[DEFAULT], driver.targets(0))
    assert [i.reason for i in told] == [
        "L4: 1 dependency at L3: inventory; under 3 since 08:00:01, ends after 30 s"
    ]


def test_a_cascade_of_many_names_only_some() -> None:
    driver = Driver(CASCADE, [DEFAULT] * 4)
    driver.step(WELL, FAULT, FAULT, FAULT)
    (told,) = reasons(
        driver.state, 4, SETTINGS[DEFAULT], [f"t{number:02d}" for number in range(12)]
    )
    assert told.reason.startswith("L4: 12 dependencies at L3: t00, t01, ")
    assert told.reason.endswith("t09 and 2 more")


def test_a_key_that_ended_leaves_no_incident() -> None:
    driver = Driver(CASCADE, [DEFAULT] * 4)
    driver.hold(40, Seen(p95_ms=300), FAULT, FAULT, FAULT)
    driver.state.reset(driver.live)
    assert driver.now() == [()] * 4
    fresh = IncidentState(6).columns()
    assert all((c == fresh[name]).all() for name, c in driver.state.columns().items())
    assert np.array_equal(driver.live, [4, 3, 2, 1])
