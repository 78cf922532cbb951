"""Policies: every number of the rules as data, read from YAML, checked, and laid out as columns.

A policy file says only what differs from the pack `default`. Unknown keys are refused.
"""

import hashlib
from dataclasses import dataclass, fields
from difflib import get_close_matches
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import yaml

from tidegate.rules.policy_types import (
    BaselineSettings,
    EvidenceSettings,
    LevelSettings,
    Limits,
    OutcomeWeights,
    PolicyFile,
    ProfileSettings,
    Settings,
    Timing,
)
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.outcome import Outcome

__all__ = [
    "PACKS",
    "BaselineSettings",
    "EvidenceSettings",
    "Policy",
    "PolicyError",
    "SettingsColumns",
    "builtin_policy",
    "load_policy",
]

PACKS = ("default", "reference")
PROFILE_NAMES = ("reference", "guarded")
FAILED_WEIGHT_MIN = 0.5
"""A request failed if its outcome weighs at least this."""


class PolicyError(ValueError):
    """Says where, what was found, what is allowed."""


@dataclass(frozen=True, slots=True)
class SettingsColumns:
    """One row per distinct settings. Times in boundaries (500 ms) where the name says so."""

    profile: npt.NDArray[np.int64]
    """Index into PROFILE_NAMES."""
    enforce: npt.NDArray[np.bool_]
    target_ms: npt.NDArray[np.int64]
    """-1: learned."""
    expected_qps: npt.NDArray[np.float64]
    """-1: none, the traffic term is 1."""
    outcome_weights: npt.NDArray[np.float64]
    """Shape (settings, 8): by Outcome, padded with zeros."""
    is_failed: npt.NDArray[np.bool_]
    """Shape (settings, 8): weight at least 0.5."""
    key_ttl_boundaries: npt.NDArray[np.int64]
    confirm_boundaries: npt.NDArray[np.int64]
    confirm_once_below_rps: npt.NDArray[np.float64]
    open_stand_boundaries: npt.NDArray[np.int64]
    open_requests_min: npt.NDArray[np.int64]
    open_bad_run: npt.NDArray[np.int64]
    open_bad_run_below_rps: npt.NDArray[np.float64]
    hysteresis_boundaries: npt.NDArray[np.int64]
    relapse_within_boundaries: npt.NDArray[np.int64]
    hysteresis_max_boundaries: npt.NDArray[np.int64]
    calm_reset_boundaries: npt.NDArray[np.int64]
    idle_step_boundaries: npt.NDArray[np.int64]
    sleep_boundaries: npt.NDArray[np.int64]
    sleep_max_boundaries: npt.NDArray[np.int64]
    wake_score: npt.NDArray[np.int64]
    """Thousandths."""
    probe_requests_min: npt.NDArray[np.int64]
    probe_good_share: npt.NDArray[np.float64]
    probe_bad_share: npt.NDArray[np.float64]
    probe_patience_requests: npt.NDArray[np.int64]
    probe_patience_boundaries: npt.NDArray[np.int64]
    ramp_steps: npt.NDArray[np.int64]
    ramp_step_boundaries: npt.NDArray[np.int64]
    ramp_requests_min: npt.NDArray[np.int64]
    ramp_patience_boundaries: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Policy:
    """A checked policy. `label` is NAME@VERSION, the version a hash of the effective content."""

    file: PolicyFile
    settings: tuple[Settings, ...]
    """Distinct ones: first that of keys no rule matches, then one per rule."""
    columns: SettingsColumns
    label: str

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
        """Index into `settings` and the columns: the first rule that matches, else 0."""
        for number, rule in enumerate(self.file.services, 1):
            if not fnmatchcase(service, rule.match.service):
                continue
            if rule.match.target is None or (target and fnmatchcase(target, rule.match.target)):
                return number
        return 0


def load_policy(text: str, *, where: str) -> Policy:
    """A policy from YAML. `where` names it in messages. Raises PolicyError."""
    raw = _parse(text, where)
    base = raw.pop("extends", "default") if raw.get("name") != "default" else "default"
    if base not in PACKS:
        near = get_close_matches(str(base), PACKS, 1)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        raise PolicyError(
            f"{where}: extends: {base!r} is no pack; give one of {', '.join(PACKS)}{hint}"
        )
    merged = _over(_pack(base), raw)
    rules = merged.get("services") or []
    if isinstance(rules, list):
        merged["services"] = [_rule(rule, merged.get("settings", {})) for rule in rules]
    try:
        read = msgspec.convert(merged, PolicyFile, strict=True)
    except msgspec.ValidationError as problem:
        raise PolicyError(f"{where}: {_told(str(problem))}") from None
    _check(read, where)
    version = hashlib.sha256(msgspec.json.encode(read, order="deterministic")).hexdigest()[:8]
    settings = (read.settings, *(rule.settings for rule in read.services))
    return Policy(read, settings, _columns(settings, read.timing), f"{read.name}@{version}")


