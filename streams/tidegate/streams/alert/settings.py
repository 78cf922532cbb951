"""channels.yaml: which channels there are and which tier goes where. Checked as a whole, like a policy: every
problem with file, line and path. Secrets come from environment variables and files only, and no message
shows a value that might be one.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import inspect

from tidegate.rules.policy_check import check
from tidegate.rules.policy_yaml import Entry, PolicyError, Problems, parse, plain
from tidegate.streams.alert.channel import (
    Channel,
    ChannelSettings,
    GroupingSettings,
    Kind,
    Links,
    Tries,
)
from tidegate.streams.alert.channels import CHANNELS
from tidegate.streams.alert.secrets import Secrets, refuse_inline
from tidegate.streams.errors import UsageError

__all__ = ["DEFAULT_TIERS", "TIERS", "Setup", "load_channels", "read_channels"]

TIERS = ("P1", "P2")
DEFAULT_TIERS = {"P1": ("wecom", "phone"), "P2": ("dingtalk",)}
"""Of a file that names no tiers: those of these channels that it has."""
T = TypeVar("T", bound=msgspec.Struct)
_SECTIONS = ("tiers", "channels", "tries", "links", "grouping")
_KINDS = {kind.name: kind for kind in CHANNELS}
_PLACEHOLDERS = {"trace_url": ("{trace_id}",), "scope_url": ("{scope}", "{name}")}


@dataclass(frozen=True, slots=True)
class Setup:
    """A checked channels.yaml."""

    channels: Mapping[str, Channel]
    tiers: Mapping[str, tuple[str, ...]]
    """Names of channels by tier."""
    tries: Tries
    grouping: GroupingSettings


def read_channels(path: str, environ: Mapping[str, str] | None) -> Setup:
    """The file at `path`. Raises UsageError with all that is wrong with it."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "is not UTF-8 text"
        raise UsageError(
            f"{path}: {reason}; give a YAML file of channels, see docs/alerts.md"
        ) from problem
    try:
        return load_channels(text, where=path, environ=environ)
    except PolicyError as problem:
        raise UsageError(str(problem)) from problem


def load_channels(text: str, *, where: str, environ: Mapping[str, str] | None) -> Setup:
    """The setup that the text describes. `environ` None: secrets are not looked up, and something
    that says so stands in their place. Raises PolicyError with all that is wrong.
    """
    problems = Problems(where)
    tree = parse(text, problems)
    if not tree:
        problems.raise_if_any()
    for name, entry in tree.items():
        if name not in _SECTIONS:
            problems.add_unknown(name, entry.line, name, _SECTIONS, "section")
    tries = _section(Tries, tree.get("tries"), "tries", problems)
    grouping = _section(GroupingSettings, tree.get("grouping"), "grouping", problems)
    links = _section(Links, tree.get("links"), "links", problems)
    _check_links(links, tree.get("links"), problems)
    channels, named = _channels(tree.get("channels"), links or Links(), problems, environ)
    tiers = _tiers(tree.get("tiers"), named, problems)
    problems.raise_if_any()
    assert tries is not None
    assert grouping is not None
    return Setup(channels, tiers, tries, grouping)


def _section(kind: type[T], entry: Entry | None, path: str, problems: Problems) -> T | None:
    """The struct, with its defaults; None where something in it is wrong."""
    if entry is None:
        return kind()
    before = len(problems.found)
    check(inspect.type_info(kind), entry.value, line=entry.line, path=path, problems=problems)
    return msgspec.convert(plain(entry.value), kind) if len(problems.found) == before else None


def _check_links(links: Links | None, entry: Entry | None, problems: Problems) -> None:
    if links is None or entry is None or not isinstance(entry.value, dict):
        return
    for name, placeholders in _PLACEHOLDERS.items():
        url = getattr(links, name)
        if url is None:
            continue
        line = entry.value[name].line
        if not url.startswith(("http://", "https://")):
            problems.add(f"links.{name}", line, "is no address; give http://… or https://…")
        if not any(word in url for word in placeholders):
            told = " or ".join(f"`{word}`" for word in placeholders)
            problems.add(f"links.{name}", line, f"has no {told} in it; put it where it belongs")


