"""Policies: every number of the rules as data, read from YAML, checked, and laid out as columns.

A policy file says only what differs from the pack it extends (`default`, unless it says otherwise). It
is checked as a whole: all problems come in one PolicyError, each with file, line, path and remedy.
"""

import hashlib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
from msgspec import inspect

from tidegate.rules.policy_check import check
from tidegate.rules.policy_columns import (
    FAILED_WEIGHT_MIN,
    PROFILE_NAMES,
    SettingsColumns,
    columns_of,
)
from tidegate.rules.policy_laws import broken_laws
from tidegate.rules.policy_types import (
    BaselineSettings,
    EvidenceSettings,
    Match,
    PolicyFile,
    ProfileSettings,
    Settings,
    Timing,
)
from tidegate.rules.policy_yaml import Entry, PolicyError, Problem, Problems, parse, plain

__all__ = [
    "FAILED_WEIGHT_MIN",
    "PACKS",
    "PROFILE_NAMES",
    "BaselineSettings",
    "EvidenceSettings",
    "Policy",
    "PolicyError",
    "SettingsColumns",
    "builtin_policy",
    "load_policy",
]

PACKS = ("default", "reference")


@dataclass(frozen=True, slots=True)
class Policy:
    """A checked policy. `label` is NAME@VERSION, the version a hash of the effective content."""

    file: PolicyFile
    settings: tuple[Settings, ...]
    """Distinct ones: first that of keys no rule matches, then one per rule."""
    columns: SettingsColumns
    label: str

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
        """Index into `settings` and the columns: the first rule that matches, else 0."""
        for number, rule in enumerate(self.file.services, 1):
            if not fnmatchcase(service, rule.match.service):
                continue
            if rule.match.target is None or (target and fnmatchcase(target, rule.match.target)):
                return number
        return 0


def load_policy(text: str, *, where: str) -> Policy:
    """A policy from YAML. `where` names it in messages. Raises PolicyError with all that is wrong."""
    problems = Problems(where)
    tree = parse(text, problems)
    if not tree:
        problems.raise_if_any()
    base = _base_of(tree, problems)
    if "name" not in tree:
        problems.add("name", 0, "is missing; give the policy a name, it is part of every decision")
    _check_sampling(tree, problems)
    _check_tree(tree, problems)
    problems.raise_if_any()
    raw = plain({name: entry for name, entry in tree.items() if name not in _NOT_KEPT})
    policy = _policy_of(_over(_pack(base), raw))
    for path, message in broken_laws(policy.file):
        problems.add(path, _line_of(tree, path), message)
    problems.raise_if_any()
    return policy


def builtin_policy(name: str) -> Policy:
    """A pack that comes with Tidegate. Raises PolicyError for a name that is none."""
    if name not in PACKS:
        told = f"policy {name!r} is no pack; give a file or one of {', '.join(PACKS)}"
        raise PolicyError((Problem("--policy", 0, "", told),))
    return _policy_of(_pack(name))


def _pack_text(name: str) -> str:
    return (files("tidegate.rules") / "packs" / f"{name}.yaml").read_text(encoding="utf-8")


@cache
def _pack(name: str) -> dict[str, Any]:
    """A pack as plain data, over `default`; read once, never changed."""
    problems = Problems(f"pack {name}")
    tree = parse(_pack_text(name), problems)
    _check_tree(tree, problems)
    problems.raise_if_any()
    raw: dict[str, Any] = plain(tree)
    return raw if name == "default" else _over(_pack("default"), raw)


def _base_of(tree: dict[str, Entry], problems: Problems) -> str:
    base = tree.get("extends")
    if base is None or base.value in PACKS:
        return str(base.value) if base else "default"
    problems.add_unknown("extends", base.line, base.value, PACKS, "pack")
    return "default"


def _check_sampling(tree: dict[str, Entry], problems: Problems) -> None:
    """Says how spans were sampled: a promise about the input that no decision is made from."""
    sampling = tree.get("sampling")
    if sampling is None or sampling.value in ("none", "head"):
        return
    if sampling.value == "tail":
        told = (
            "tail-sampled spans are biased towards errors and can't be judged; sample at the head "
            "(`ot=th:` in tracestate, which is weighed) or not at all"
        )
        problems.add("sampling", sampling.line, told)
    else:
        problems.add_unknown("sampling", sampling.line, sampling.value, _SAMPLING, "value here")


def _check_tree(tree: dict[str, Entry], problems: Problems) -> None:
    """Every value against its type. Rules under `services` carry settings beside their match."""
    left_out = (*_NOT_KEPT, "services")
    whole = {name: entry for name, entry in tree.items() if name not in left_out}
    check(_FILE, whole, line=0, path="", problems=problems)
    rules = tree.get("services")
    if rules is None or rules.value is None:
        return
    if not isinstance(rules.value, list):
        problems.add(
            "services", rules.line, "is no list; give `- match: {service: PATTERN}` and settings"
        )
        return
    for number, rule in enumerate(rules.value):
        path = f"services[{number}]"
        if not isinstance(rule.value, dict):
            problems.add(path, rule.line, "is no rule; give `match` and what differs")
            continue
        own = {name: entry for name, entry in rule.value.items() if name != "match"}
        check(_SETTINGS, own, line=rule.line, path=path, problems=problems)
        match = rule.value.get("match", Entry({}, rule.line))
        check(_MATCH, match.value, line=match.line, path=f"{path}.match", problems=problems)
        if isinstance(match.value, dict) and "service" not in match.value:
            problems.add(
                f"{path}.match.service", match.line, "is missing; give a pattern, e.g. pay-*"
            )


def _policy_of(raw: dict[str, Any]) -> Policy:
    """From plain data that was checked already."""
    rules = raw.get("services") or []
    raw = raw | {"services": [_rule(rule, raw["settings"]) for rule in rules]}
    read = msgspec.convert(raw, PolicyFile, strict=True)
    version = hashlib.sha256(msgspec.json.encode(read, order="deterministic")).hexdigest()[:8]
    settings = (read.settings, *(rule.settings for rule in read.services))
    columns = columns_of(settings, read.timing)
    return Policy(read, settings, columns, f"{read.name}@{version}")


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Mappings are merged key by key, everything else is replaced."""
    out = dict(below)
    for key, value in above.items():
        old = out.get(key)
        out[key] = _over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return out


def _rule(rule: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    own = {key: value for key, value in rule.items() if key != "match"}
    return {"match": rule["match"], "settings": _over(settings, own)}


def _line_of(tree: dict[str, Entry], path: str) -> int:
    """The line of a path, or of the nearest section around it that the file has; 0 without any."""
    line, here = 0, Entry(tree, 0)
    for part in path.replace("[", ".").replace("]", "").split("."):
        inside = here.value
        if isinstance(inside, dict) and part in inside:
            here = inside[part]
        elif isinstance(inside, list) and part.isdigit() and int(part) < len(inside):
            here = inside[int(part)]
        else:
            break
        line = here.line
    return line


_NOT_KEPT = ("extends", "sampling")
"""Keys of a file that are no settings: they are obeyed when it is read."""
_SAMPLING = ("none", "head")
_FILE = inspect.type_info(PolicyFile)
_SETTINGS = inspect.type_info(Settings)
_MATCH = inspect.type_info(Match)
