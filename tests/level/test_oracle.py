"""The vectorised step equals the scalar oracle, whatever comes, and takes only transitions of the table."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.level.drive import DEFAULT, LATCHED, START, Driver, inputs_of
from tests.level.protocol import Seen
from tests.level.strategies import phases, seen
from tidegate.rules.level_step import LevelState, step
from tidegate.rules.policy import Policy, load_policy

BY_PROTOCOL = pytest.mark.parametrize("policy", [DEFAULT, LATCHED], ids=["graded", "latched"])


@BY_PROTOCOL
@settings(max_examples=60, deadline=None)
@given(phases(), phases())
def test_the_step_equals_the_oracle_for_any_history(
    policy: Policy, one: list[tuple[int, Seen]], other: list[tuple[int, Seen]]
) -> None:
    driver = Driver(2, policy)
    first = [x for n, x in one for _ in range(n)]
    second = [x for n, x in other for _ in range(n)]
    for a, b in zip(first, second, strict=False):
        driver.step(a, b)


@BY_PROTOCOL
@settings(max_examples=60, deadline=None)
@given(st.lists(seen(), min_size=1, max_size=300))
def test_and_for_any_sequence_of_boundaries(policy: Policy, sequence: list[Seen]) -> None:
    driver = Driver(policy=policy)
    for x in sequence:
        driver.step(x)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 6), st.integers(1, 12), phases())
def test_and_for_other_numbers_of_the_latched_protocol(
    answers: int, buckets: int, probes: int, history: list[tuple[int, Seen]]
) -> None:
    latched = f"half_open_requests: {answers}, failed_buckets: {buckets}, cooling_probes: {probes}"
    text = f"{{name: other, settings: {{protocol: latched, latched: {{{latched}}}}}}}"
    driver = Driver(policy=load_policy(text, where="other.yaml"))
    for boundaries, x in history:
        driver.hold(boundaries, x)


BOTH = load_policy(
    "{name: both, services: [{match: {service: latched}, protocol: latched}]}",
    where="both.yaml",
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(seen(), seen()), min_size=1, max_size=200))
def test_keys_of_both_protocols_in_one_step_do_not_mind_each_other(
    sequence: list[tuple[Seen, Seen]],
) -> None:
    refused_count = 0
    state, alone = LevelState(2), (Driver(policy=DEFAULT), Driver(policy=LATCHED))
    for boundary, pair in enumerate(sequence, START + 1):
        changes = step(
            state,
            np.array([1, 0]),  # the latched key's slot first: order says nothing
            inputs_of(pair[::-1], np.zeros(2, np.int64)),
            BOTH.columns,
            np.array([1, 0]),
            boundary,
        )
        for driver, x in zip(alone, pair, strict=True):
            driver.step(x)
        for name, column in state.columns().items():
            assert column.tolist() == [d.state.columns()[name][1] for d in alone]
        refused_count += changes.refused_count
    assert refused_count == sum(driver.refused_count for driver in alone)


@BY_PROTOCOL
def test_healthy_keys_are_left_alone(policy: Policy) -> None:
    well = Seen(requests=20, fast_requests=100, qps=40.0, window_requests=1200.0)
    driver = Driver(policy=policy)
    driver.step(well)
    asked_at = int(driver.state.asked_at[1])
    driver.hold(5, replace(well, probes=3))
    assert driver.state.asked_at[1] == asked_at
