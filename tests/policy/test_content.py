"""A policy's content as bytes: the same policy on the other side, nothing else."""

import zlib

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.policy.test_policy import SHOP
from tidegate.rules.policy import (
    PACKS,
    Policy,
    PolicyError,
    builtin_policy,
    load_policy,
    policy_from_content,
)
from tidegate.rules.policy_content import CONTENT_BYTES_MAX, encode_content

POLICIES = [*map(builtin_policy, PACKS), load_policy(SHOP, where="shop.yaml")]
BRAVE = load_policy("name: b\nextends: reference\nsettings: {mode: enforce}", where="b")


@pytest.mark.parametrize("policy", [*POLICIES, BRAVE], ids=lambda policy: policy.label)
def test_content_gives_the_same_policy_back(policy: Policy) -> None:
    again = policy_from_content(policy.content())
    assert (again.label, again.file, again.warnings) == (policy.label, policy.file, policy.warnings)
    assert again.content() == policy.content()
    assert np.array_equal(again.columns.target_ms, policy.columns.target_ms)
    for key in (("pay-eu", ""), ("pay-eu", "db1"), ("cart", "db1")):
        assert again.settings_for(*key) == policy.settings_for(*key)


def test_content_does_not_depend_on_the_order_in_the_file() -> None:
    one = load_policy("name: x\nsettings: {target_ms: 5, mode: enforce}", where="a")
    other = load_policy("settings: {mode: enforce, target_ms: 5}\nname: x", where="b")
    assert one.content() == other.content()


def test_content_is_small_even_with_a_thousand_rules() -> None:
    rules = "".join(
        f"  - match: {{service: shop-{i}-checkout, target: 'db-{i % 7}*'}}\n"
        f"    target_ms: {100 + i}\n    level: {{sleep_s: {10 + i % 20}}}\n"
        for i in range(1000)
    )
    policy = load_policy(f"name: big\nservices:\n{rules}", where="big.yaml")
    assert len(builtin_policy("default").content()) < 4_000
    assert len(policy.content()) < 60_000
    assert policy_from_content(policy.content()).label == policy.label


def test_the_same_bytes_are_read_once() -> None:
    data = builtin_policy("default").content()
    assert policy_from_content(data) is policy_from_content(bytes(bytearray(data)))


def raw() -> dict[str, object]:
    found: dict[str, object] = msgspec.msgpack.decode(
        zlib.decompress(builtin_policy("default").content())
    )
    return found


def without(name: str) -> dict[str, object]:
    return {key: value for key, value in raw().items() if key != name}


GOOD = builtin_policy("default").content()
REFUSED = {
    "empty": b"",
    "no zlib": b"name: x",
    "cut": GOOD[:-5],
    "tail": GOOD + b"x",
    "no msgpack": zlib.compress(b"\xc1"),
    "a list": zlib.compress(msgspec.msgpack.encode([1])),
    "numbers for names": zlib.compress(msgspec.msgpack.encode({1: 2})),
    "bytes": zlib.compress(msgspec.msgpack.encode({"name": b"x"})),
    "deep": zlib.compress(b"\x91" * 100_000 + b"\x90"),
    "bomb": zlib.compress(b"\x00" * (CONTENT_BYTES_MAX + 1)),
    "without settings": encode_content(without("settings")),
    "without a name": encode_content(without("name")),
    "a setting of tomorrow": encode_content(raw() | {"tomorrow": 1}),
    "a rule without its match": encode_content(raw() | {"services": [{"target_ms": 5}]}),
    "NaN": encode_content(raw() | {"limits": {"services_max": float("nan"), "keys_max": 1}}),
    "a broken law": encode_content(raw() | {"limits": {"services_max": 5, "keys_max": 1}}),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_bytes_that_are_no_policy_are_refused(data: bytes) -> None:
    with pytest.raises(PolicyError, match="policy content"):
        policy_from_content(data)


@settings(deadline=None)
@given(st.data())
def test_damaged_content_is_refused_and_never_another_policy(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(GOOD) - 1))
    bit = data.draw(st.integers(0, 7))
    damaged = bytearray(GOOD)
    damaged[at] ^= 1 << bit
    try:
        found = policy_from_content(bytes(damaged))
    except PolicyError:
        return
    assert found.label == builtin_policy("default").label
