"""docs/policy.schema.json is what `tidegate policy schema` prints; it accepts good policies and refuses those
whose form is wrong.

Mend with: python -m tests.policy.test_schema > docs/policy.schema.json.
"""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.policy.test_docs import EXAMPLE
from tests.policy.test_policy import SHOP, given_back
from tidegate.rules.policy import PACKS, PolicyError, builtin_policy, load_policy
from tidegate.rules.policy_schema import policy_schema

DOC = Path(__file__).parents[2] / "docs" / "policy.schema.json"
SCHEMA = policy_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
REFUSED = sorted((Path(__file__).parent / "refused").glob("*.yaml"))
GOOD = {
    **{
        f"pack {name}": (files("tidegate.rules") / "packs" / f"{name}.yaml").read_text()
        for name in PACKS
    },
    **{f"whole {name}": given_back(builtin_policy(name)) for name in PACKS},
    **{path.name: path.read_text() for path in (Path(__file__).parent / "extended").glob("*.yaml")},
    "shop": SHOP,
    "the page's example": EXAMPLE,
    "no rules": "name: x\nservices:\n",
}
NO_MATTER_OF_FORM = {
    "bad_parent": False,
    "broken_by_parent": True,
    "curve_points": False,
    "curves": True,
    "evidence": True,
    "fine_bands": True,
    "given_twice": True,
    "leases_and_limits": True,
    "levels": True,
    "never_reached": True,
    "no_such_parent": True,
    "out_of_order": True,
    "ring": True,
    "ring_alone": True,
}
"""Refused for laws between settings, for another file, or for twice the same key: whether the schema accepts
the file."""


def page() -> str:
    return json.dumps(policy_schema(), indent=2, ensure_ascii=False) + "\n"


def leaves(schema: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    for name, inner in schema["properties"].items():
        at = f"{path}.{name}" if path else name
        found += leaves(inner, at) if "properties" in inner else [(at, inner)]
    return found


def test_the_published_schema_is_current() -> None:
    assert DOC.read_text() == page()


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_good_policies_are_accepted(text: str) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(text))] == []


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_files_whose_form_is_wrong_are_refused_by_the_schema_too(path: Path) -> None:
    try:
        data = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, ValueError):
        return  # no editor gets as far as the schema
    assert VALIDATOR.is_valid(data) is NO_MATTER_OF_FORM.get(path.stem, False)


def test_every_setting_says_what_it_is_for_and_what_the_pack_says() -> None:
    bare = [
        path
        for path, leaf in leaves(SCHEMA)
        if "description" not in leaf
        or ("default" not in leaf and path not in ("name", "warning", "sampling", "services"))
    ]
    assert bare == []


def test_defaults_are_those_of_the_pack() -> None:
    whole = yaml.safe_load(GOOD["pack default"]) | {"extends": "default"}
    for path, leaf in leaves(SCHEMA):
        here = whole
        for part in path.split("."):
            here = here.get(part, {})
        assert "default" not in leaf or leaf["default"] == here, path


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 100_000)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["guarded", "P1", "x", ""]),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)
PATHS = [path for path, _ in leaves(SCHEMA) if path not in ("name", "services", "extends")]


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(PATHS), values)
def test_what_the_schema_refuses_is_refused_and_what_is_accepted_it_accepts(
    path: str, value: object
) -> None:
    data: Any = value
    for part in reversed(path.split(".")):
        data = {part: data}
    data = {"name": "x"} | data
    try:
        load_policy(json.dumps(data), where="x")
    except PolicyError as refused:
        is_form = "is wrong here" in str(refused) or "is no number" in str(refused)
        assert not (is_form and VALIDATOR.is_valid(data))
    else:
        assert VALIDATOR.is_valid(data)


if __name__ == "__main__":
    print(page(), end="")
