"""Where a channel's addresses and secrets come from. A secret stands in no channels.yaml, and what could be
one by mistake is in no message.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import httpx
import msgspec

from tidegate.rules.policy_yaml import Entry, Problems
from tidegate.streams.alert.channel import Kind

__all__ = ["REDACTED", "Secrets", "refuse_inline"]

REDACTED = "REDACTED"
"""Stands for a secret that was not looked up."""
_REDACTED_URL = f"https://{REDACTED.lower()}.invalid/"
_LOOKS_SECRET = re.compile(r"password|secret|token|credential|api_?key|\bkey\b", re.IGNORECASE)
_ENV_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_SECRET_CHARS_MAX = 16_384


def refuse_inline(
    kind: Kind, path: str, tree: Mapping[str, Entry], problems: Problems
) -> dict[str, Entry]:
    """The settings without those that would hold a secret in the file itself, which are problems."""
    kept, fields = {}, set(kind.settings.__struct_fields__)
    for name, entry in tree.items():
        if name in fields or not (f"{name}_env" in fields or _LOOKS_SECRET.search(name)):
            kept[name] = entry
            continue
        stems = [name] if f"{name}_env" in fields else [s for s in _stems(kind) if s != "url"]
        ways = " or ".join(f"`{stem}_env: VARIABLE`, `{stem}_file: PATH`" for stem in stems)
        told = f"a secret must not stand in this file; put it elsewhere and give {ways}"
        problems.add(f"{path}.{name}", entry.line, told)
    return kept


class Secrets:
    """The values of one channel that come by NAME, NAME_env or NAME_file."""

    def __init__(
        self, kind: Kind, path: str, line: int, tree: Mapping[str, Entry], problems: Problems
    ) -> None:
        self._kind, self._path, self._line = kind, path, line
        self._tree, self._problems = tree, problems
        self.told: set[str] = set()
        """Settings whose problem was told here, so that no other check repeats it with the value."""

    def values(self, environ: Mapping[str, str] | None) -> dict[str, str]:
        """Every value that is given, by name; None for `environ`: without looking secrets up."""
        found = {}
        for stem in (*_stems(self._kind), *_plain_urls(self._kind)):
            value = self._value(stem, environ)
            if value is not None:
                found[stem] = value
        return found

    def hidden(self, values: Mapping[str, str]) -> tuple[str, ...]:
        """Those of the values that must not be seen."""
        return tuple(
            value
            for stem, value in values.items()
            if self._given(f"{stem}_env") or self._given(f"{stem}_file")
        )

    def _value(self, stem: str, environ: Mapping[str, str] | None) -> str | None:
        ways = [name for name in (stem, f"{stem}_env", f"{stem}_file") if self._given(name)]
        fields = self._kind.settings.__struct_fields__
        allowed = [name for name in (stem, f"{stem}_env", f"{stem}_file") if name in fields]
        default = _default(self._kind, stem)
        if not ways and default is not None:
            return default
        if len(ways) > 1:
            self._add(ways[1], f"stands beside {ways[0]}; give one of them")
            return None
        if not ways:
            if stem in self._kind.needs:
                self._problems.add(self._path, self._line, f"lacks one of {', '.join(allowed)}")
            return None
        (way,) = ways
        text = self._tree[way].value
        if not isinstance(text, str):
            self._add(way, "is no text; put it into quotes")
            return None
        value = self._looked_up(stem, way, text, environ)
        if value is not None and stem == "url":
            self._check_url(way, value, is_inline=way == stem)
        return value

    def _given(self, name: str) -> bool:
        return name in self._tree and self._tree[name].value is not None

    def _looked_up(
        self, stem: str, way: str, text: str, environ: Mapping[str, str] | None
    ) -> str | None:
        if way == stem:
            return text
        if way.endswith("_env") and not _ENV_NAME.fullmatch(text):
            told = (
                "is no name of an environment variable (capital letters, digits, `_`); give the "
                "variable's name here, never the secret itself"
            )
            self._add(way, told)
            return None
        if environ is None:
            return _REDACTED_URL if stem == "url" else REDACTED
        if way.endswith("_env"):
            value, told = environ.get(text, "").strip(), "the variable that it names is not set"
        else:
            value, told = _file_text(text)
        if not value:
            self._add(way, f"{told}; nothing can be sent without it")
            return None
        if not (value.isascii() and value.isprintable()) or len(value) > _SECRET_CHARS_MAX:
            told = "what it names is not one line of printable ASCII; expected the secret alone"
            self._add(way, told)
            return None
        return value

    def _check_url(self, way: str, value: str, *, is_inline: bool) -> None:
        try:
            url = httpx.URL(value)
        except httpx.InvalidURL:
            url = httpx.URL("")
        if url.scheme not in ("http", "https") or not url.host:
            self._add(way, "is no address; give http://HOST… or https://HOST…")
        elif url.userinfo:
            self._add(way, "holds a login, which is a secret; leave it out of the address")
        elif is_inline and (url.query or url.fragment):
            stems = [stem for stem in _stems(self._kind) if stem != "url"]
            names = ["url_env"] if "url" in _stems(self._kind) else [f"{s}_env" for s in stems]
            told = (
                "has a `?` or `#` part, which may hold a secret; give the address up to it, and "
                f"the rest by {' and '.join(names)}"
            )
            self._add(way, told)

    def _add(self, name: str, told: str) -> None:
        self.told.add(name)
        self._problems.add(f"{self._path}.{name}", self._tree[name].line, told)


def _stems(kind: Kind) -> list[str]:
    fields = kind.settings.__struct_fields__
    return [name.removesuffix("_env") for name in fields if name.endswith("_env")]


def _plain_urls(kind: Kind) -> list[str]:
    """Of robots and phones: a fixed address that is no secret."""
    return [] if "url" in _stems(kind) else ["url"]


def _default(kind: Kind, name: str) -> str | None:
    defaults = {field.name: field.default for field in msgspec.structs.fields(kind.settings)}
    default = defaults.get(name)
    return default if isinstance(default, str) else None


def _file_text(path: str) -> tuple[str, str]:
    """(text, what is wrong where there is none)."""
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8 text"
        return "", f"the file that it names can't be read ({reason})"
    return text, "the file that it names is empty"