def builtin_policy(name: str) -> Policy:
    """A pack that comes with Tidegate. Raises PolicyError for a name that is none."""
    if name not in PACKS:
        raise PolicyError(f"policy {name!r} is no pack; give a file or one of {', '.join(PACKS)}")
    return load_policy(_pack_text(name), where=f"pack {name}")


def _pack_text(name: str) -> str:
    return (files("tidegate.rules") / "packs" / f"{name}.yaml").read_text(encoding="utf-8")


def _pack(name: str) -> dict[str, Any]:
    """A pack as plain data, over `default`."""
    raw = _parse(_pack_text(name), f"pack {name}")
    return raw if name == "default" else _over(_pack("default"), raw)


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice: the second would silently win."""


def _no_duplicates(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            line = key_node.start_mark.line + 1
            raise PolicyError(f"line {line}: {key!r} is given twice; keep one")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _no_duplicates)


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        raw = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except PolicyError as problem:
        raise PolicyError(f"{where}: {problem}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as problem:
        raise PolicyError(f"{where}: not YAML: {problem}") from None
    if not isinstance(raw, dict):
        raise PolicyError(f"{where}: a policy is a mapping; found {type(raw).__name__}")
    return raw


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Mappings are merged key by key, everything else is replaced."""
    out = dict(below)
    for key, value in above.items():
        old = out.get(key)
        out[key] = _over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return out


def _rule(rule: Any, settings: dict[str, Any]) -> Any:
    if not isinstance(rule, dict):
        return rule
    own = {key: value for key, value in rule.items() if key != "match"}
    return {"match": rule.get("match"), "settings": _over(settings, own)}


def _told(problem: str) -> str:
    """Msgspec's message, with a suggestion for a name that is nearly right."""
    if "unknown field" not in problem:
        return problem
    name = problem.split("`")[1]
    known = {
        f
        for t in (
            PolicyFile,
            Settings,
            LevelSettings,
            Timing,
            Limits,
            EvidenceSettings,
            BaselineSettings,
            OutcomeWeights,
        )
        for f in t.__struct_fields__
    }
    near = get_close_matches(name, sorted(known), 1)
    return problem + (f"; did you mean `{near[0]}`?" if near else "; remove it")


def _check(read: PolicyFile, where: str) -> None:
    """What types can't say."""
    problems = []
    if read.timing.lease_ms < 2 * read.timing.source_wait_ms:
        problems.append("timing.lease_ms must be at least twice timing.source_wait_ms (a takeover)")
    for number, s in enumerate((read.settings, *(rule.settings for rule in read.services))):
        at = "settings" if number == 0 else f"services[{number - 1}]"
        ramp = s.level.ramp
        if not ramp or ramp[-1] != 1.0 or list(ramp) != sorted(ramp) or ramp[0] <= 0:
            problems.append(f"{at}.level.ramp: {list(ramp)} must rise from above 0 to 1.0")
        if s.level.probe_bad_share + s.level.probe_good_share >= 1.5:
            problems.append(f"{at}.level: probe_good_share and probe_bad_share leave no middle")
    if problems:
        raise PolicyError("\n".join(f"{where}: {problem}" for problem in problems))


def _columns(settings: tuple[Settings, ...], timing: Timing) -> SettingsColumns:
    weights = np.zeros((len(settings), 8))
    for row, s in enumerate(settings):
        for outcome in Outcome:
            weights[row, outcome] = getattr(s.outcome_weights, outcome.name.lower())
    special: dict[str, Any] = {
        "profile": [PROFILE_NAMES.index(s.profile) for s in settings],
        "enforce": [s.mode == "enforce" for s in settings],
        "target_ms": [-1 if s.target_ms is None else s.target_ms for s in settings],
        "expected_qps": [-1.0 if s.expected_qps is None else s.expected_qps for s in settings],
        "outcome_weights": weights,
        "is_failed": weights >= FAILED_WEIGHT_MIN,
        "key_ttl_boundaries": [timing.key_ttl_s * 1000 // BUCKET_MS for _ in settings],
        "wake_score": [round(s.level.wake_score * 1000) for s in settings],
        "ramp_steps": [len(s.level.ramp) for s in settings],
    }
    out = {}
    for column in fields(SettingsColumns):
        name = column.name
        if name in special:
            values = special[name]
        elif name.endswith("_boundaries") and name != "confirm_boundaries":
            seconds = name.removesuffix("_boundaries") + "_s"
            values = [getattr(s.level, seconds) * 1000 // BUCKET_MS for s in settings]
        else:
            values = [getattr(s.level, name) for s in settings]
        out[name] = np.array(values)
    return SettingsColumns(**out)
