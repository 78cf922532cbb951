"""YAML of a policy as a tree that remembers its lines, and the list of everything wrong with it.

YAML's own loader keeps the last of two equal keys silently and forgets where a value stood; both
would cost an operator an evening, so the nodes are walked here.
"""

from collections.abc import Sequence
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
    "nearest",
    "parse",
    "plain",
    "planted",
    "shown",
]

TEXT_CHARS_MAX = 1_000_000
_DEPTH_MAX = 20
_ENTRIES_MAX = 200_000
"""Aliases make a small text a huge tree ("billion laughs")."""
_PROBLEMS_MAX = 100
"""Nobody mends more at once, and looking for near names takes time."""
_SHOWN_MAX = 80
"""Characters of a found value in a message."""
_LISTED_MAX = 12
"""Longer lists of what is allowed hide the suggestion before them."""


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml where the wheel has it, which all but exotic ones do: 1,000 rules in 20 ms instead of 300."""


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
    untold: int = 0

    def add(self, path: str, line: int, message: str) -> None:
        """Keeps one problem."""
        if self.is_full:
            self.untold += 1
        else:
            self.found.append(Problem(self.where, line, path, message))

    @property
    def is_full(self) -> bool:
        """Whether more problems are only counted."""
        return len(self.found) >= _PROBLEMS_MAX

    def add_unknown(
        self, path: str, line: int, name: object, allowed: tuple[str, ...], what: str
    ) -> None:
        """A name that is none of the allowed ones, with the nearest where one is near."""
        if self.is_full:
            self.untold += 1
            return
        near = nearest(name, allowed) if isinstance(name, str) else None
        hints = [f"did you mean `{near}`?"] if near else []
        if not near or len(allowed) <= _LISTED_MAX:
            hints.append(f"allowed: {', '.join(allowed)}")
        self.add(path, line, f"{shown(name)} is no {what}; {' '.join(hints)}")

    def in_order(self) -> tuple[Problem, ...]:
        """All that was found, in the file's order."""
        found = sorted(self.found, key=lambda problem: problem.line)
        if self.untold:
            found.append(Problem(self.where, 0, "", f"and {self.untold} more; mend these first"))
        return tuple(found)

    def raise_if_any(self) -> None:
        """Raises PolicyError with all that was found, in the file's order."""
        if self.found:
            raise PolicyError(self.in_order())


def nearest(name: str, allowed: Sequence[str]) -> str | None:
    """The allowed name that was probably meant, where one is near."""
    folded = {other.casefold(): other for other in allowed}
    near = get_close_matches(name[:_SHOWN_MAX].casefold(), folded, n=1, cutoff=0.6)
    return folded[near[0]] if near else None


def shown(value: object) -> str:
    """A value as found, in a message: never longer than a line."""
    match value:
        case dict():
            return "a section"
        case list():
            return "a list"
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case _:
            text = repr(value) if isinstance(value, str) else str(value)
            return text if len(text) <= _SHOWN_MAX else f"{text[: _SHOWN_MAX - 1]}…"


def parse(text: str, problems: Problems) -> dict[str, Entry]:
    """The mapping that a policy is; empty, and a problem, where the text holds none."""
    try:
        if len(text) > TEXT_CHARS_MAX:
            problems.add("", 0, f"{len(text)} characters; give at most {TEXT_CHARS_MAX}")
            return {}
        if not _is_within_bounds(text, problems):
            return {}
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as problem:
        mark: Any = problem.problem_mark or problem.context_mark
        line = mark.line + 1 if mark else 0
        hint = _hint(text, mark, str(problem.context))
        problems.add("", line, f"is not YAML: {problem.problem}{hint}")
        return {}
    except (yaml.YAMLError, UnicodeError) as problem:
        problems.add("", 0, f"is not YAML: {' '.join(str(problem).split())}")
        return {}
    if not isinstance(node, yaml.MappingNode):
        found = "a list" if isinstance(node, yaml.SequenceNode) else "a single value"
        found = "nothing" if node is None else found
        problems.add("", 0, f"expected a mapping of settings; found {found}")
        return {}
    walk = _Walk(problems)
    tree = walk.mapping(node, "", 0)
    return tree if walk.left > 0 else {}


def _is_within_bounds(text: str, problems: Problems) -> bool:
    """One look at the text before a tree is built of it: libyaml does that by recursion, without an end."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEPTH_MAX or count > _ENTRIES_MAX:
            told = f"is nested too deeply; give at most {_DEPTH_MAX} levels"
            if depth <= _DEPTH_MAX:
                told = f"has more than {_ENTRIES_MAX} values; write a shorter policy"
            mark: Any = event.start_mark
            problems.add("", mark.line + 1, told)
            return False
    return True


def _hint(text: str, mark: Any, context: str) -> str:
    """What usually makes YAML fail at this place, libyaml's or Python's mark of it."""
    lines = text.split("\n")
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "; indent with spaces, never with tabs"
    is_sign = mark is not None and line[mark.column : mark.column + 1] in ("*", "@", "%", "`")
    if is_sign or context.endswith((" alias", " anchor")):
        return "; put patterns and text with signs in quotes"
    return ""


def plain(tree: Tree) -> Any:
    """The tree without its lines, as YAML's loader would give it."""
    if isinstance(tree, dict):
        return {name: plain(entry.value) for name, entry in tree.items()}
    if isinstance(tree, list):
        return [plain(entry.value) for entry in tree]
    return tree


def planted(value: object) -> Tree:
    """Plain data as a tree without lines: the way back from `plain`. Raises ValueError for data that no
    policy holds."""
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise ValueError("has a key that is no word")
        return {name: Entry(planted(inner), 0) for name, inner in value.items()}
    if isinstance(value, list):
        return [Entry(planted(inner), 0) for inner in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise ValueError(f"holds a {type(value).__name__}")


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
                    self.problems.add(
                        path, line, f"{shown(text)} is a {kind}; give a number or a word"
                    )
        except ValueError:
            self.problems.add(path, line, f"{shown(text)} is no plain decimal number")
        return Unread()