def _channels(
    entry: Entry | None, links: Links, problems: Problems, environ: Mapping[str, str] | None
) -> tuple[dict[str, Channel], dict[str, int]]:
    """The channels that are right, and the line of each that is named at all."""
    if entry is None or not isinstance(entry.value, dict) or not entry.value:
        line = 0 if entry is None else entry.line
        told = "names no channel; give `NAME: {type: webhook, url: https://…}`"
        problems.add("channels", line, told)
        return {}, {}
    channels: dict[str, Channel] = {}
    for name, one in entry.value.items():
        channel = _channel(name, one, links, problems, environ)
        if channel is not None:
            channels[name] = channel
    return channels, {name: one.line for name, one in entry.value.items()}


def _channel(
    name: str, entry: Entry, links: Links, problems: Problems, environ: Mapping[str, str] | None
) -> Channel | None:
    path, before = f"channels.{name}", len(problems.found)
    if not isinstance(entry.value, dict):
        told = "is no channel; give a mapping with its type and settings"
        problems.add(path, entry.line, told)
        return None
    kind = _kind(path, entry.line, entry.value.get("type"), problems)
    if kind is None:
        return None
    tree = refuse_inline(kind, path, entry.value, problems)
    secrets = Secrets(kind, path, entry.line, tree, problems)
    values = secrets.values(environ)
    check(
        inspect.type_info(kind.settings),
        {key: one for key, one in tree.items() if key not in secrets.told},
        line=entry.line,
        path=path,
        problems=problems,
    )
    if len(problems.found) != before:
        return None
    raw = {key: one.value for key, one in tree.items()}
    settings = msgspec.convert(raw, kind.settings)
    if environ is not None:  # where secrets are not, such files are not either
        _check_authorities(settings, path, tree, problems)
    return Channel(name, kind, settings, values, secrets.hidden(values), links)


def _kind(path: str, line: int, entry: Entry | None, problems: Problems) -> Kind | None:
    names = tuple(_KINDS)
    if entry is None:
        told = f"is missing; allowed: {', '.join(names)}"
        problems.add(f"{path}.type", line, told)
        return None
    kind = _KINDS.get(entry.value) if isinstance(entry.value, str) else None
    if kind is None:
        problems.add_unknown(f"{path}.type", entry.line, entry.value, names, "type of channel")
    return kind


def _check_authorities(
    settings: ChannelSettings, path: str, tree: Mapping[str, Entry], problems: Problems
) -> None:
    if settings.ca_file is None:
        return
    try:
        ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ValueError) as problem:  # ssl.SSLError is an OSError
        reason = problem.strerror if isinstance(problem, FileNotFoundError) else "holds no PEM"
        told = f"{settings.ca_file!r}: {reason}; give a PEM file of certificates"
        problems.add(f"{path}.ca_file", tree["ca_file"].line, told)


def _tiers(
    entry: Entry | None, named: Mapping[str, int], problems: Problems
) -> dict[str, tuple[str, ...]]:
    given = {} if entry is None else entry.value
    line = 0 if entry is None else entry.line
    if not isinstance(given, dict):
        problems.add("tiers", line, "is no section; give `P1: [NAME, …]` and `P2: [NAME, …]`")
        return {}
    for name, one in given.items():
        if name not in TIERS:
            problems.add_unknown(f"tiers.{name}", one.line, name, TIERS, "tier")
    tiers = {tier: _tier(tier, given.get(tier), line, named, problems) for tier in TIERS}
    used = {name for names in tiers.values() for name in names}
    for name, at_line in named.items():
        if name not in used:
            told = "is in no tier, so nothing would be sent there; name it under `tiers`"
            problems.add(f"channels.{name}", at_line, told)
    return tiers


def _tier(
    tier: str, entry: Entry | None, line: int, named: Mapping[str, int], problems: Problems
) -> tuple[str, ...]:
    path = f"tiers.{tier}"
    if entry is None:
        names = tuple(name for name in DEFAULT_TIERS[tier] if name in named)
        if not names and named:
            told = (
                f"is missing, and there is no channel named {' or '.join(DEFAULT_TIERS[tier])}; "
                f"give the names of channels ([]: {tier} calls nobody)"
            )
            problems.add(path, line, told)
        return names
    if not isinstance(entry.value, list):
        problems.add(path, entry.line, "is no list; give the names of channels")
        return ()
    for i, item in enumerate(entry.value):
        if not isinstance(item.value, str) or item.value not in named:
            near = get_close_matches(str(item.value), named, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(named)}"
            told = f"{plain(item.value)!r} is no channel of this file; {hint}"
            problems.add(f"{path}[{i}]", item.line, told)
    return tuple(dict.fromkeys(str(item.value) for item in entry.value))
