"""JSON Schema of a policy file, for editors: they complete names, show what each is for and mark what is
wrong while it is written. Made from `policy_types` and the pack `default`. What it refuses,
`tidegate policy check` refuses too, which knows more: laws between settings, and what was meant.
"""

import ast
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from tidegate.rules.policy_check import NUMBER_MAX, RULES_MAX, SAMPLING
from tidegate.rules.policy_layers import PACKS, pack_layers
from tidegate.rules.policy_origin import Value, values_of
from tidegate.rules.policy_types import PolicyFile

__all__ = ["policy_schema"]

Schema = dict[str, Any]
_REF = "#/$defs/"
_EXTENDS = (
    "What holds where this file says nothing: a pack, or a file (relative to this one's folder)."
)
_SAMPLING = (
    "How spans were sampled: `head` (`ot=th:` in tracestate is weighed) or `none`. Tail-sampled spans "
    "can't be judged."
)


def policy_schema() -> Schema:
    """Draft 2020-12, without `$ref` but from a rule to `settings`. A new object each time."""
    defs: Schema = msgspec.json.schema(PolicyFile)["$defs"]
    values = {value.path: value for value in values_of(pack_layers("default"))}
    own = _section(defs, "PolicyFile", "", values)["properties"]
    settings = own["settings"]["properties"]
    match = _section(defs, "Match", "", {}) | {"required": ["service"]}
    rule = {
        "description": "Settings of the services and edges that match.",
        "type": "object",
        "properties": {
            "match": match,
            **{name: {"$ref": f"#/properties/settings/properties/{name}"} for name in settings},
        },
        "required": ["match"],
        "additionalProperties": False,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tidegate policy",
        "description": "What differs from the pack or file that it extends.",
        "type": "object",
        "properties": {
            "name": own.pop("name") | {"description": "Part of every decision, as NAME@VERSION."},
            "extends": {
                "description": _EXTENDS,
                "anyOf": [{"enum": [*PACKS]}, {"type": "string", "pattern": r"[/\\]|\.ya?ml$"}],
                "default": "default",
            },
            "sampling": {"description": _SAMPLING, "enum": [*SAMPLING]},
            **own,
            "services": {
                "description": own["services"]["description"],
                "type": ["array", "null"],
                "items": rule,
                "maxItems": RULES_MAX,
            },
        },
        "required": ["name"],
        "additionalProperties": False,
    }


def _section(defs: Schema, name: str, path: str, values: dict[str, Value]) -> Schema:
    """A struct of the types. Nothing need be given: a file is laid over a pack."""
    properties = {}
    for field, what in defs[name]["properties"].items():
        inner = f"{path}.{field}" if path else field
        told = _docstrings().get((name, field), "")
        if "$ref" in what:
            properties[field] = _section(defs, what["$ref"].removeprefix(_REF), inner, values)
        else:
            properties[field] = _leaf(what, told, values.get(inner))
    return {
        "description": defs[name]["description"],
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def _leaf(what: Schema, told: str, value: Value | None) -> Schema:
    out = {key: inner for key, inner in what.items() if key != "default"}
    if "anyOf" in out:
        out["anyOf"] = [_bounded(kind) for kind in out["anyOf"]]
    if value is not None:
        told = f"{told} Pack default: {value.origin.why}.".lstrip()
        out["default"] = value.value
    return {"description": told} | _bounded(out) if told else _bounded(out)


def _bounded(kind: Schema) -> Schema:
    """Numbers without bounds end where YAML, JSON and floats stop agreeing, as in `policy check`."""
    if kind.get("type") not in ("number", "integer"):
        return kind
    out = dict(kind)
    if not out.keys() & {"maximum", "exclusiveMaximum"}:
        out["maximum"] = NUMBER_MAX
    if not out.keys() & {"minimum", "exclusiveMinimum"}:
        out["minimum"] = -NUMBER_MAX
    return out


@cache
def _docstrings() -> dict[tuple[str, str], str]:
    """What stands under each field of the types: Python keeps it in the source only."""
    source = (files("tidegate.rules") / "policy_types.py").read_text(encoding="utf-8")
    found = {}
    for struct in ast.parse(source).body:
        if not isinstance(struct, ast.ClassDef):
            continue
        for field, under in zip(struct.body, struct.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(under, ast.Expr)
                and isinstance(under.value, ast.Constant)
            ):
                found[struct.name, field.target.id] = " ".join(str(under.value.value).split())
    return found
