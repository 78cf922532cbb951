"""What a policy is made of: the pack below, the files it extends, the file itself, each over the last.

Mappings are merged key by key, everything else (lists such as `services`, too) is replaced as a whole.
Files are read by whoever calls: this only asks for them, by the name that stands under `extends`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from tidegate.rules.policy_check import check_file
from tidegate.rules.policy_yaml import Entry, PolicyError, Problem, Problems, parse, plain

__all__ = [
    "CHAIN_MAX",
    "PACKS",
    "Layer",
    "Resolve",
    "effective",
    "laid_over",
    "layers_of",
    "pack_layers",
]

PACKS = ("default", "reference", "adaptive")
CHAIN_MAX = 8
"""Files that extend each other: more is a maze nobody can follow."""
NOT_KEPT = ("extends", "sampling")
"""Keys of a file that are no settings: they are obeyed when it is read."""

Resolve = Callable[[str, str], tuple[str, str]]
"""(name under `extends`, the file it stands in) -> (that file's name, its text). Raises ValueError, which
says why it can't be read."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One pack or file, as it was written."""

    where: str
    """`shop.yaml`, `pack default`."""
    lines: tuple[str, ...]
    tree: dict[str, Entry]
    is_pack: bool = False


def layers_of(text: str, *, where: str, resolve: Resolve | None = None) -> tuple[Layer, ...]:
    """The layers of a policy, lowest first, each checked by itself. Raises PolicyError with all that is
    wrong in all of them."""
    problems: list[Problem] = []
    chain: list[Layer] = []
    while True:
        own = Problems(where)
        tree = parse(text, own)
        chain.append(Layer(where, tuple(text.split("\n")), tree))
        if len(chain) == 1 and tree and "name" not in tree:
            own.add("name", 0, "is missing; give the policy a name, it is part of every decision")
        check_file(tree, own)
        base, parent = _base_of(tree, own, chain, resolve)
        problems += own.in_order()
        if parent is None:
            break
        where, text = parent
    if problems:
        raise PolicyError(tuple(problems))
    return (*pack_layers(base), *reversed(chain))


@cache
def pack_layers(name: str) -> tuple[Layer, ...]:
    """A pack over `default`; read once, never changed."""
    text = (files("tidegate.rules") / "packs" / f"{name}.yaml").read_text(encoding="utf-8")
    problems = Problems(f"pack {name}")
    tree = parse(text, problems)
    check_file(tree, problems)
    problems.raise_if_any()
    own = Layer(problems.where, tuple(text.split("\n")), tree, is_pack=True)
    return (own,) if name == "default" else (*pack_layers("default"), own)


def effective(layers: Iterable[Layer]) -> dict[str, Any]:
    """What holds, as plain data; rules under `services` say only what differs."""
    raw: dict[str, Any] = {}
    for layer in layers:
        own = {name: entry for name, entry in layer.tree.items() if name not in NOT_KEPT}
        above: dict[str, Any] = plain(own)
        raw = laid_over(raw, above)
    return raw


def laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Mappings are merged key by key, everything else is replaced."""
    return below | {key: _over(below.get(key), value) for key, value in above.items()}


def _over(old: object, value: object) -> object:
    if isinstance(old, dict) and isinstance(value, dict):
        return laid_over(old, value)
    return value


def _base_of(
    tree: dict[str, Entry], problems: Problems, chain: list[Layer], resolve: Resolve | None
) -> tuple[str, tuple[str, str] | None]:
    """The pack below, and the file that is extended, where one is."""
    base = tree.get("extends")
    if base is None or base.value in PACKS:
        return str(base.value) if base else "default", None
    name = base.value
    if not isinstance(name, str) or not _is_file(name):
        problems.add_unknown("extends", base.line, name, PACKS, "pack and no file like base.yaml")
        return "default", None
    told = ""
    if resolve is None:
        told = (
            f"{name!r} is a file, and none is read here; `tidegate policy push` and `tidegate "
            "policy show` merge a policy with the files that it extends"
        )
    elif len(chain) == CHAIN_MAX:
        told = f"{name!r} would be file {CHAIN_MAX + 1} of a chain; give at most {CHAIN_MAX}"
    else:
        try:
            parent = resolve(name, problems.where)
        except ValueError as problem:
            told = str(problem)
        else:
            names = [layer.where for layer in chain]
            if parent[0] not in names:
                return "default", parent
            ring = " -> ".join([*names[names.index(parent[0]) :], parent[0]])
            told = f"{name!r} closes a ring of files that extend each other: {ring}"
    problems.add("extends", base.line, told)
    return "default", None


def _is_file(name: str) -> bool:
    return "/" in name or "\\" in name or name.endswith((".yaml", ".yml"))
