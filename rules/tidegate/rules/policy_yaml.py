"""YAML of a policy as a tree that remembers its lines, and the list of everything wrong with it.

YAML's own loader keeps the last of two equal keys silently and forgets where a value stood; both
would cost an operator an evening, so the nodes are walked here.
"""

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import yaml

__all__ = [
    "TEXT_CHARS_MAX",
    "Entry",
    "PolicyError",
    "Problem",
    "Problems",
    "Unread",
    "parse",
    "plain",
]

TEXT_CHARS_MAX = 1_000_000
_DEPTH_MAX = 20
_ENTRIES_MAX = 200_000
"""Aliases make a small text a huge tree ("billion laughs")."""
_LISTED_MAX = 12
"""Longer lists of what is allowed hide the suggestion before them."""


@dataclass(frozen=True, slots=True)
class Unread:
    """A value that was refused when it was read: its problem is told already."""


Scalar = str | int | float | bool | Unread | None
Tree = dict[str, "Entry"] | list["Entry"] | Scalar


@dataclass(frozen=True, slots=True)
class Entry:
    """A value and the line it stands on."""

    value: Tree
    line: int
    """From 1; for a value under a key, the key's."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a policy: where, and what was found and what would be right."""

    where: str
    line: int
    """From 1; 0 where it belongs to no line."""
    path: str
    """Dotted path of the setting; empty for the file as a whole."""
    message: str

    def __str__(self) -> str:
        place = f"{self.where}:{self.line}" if self.line else self.where
        path = self.path if self.path.isprintable() else repr(self.path)
        return f"{place}: {path}: {self.message}" if path else f"{place}: {self.message}"


class PolicyError(ValueError):
    """A policy that is refused, with everything that is wrong with it, one line each."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


@dataclass(slots=True)
class Problems:
    """Collects problems, so that one run finds them all."""

    where: str
    found: list[Problem] = field(default_factory=list)

    def add(self, path: str, line: int, message: str) -> None:
        """Keeps one problem."""
        self.found.append(Problem(self.where, line, path, message))

    def add_unknown(
        self, path: str, line: int, name: object, allowed: tuple[str, ...], what: str
    ) -> None:
        """A name that is none of the allowed ones, with the nearest where one is near."""
        near = get_close_matches(str(name), allowed, n=1, cutoff=0.6)
        hints = [f"did you mean `{near[0]}`?"] if near else []
        if not near or len(allowed) <= _LISTED_MAX:
            hints.append(f"allowed: {', '.join(allowed)}")
        self.add(path, line, f"{name!r} is no {what}; {' '.join(hints)}")

    def raise_if_any(self) -> None:
        """Raises PolicyError with all that was found, in the file's order."""
        if self.found:
            raise PolicyError(tuple(sorted(self.found, key=lambda problem: problem.line)))


def parse(text: str, problems: Problems) -> dict[str, Entry]:
    """The mapping that a policy is; empty, and a problem, where the text holds none."""
    try:
        if len(text) > TEXT_CHARS_MAX:
            problems.add("", 0, f"{len(text)} characters; give at most {TEXT_CHARS_MAX}")
            return {}
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        problems.add("", mark.line + 1 if mark else 0, f"is not YAML: {problem.problem}")
        return {}
    except yaml.YAMLError as problem:
        problems.add("", 0, f"is not YAML: {' '.join(str(problem).split())}")
        return {}
    except RecursionError:
        problems.add("", 0, f"is nested too deeply; give at most {_DEPTH_MAX} levels")
        return {}
    if not isinstance(node, yaml.MappingNode):
        found = "a list" if isinstance(node, yaml.SequenceNode) else "a single value"
        found = "nothing" if node is None else found
        problems.add("", 0, f"a policy is a mapping of settings; found {found}")
        return {}
    return _Walk(problems).mapping(node, "", 0)


def plain(tree: Tree) -> Any:
    """The tree without its lines, as YAML's loader would give it."""
    if isinstance(tree, dict):
        return {name: plain(entry.value) for name, entry in tree.items()}
    if isinstance(tree, list):
        return [plain(entry.value) for entry in tree]
    return tree


class _Walk:
    """From YAML's nodes to entries, within bounds."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.left = _ENTRIES_MAX

    def entry(self, node: yaml.Node, path: str, depth: int) -> Entry:
        line = node.start_mark.line + 1
        self.left -= 1
        if self.left == 0:
            self.problems.add(path, line, f"more than {_ENTRIES_MAX} values; leave out the aliases")
        if depth > _DEPTH_MAX:
            self.problems.add(path, line, f"is nested too deeply; give at most {_DEPTH_MAX} levels")
        if depth > _DEPTH_MAX or self.left <= 0:
            return Entry(None, line)
        if isinstance(node, yaml.MappingNode):
            return Entry(self.mapping(node, path, depth), line)
        if isinstance(node, yaml.SequenceNode):
            items = [
                self.entry(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(node.value)
            ]
            return Entry(items, line)
        return Entry(self._scalar(node, path, line), line)

    def mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[str, Entry]:
        out: dict[str, Entry] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.add(path, line, "a key must be a word")
                continue
            name = str(key_node.value)
            inner = f"{path}.{name}" if path else name
            if name in out:
                self.problems.add(
                    inner, line, f"stands twice, first in line {out[name].line}; keep one of them"
                )
                continue
            out[name] = Entry(self.entry(value_node, inner, depth + 1).value, line)
            if self.left <= 0:
                break
        return out

    def _scalar(self, node: yaml.Node, path: str, line: int) -> Scalar:
        if not isinstance(node, yaml.ScalarNode):
            return None
        text, kind = str(node.value), str(node.tag).rpartition(":")[2]
        try:
            match kind:
                case "null":
                    return None
                case "bool":
                    return text.lower() in ("true", "yes", "on")
                case "int":
                    return int(text.replace("_", ""))
                case "float":
                    return float(
                        text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan")
                    )
                case "str":
                    return text
                case _:
                    self.problems.add(path, line, f"{text!r} is a {kind}; give a number or a word")
        except ValueError:
            self.problems.add(path, line, f"{text!r} is no plain decimal number")
        return Unread()
