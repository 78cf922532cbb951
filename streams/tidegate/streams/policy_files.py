"""Policies that a user names: packs, files, and the files that those extend. Reading is here, meaning in
`rules.policy`."""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from tidegate.rules.policy import PACKS, Policy, PolicyError, policy_of_layers
from tidegate.rules.policy_layers import Layer, laid_over, layers_of, pack_layers
from tidegate.rules.policy_origin import pack_of
from tidegate.rules.policy_yaml import TEXT_CHARS_MAX, Problem, plain

__all__ = ["flattened_yaml", "layers_named", "read_policy"]

_FILE_BYTES_MAX = 4 * TEXT_CHARS_MAX
"""UTF-8 takes at most four bytes a character."""


def read_policy(name: str) -> Policy:
    """A pack by its name, or a policy file. Raises PolicyError with every problem found."""
    return policy_of_layers(layers_named(name))


def layers_named(name: str) -> tuple[Layer, ...]:
    """What a pack or a file is made of, lowest first. Raises PolicyError with every problem found."""
    if name in PACKS:
        return pack_layers(name)
    where = os.path.normpath(name)
    try:
        text = _text_of(where)
    except ValueError as problem:
        hint = "" if Path(where).exists() else _near_pack(name)
        raise PolicyError((Problem(where, 0, "", f"{problem}{hint}"),)) from problem
    return layers_of(text, where=where, resolve=_resolve)


def flattened_yaml(name: str) -> str:
    """The policy as one text that extends no file: the file as it was written where it extends none, else
    all of them merged. Raises PolicyError with every problem found, laws between settings included."""
    if name in PACKS:
        return f"name: {name}\nextends: {name}\n"
    layers = layers_named(name)
    policy_of_layers(layers)
    files = [layer for layer in layers if not layer.is_pack]
    if len(files) == 1:
        return "\n".join(files[0].lines)
    merged: Mapping[str, Any] = {}
    for layer in files:
        merged = laid_over(dict(merged), plain(layer.tree))
    # The name first, as everyone writes it.
    whole = {"name": merged["name"], **merged, "extends": pack_of(layers)}
    sources = ", ".join(layer.where for layer in reversed(files))
    return f"# Merged from {sources}.\n" + yaml.safe_dump(
        whole, sort_keys=False, allow_unicode=True, width=100
    )


def _resolve(name: str, where: str) -> tuple[str, str]:
    """A file that another one extends: its name is relative to that one's folder."""
    path = os.path.normpath(Path(where).parent / name)
    try:
        return path, _text_of(path)
    except ValueError as problem:
        raise ValueError(
            f"{path}: {problem}; names are relative to this file's folder"
        ) from problem


def _text_of(path: str) -> str:
    """Raises ValueError, which says why it can't be read. Never reads more than a policy may hold."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
    except OSError as problem:
        raise ValueError(f"can't be read ({problem.strerror})") from problem
    if len(data) > _FILE_BYTES_MAX:
        raise ValueError(f"has more than {_FILE_BYTES_MAX} bytes; that is no policy")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        raise ValueError(
            f"is not UTF-8: byte 0x{data[problem.start]:02x} in line {line}; save it as UTF-8"
        ) from problem


def _near_pack(name: str) -> str:
    near = get_close_matches(name, PACKS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{hint}; packs are {', '.join(PACKS)}"
