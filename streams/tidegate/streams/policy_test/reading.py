"""Case files: YAML to cases, with everything that is wrong with a file in one go."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tidegate.rules.policy import Policy, PolicyError, policy_of_layers
from tidegate.rules.policy_check import check_file
from tidegate.rules.policy_layers import PACKS, Layer, pack_layers
from tidegate.rules.policy_yaml import Entry, Problem, Problems, Tree, parse, plain, shown
from tidegate.schemas.control import ControlRecord
from tidegate.streams.policy_files import flattened_yaml, layers_named
from tidegate.streams.policy_test.asking import parse_action
from tidegate.streams.policy_test.case import Case
from tidegate.streams.policy_test.expect import Expectation
from tidegate.streams.policy_test.expect_grammar import parse_check, parse_when, split_within
from tidegate.streams.policy_test.metric_series import MetricSeries, parse_metric
from tidegate.streams.policy_test.series import ATTRIBUTES, Series, parse_series
from tidegate.streams.policy_test.traffic import Key
from tidegate.streams.policy_test.values import steps_ms

__all__ = ["SPANS_MAX", "read_case_text"]

SPANS_MAX = 3_000_000
"""Of one case: about a minute of work and a gigabyte."""
LENGTH_MAX_MS = 48 * 3_600_000
_SEED = 1
_FILE_KEYS = ("policy", "cases")
_CASE_KEYS = ("name", "seed", "policy", "obey", "traffic", "metrics", "operator", "expect")
_EDGE = re.compile(r"(\S+)\s*->\s*(\S+)")
_AT = re.compile(r"at\s+(\S+)")

Tell = Callable[[str], None]


def read_case_text(text: str, *, where: str) -> tuple[Case, ...]:
    """The cases of a file. Policies that it names are read from files beside it. Raises PolicyError with
    all that is wrong."""
    problems = Problems(where)
    tree = parse(text, problems)
    problems.raise_if_any()
    return _File(problems, text).cases(tree)


class _File:
    def __init__(self, problems: Problems, text: str) -> None:
        self.problems = problems
        self.where = problems.where
        self.lines = tuple(text.split("\n"))
        self.suite = Path(self.where).stem
        self.policy_problems: list[Problem] = []

    def cases(self, tree: dict[str, Entry]) -> tuple[Case, ...]:
        self._known(tree, _FILE_KEYS, "", "key of a case file")
        policy = self._policy(tree["policy"], "policy") if "policy" in tree else None
        items = self._list(tree.get("cases"), "cases")
        if not items and not self.problems.found:
            self.problems.add("cases", 0, "has no case; give a list of them, each with a name")
        cases = [
            case
            for number, item in enumerate(items)
            if (case := self._case(item, f"cases[{number}]", policy)) is not None
        ]
        self._unique(cases)
        found = (*self.problems.in_order(), *self.policy_problems)
        if found:
            raise PolicyError(found)
        return tuple(cases)

    def _unique(self, cases: Sequence[Case]) -> None:
        lines: dict[str, int] = {}
        for case in cases:
            if case.name in lines:
                told = f"{shown(case.name)} is the name of the case in line {lines[case.name]}, too"
                self.problems.add("name", case.line, f"{told}; give another")
            lines.setdefault(case.name, case.line)

    def _case(self, item: Entry, path: str, policy: Policy | None) -> Case | None:
        tree = item.value
        if not isinstance(tree, dict):
            self.problems.add(path, item.line, f"a case is a mapping; found {shown(plain(tree))}")
            return None
        self._known(tree, _CASE_KEYS, path, "key of a case")
        name = self._text(tree.get("name"), f"{path}.name")
        if "name" not in tree:
            self.problems.add(
                f"{path}.name", item.line, "is missing; say in a sentence what is tested"
            )
        if "policy" in tree:
            policy = self._policy(tree["policy"], f"{path}.policy")
        elif policy is None and not self.policy_problems and not self.problems.found:
            self.problems.add(
                f"{path}.policy", item.line, f"is missing; give a file or one of {', '.join(PACKS)}"
            )
        traffic = self._traffic(tree.get("traffic"), f"{path}.traffic")
        metrics = self._metrics(tree.get("metrics"), f"{path}.metrics")
        actions = self._actions(tree.get("operator"), f"{path}.operator")
        expectations = self._expectations(tree.get("expect"), f"{path}.expect")
        if not expectations:
            line = tree["expect"].line if "expect" in tree else item.line
            self.problems.add(f"{path}.expect", line, "expects nothing; give at least one line")
        if not traffic and not metrics:
            self.problems.add(
                f"{path}.traffic", item.line, "is missing; give a series by service or edge"
            )
        seed = self._whole(tree.get("seed"), f"{path}.seed", _SEED)
        obeys = self._flag(tree.get("obey"), f"{path}.obey")
        if policy is None:
            return None
        case = Case(
            where=self.where,
            line=item.line,
            suite=self.suite,
            name=name,
            seed=seed,
            policy=policy.content(),
            policy_label=policy.label,
            traffic=tuple(traffic.items()),
            metrics=tuple(metrics),
            actions=tuple(sorted(actions, key=lambda action: action[0])),
            expectations=tuple(expectations),
            obeys=obeys,
        )
        self._check_size(case, path)
        return case

    def _check_size(self, case: Case, path: str) -> None:
        spans = sum(
            max(segment.rps.start, segment.rps.end) * segment.for_ms / 1_000
            for _, series in case.traffic
            for segment in series.segments
        )
        if spans > SPANS_MAX:
            told = f"would have up to {spans:,.0f} requests; give at most {SPANS_MAX:,}"
            self.problems.add(f"{path}.traffic", case.line, told)
        if case.length_ms > LENGTH_MAX_MS:
            self.problems.add(path, case.line, "takes more than 48h of virtual time; give less")

    # ---- policies ----

    def _policy(self, entry: Entry, path: str) -> Policy | None:
        try:
            if isinstance(entry.value, dict):
                return policy_of_layers(self._inline(entry.value, entry.line))
            name = self._text(entry, path)
            return policy_of_layers(layers_named(self._beside(name))) if name else None
        except PolicyError as problem:
            self.policy_problems += problem.problems
            return None

    def _inline(self, tree: dict[str, Entry], line: int) -> tuple[Layer, ...]:
        problems = Problems(self.where)
        tree = {"name": Entry(f"{self.suite}-line-{line}", line)} | tree
        below = pack_layers("default")
        extends = tree.pop("extends", None)
        if extends is not None:
            below = layers_named(self._beside(str(plain(extends.value))))
        check_file(tree, problems)
        problems.raise_if_any()
        return (*below, Layer(self.where, self.lines, tree))

    def _beside(self, name: str) -> str:
        """A file's name is relative to the case file's folder."""
        return name if name in PACKS else str(Path(self.where).parent / name)

    def _policy_text(self, name: str) -> str:
        try:
            return flattened_yaml(self._beside(name))
        except PolicyError as problem:
            raise ValueError(str(problem)) from problem

    # ---- what happens ----

    def _traffic(self, entry: Entry | None, path: str) -> dict[Key, Series]:
        out: dict[Key, Series] = {}
        for name, inner in self._mapping(entry, path).items():
            here = f"{path}.{name}"
            edge = _EDGE.fullmatch(name)
            key = (edge[1], edge[2]) if edge else (name, "")
            if not edge and (" " in name or "->" in name or not name):
                self.problems.add(
                    here, inner.line, "is no key; give a service, or `caller -> target`"
                )
            if key in out:
                self.problems.add(here, inner.line, "stands twice; keep one of them")
            out[key] = self._series(inner, here)
        return out

    def _series(self, entry: Entry, path: str) -> Series:
        tell = self._teller(path, entry.line)
        if not isinstance(entry.value, dict):
            return parse_series(self._text(entry, path), tell)
        names = ("series", *(attribute.name for attribute in ATTRIBUTES))
        self._known(entry.value, names, path, "attribute of a series")
        defaults = {
            name: str(plain(inner.value))
            for name, inner in entry.value.items()
            if name != "series" and name in names
        }
        text = self._text(entry.value.get("series"), f"{path}.series")
        return parse_series(text, tell, defaults=defaults)

    def _metrics(self, entry: Entry | None, path: str) -> list[MetricSeries]:
        out = []
        for name, inner in self._mapping(entry, path).items():
            here = f"{path}.{name}"
            service, _, instance = name.partition("@")
            items = inner.value if isinstance(inner.value, list) else [inner]
            for item in items:
                tell = self._teller(here, item.line)
                read = parse_metric(self._text(item, here), service, instance, tell)
                if read is not None:
                    out.append(read)
        return out

    def _actions(self, entry: Entry | None, path: str) -> list[tuple[int, ControlRecord]]:
        out = []
        for line, when, text, here in self._lines(entry, path):
            tell = self._teller(here, line)
            match = _AT.fullmatch(when)
            if match is None:
                tell(f"{shown(when)} is no moment; write `at 30s: {text}`")
                continue
            try:
                at_ms = steps_ms(match[1])
            except ValueError as problem:
                tell(f"at: {problem}")
                continue
            record = parse_action(text, at_ms, tell, policy_text=self._policy_text)
            if record is not None:
                out.append((at_ms, record))
        return out

    def _expectations(self, entry: Entry | None, path: str) -> list[Expectation]:
        out = []
        for line, when_text, text, here in self._lines(entry, path):
            tell = self._teller(here, line)
            rest, within_ms = split_within(text, tell)
            when = parse_when(when_text, within_ms, tell)
            check = parse_check(rest, tell)
            if when is not None and check is not None:
                out.append(Expectation(self.where, line, f"{when_text}: {text}", when, check))
        return out

    # ---- forms ----

    def _lines(self, entry: Entry | None, path: str) -> list[tuple[int, str, str, str]]:
        """(line, key, text, path) of a list of mappings with one key each."""
        out = []
        for number, item in enumerate(self._list(entry, path)):
            here = f"{path}[{number}]"
            if not isinstance(item.value, dict) or len(item.value) != 1:
                told = f"found {shown(plain(item.value))}; write `- at 63s: what` (quote what has a `: `)"
                self.problems.add(here, item.line, told)
                continue
            ((key, inner),) = item.value.items()
            out.append((inner.line, " ".join(key.split()), self._text(inner, here), here))
        return out

    def _teller(self, path: str, line: int) -> Tell:
        return lambda message: self.problems.add(path, line, message)

    def _known(self, tree: dict[str, Entry], names: tuple[str, ...], path: str, what: str) -> None:
        for name, entry in tree.items():
            if name not in names:
                self.problems.add_unknown(
                    f"{path}.{name}" if path else name, entry.line, name, names, what
                )

    def _mapping(self, entry: Entry | None, path: str) -> dict[str, Entry]:
        return self._of(entry, path, dict, "a mapping")  # type: ignore[return-value] # a dict of the tree

    def _list(self, entry: Entry | None, path: str) -> list[Entry]:
        return self._of(entry, path, list, "a list")  # type: ignore[return-value] # a list of the tree

    def _of(self, entry: Entry | None, path: str, form: type, what: str) -> Tree:
        if entry is None:
            return form()  # type: ignore[no-any-return] # an empty dict or list
        if isinstance(entry.value, form):
            return entry.value
        self.problems.add(path, entry.line, f"{shown(plain(entry.value))} is not {what}")
        return form()  # type: ignore[no-any-return] # as above

    def _text(self, entry: Entry | None, path: str) -> str:
        if entry is None:
            return ""
        if isinstance(entry.value, str) and entry.value.strip():
            return " ".join(entry.value.split())
        self.problems.add(path, entry.line, f"{shown(plain(entry.value))} is no text")
        return ""

    def _whole(self, entry: Entry | None, path: str, default: int) -> int:
        if entry is None:
            return default
        if isinstance(entry.value, int) and not isinstance(entry.value, bool) and entry.value >= 0:
            return entry.value
        self.problems.add(path, entry.line, f"{shown(plain(entry.value))} is no whole number")
        return default

    def _flag(self, entry: Entry | None, path: str) -> bool:
        if entry is None or isinstance(entry.value, bool):
            return entry is not None and bool(entry.value)
        self.problems.add(path, entry.line, f"{shown(plain(entry.value))}: give true or false")
        return False
