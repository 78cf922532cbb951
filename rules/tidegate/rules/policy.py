"""Policies: every number of the rules as data, read from YAML, checked, and laid out as columns.

A policy file says only what differs from the pack it extends (`default`, unless it says otherwise). It
is checked as a whole: all problems come in one PolicyError, each with file, line, path and remedy.
"""

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec

from tidegate.rules.policy_check import check_file
from tidegate.rules.policy_columns import PROFILE_NAMES, SettingsColumns, columns_of
from tidegate.rules.policy_content import decode_content, encode_content
from tidegate.rules.policy_laws import broken_laws
from tidegate.rules.policy_layers import (
    PACKS,
    Layer,
    Resolve,
    effective,
    laid_over,
    layers_of,
    pack_layers,
)
from tidegate.rules.policy_origin import place_of
from tidegate.rules.policy_rules import RuleMatcher
from tidegate.rules.policy_types import (
    BaselineSettings,
    EvidenceSettings,
    PolicyFile,
    ProfileSettings,
    Settings,
    Timing,
)
from tidegate.rules.policy_yaml import PolicyError, Problem, Problems, planted
from tidegate.schemas.scope import ALL_CALLERS, WHOLE_GRAPH

__all__ = [
    "PACKS",
    "PROFILE_NAMES",
    "BaselineSettings",
    "EvidenceSettings",
    "Policy",
    "PolicyError",
    "SettingsColumns",
    "builtin_policy",
    "load_policy",
    "policy_from_content",
    "policy_of_layers",
]


@dataclass(frozen=True, slots=True)
class Policy:
    """A checked policy. `label` is NAME@VERSION, the version a hash of the effective content."""

    file: PolicyFile
    settings: tuple[Settings, ...]
    """Distinct ones: first that of keys no rule matches, then one per rule."""
    columns: SettingsColumns
    label: str
    _content: bytes = field(repr=False)
    _matcher: RuleMatcher = field(repr=False)

    def content(self) -> bytes:
        """All that holds, as bytes for a log: `policy_from_content` makes an equal policy of them."""
        return self._content

    @property
    def warnings(self) -> tuple[str, ...]:
        """What whoever starts with this policy should be told; empty where there is nothing."""
        if self.file.warning is None or all(s.mode == "observe" for s in self.settings):
            return ()
        return (self.file.warning,)

    @property
    def grace_ms(self) -> int:
        """How long after its end a bucket stays open."""
        return self.file.timing.grace_ms

    @property
    def source_wait_ms(self) -> int:
        """After this silence a source is left out."""
        return self.file.timing.source_wait_ms

    @property
    def skew_max_ms(self) -> int:
        """How far a bucket may lie in the broker's future."""
        return self.file.timing.skew_max_ms

    @property
    def services_max(self) -> int:
        """Services per evaluate partition."""
        return self.file.limits.services_max

    @property
    def keys_max(self) -> int:
        """Keys per evaluate partition."""
        return self.file.limits.keys_max

    @property
    def timing(self) -> Timing:
        """Grace, waits, leases."""
        return self.file.timing

    @property
    def evidence(self) -> EvidenceSettings:
        """Numbers of the evidence rule."""
        return self.file.evidence

    @property
    def profiles(self) -> ProfileSettings:
        """Numbers of the score profiles."""
        return self.file.profiles

    @property
    def baseline(self) -> BaselineSettings:
        """Numbers of baselines and targets."""
        return self.file.baseline

    def settings_for(self, service: str, target: str) -> int:
        """Index into `settings` and the columns: the first rule that matches, else 0. All callers' view and
        the whole graph go by their service's."""
        if target in (ALL_CALLERS, WHOLE_GRAPH):
            target = ""
        return self._matcher.first(service, target)


def load_policy(text: str, *, where: str, resolve: Resolve | None = None) -> Policy:
    """A policy from YAML. `where` names it in messages, `resolve` reads files that it extends. Raises
    PolicyError with all that is wrong."""
    return policy_of_layers(layers_of(text, where=where, resolve=resolve))


def policy_of_layers(layers: tuple[Layer, ...]) -> Policy:
    """A policy from its layers. Raises PolicyError with each broken law, by the line that broke it."""
    policy = _policy_of(effective(layers))
    problems = []
    for path, message in broken_laws(policy.file):
        layer, line = place_of(layers, path)
        over = f" (with {layers[-1].where} over it)" if layer is not layers[-1] else ""
        problems.append(Problem(layer.where, line, path, message + over))
    if problems:
        raise PolicyError(tuple(sorted(problems, key=lambda problem: problem.line)))
    return policy


def builtin_policy(name: str) -> Policy:
    """A pack that comes with Tidegate. Raises PolicyError for a name that is none."""
    if name not in PACKS:
        told = f"policy {name!r} is no pack; give a file or one of {', '.join(PACKS)}"
        raise PolicyError((Problem("--policy", 0, "", told),))
    return _policy_of(effective(pack_layers(name)))


@lru_cache(16)
def policy_from_content(data: bytes) -> Policy:
    """The policy that `Policy.content` gave these bytes for. Raises PolicyError where they are none, or
    those of a Tidegate with other settings."""
    problems = Problems("policy content")
    try:
        raw = decode_content(data)
        tree = planted(raw)
    except ValueError as problem:
        problems.add("", 0, f"{problem}; push the policy again")
    else:
        check_file(tree if isinstance(tree, dict) else {}, problems)
    problems.raise_if_any()
    try:
        policy = _policy_of(raw)
    except (msgspec.ValidationError, KeyError) as problem:
        problems.add(
            "", 0, f"is of a Tidegate with other settings ({problem}); push the policy again"
        )
        problems.raise_if_any()
        raise
    for path, message in broken_laws(policy.file):
        problems.add(path, 0, message)
    problems.raise_if_any()
    return policy


def _policy_of(raw: dict[str, Any]) -> Policy:
    """From plain data that was checked already."""
    content = encode_content(raw)
    rules = raw.get("services") or []
    raw = raw | {"services": [_rule(rule, raw["settings"]) for rule in rules]}
    read = msgspec.convert(raw, PolicyFile, strict=True)
    version = hashlib.sha256(msgspec.json.encode(read, order="deterministic")).hexdigest()[:8]
    settings = (read.settings, *(rule.settings for rule in read.services))
    columns = columns_of(settings, read.timing)
    matcher = RuleMatcher([rule.match for rule in read.services])
    return Policy(read, settings, columns, f"{read.name}@{version}", content, matcher)


def _rule(rule: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    own = {key: value for key, value in rule.items() if key != "match"}
    return {"match": rule["match"], "settings": laid_over(settings, own)}
