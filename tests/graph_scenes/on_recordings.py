"""Real recordings through the graph: `python -m tests.graph_scenes.on_recordings FOLDER [FILE ...]`.

FOLDER holds recordings and a `labels.yaml` that says what was wrong when. For each labelled fault it prints how
the graphs of the entries were, who was blamed, and at which rank the labelled one stands; and how much of the
time outside of all faults a graph was not closed. Recordings belong to others: nothing of them is kept here.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tidegate.rules.pipeline import Offline
from tidegate.rules.policy import builtin_policy
from tidegate.schemas.graph import EntryView, GraphView
from tidegate.schemas.level import LEVEL_NAMES
from tidegate.streams.replay_input import ReplayInput

__all__ = ["Fault", "faults_of", "main", "report"]

LASTS_AFTER_MS = 30_000
"""After a fault's last evidence it still lies in the window."""
TOP = 3


@dataclass(frozen=True, slots=True)
class Fault:
    """One label."""

    name: str
    what: str
    start_ms: int
    end_ms: int
    services: frozenset[str]
    """Whoever of these is blamed is blamed rightly."""
    is_usable: bool = True


@dataclass(slots=True)
class Tally:
    """What views said of one entry while something lasted."""

    levels: Counter[str] = field(default_factory=Counter)
    first: Counter[str] = field(default_factory=Counter)
    """Who ranked first, in views that blame anybody."""
    top: Counter[str] = field(default_factory=Counter)
    """Who was among the first three."""
    share: dict[str, float] = field(default_factory=dict)
    """Sum of shares."""
    score_min: float = 1.0
    reason: dict[str, str] = field(default_factory=dict)
    """By name, the newest."""

    def add(self, entry: EntryView) -> None:
        self.levels[entry.level] += 1
        self.score_min = min(self.score_min, entry.score)
        for rank, cause in enumerate(entry.root_causes[:TOP]):
            self.first[cause.name] += rank == 0
            self.top[cause.name] += 1
            self.share[cause.name] = self.share.get(cause.name, 0.0) + cause.share
            self.reason[cause.name] = cause.reason


def faults_of(labels: Mapping[str, Any], file: str) -> list[Fault]:
    """Those that `labels.yaml` says of a file, in the order of time."""
    files = [str(one["file"]) for one in labels.get("files", [])]
    out = []
    for one in labels.get("incidents", []):
        if str(one.get("file", files[0] if files else "")) == file:
            cause = one["root_cause"]
            names = {str(cause["service"])} | {
                edge.split("->")[1] for edge in cause.get("edges", [])
            }
            out.append(
                Fault(
                    name=str(one["id"]),
                    what=f"{one['fault']}, {cause['kind']} {one['service']}",
                    start_ms=int(one["start_ms"]),
                    end_ms=int(one.get("last_evidence_ms") or one["end_ms"]),
                    services=frozenset(names),
                    is_usable=bool(one.get("usable", True)),
                )
            )
    for one in labels.get("files", []):
        if str(one["file"]) == file and "deepest_failing" in one:
            deepest = [str(name) for name, _ in one["deepest_failing"]]
            out.append(
                Fault(
                    name=str(one["case"]),
                    what=f"failing all through: {', '.join(sorted(set(deepest)))}",
                    start_ms=int(one["start_ms"]),
                    end_ms=int(one["end_ms"]),
                    services=frozenset(name.rpartition("->")[2] for name in deepest),
                )
            )
    return sorted(out, key=lambda fault: fault.start_ms)


def report(file: Path, faults: Sequence[Fault]) -> Iterator[str]:
    """Lines of text for one recording."""
    views, last_ms = _views_of(file)
    yield f"{file.name}: {len(views)} views, until {last_ms}"
    if not views:
        yield "  no view of the graph: nothing to judge"
        return
    newest = views[-1]
    virtual = [node.name for node in newest.nodes if node.kind == "virtual"]
    yield (
        f"  graph: {len(newest.nodes)} nodes ({len(virtual)} virtual: {', '.join(virtual[:6])}), "
        f"{len(newest.edges)} edges, entries {', '.join(one.entry for one in newest.entries)}"
    )
    for fault in faults:
        yield from _on_fault(fault, views)
    yield from _outside(faults, views)
    yield from _findings(views)


def main(arguments: list[str]) -> None:
    """Prints the report of a folder. Exit status 2 where it has no labels."""
    parser = argparse.ArgumentParser(prog="python -m tests.graph_scenes.on_recordings")
    parser.add_argument("folder", type=Path, help="with recordings and labels.yaml")
    parser.add_argument("files", nargs="*", help="only these of it")
    args = parser.parse_args(arguments)
    path = args.folder / "labels.yaml"
    if not path.is_file():
        parser.error(f"{path}: is not there; name a folder with recordings and their labels")
    labels = yaml.safe_load(path.read_text())
    for file in sorted(args.folder.iterdir()):
        if ".jsonl" not in file.name and ".binpb" not in file.name:
            continue
        if not args.files or file.name in args.files:
            for line in report(file, faults_of(labels, file.name)):
                print(line, flush=True)


def _views_of(file: Path) -> tuple[list[GraphView], int]:
    """All views of a recording under policy `default`, and its last time in ms."""
    records = ReplayInput([str(file)], on_problem=lambda problem: print(problem, file=sys.stderr))
    offline = Offline(builtin_policy("default"))
    views: list[GraphView] = []
    for columns, times_ms in records:
        views += offline.feed_columns(columns, times_ms).views
    views += offline.finish().views
    return views, records.counts.last_ms or 0


def _on_fault(fault: Fault, views: Sequence[GraphView]) -> Iterator[str]:
    until_ms = fault.end_ms + LASTS_AFTER_MS
    mine = [view for view in views if fault.start_ms <= view.window_end_ms <= until_ms]
    seconds = (fault.end_ms - fault.start_ms) // 1000
    usable = "" if fault.is_usable else ", labelled as not usable"
    yield f"  {fault.name}: {fault.what}, {seconds} s{usable}"
    tallies = _tallies(mine)
    seen_ms = [
        view.window_end_ms
        for view in mine
        if any(entry.level != "closed" for entry in view.entries)
    ]
    named_ms = [
        view.window_end_ms
        for view in mine
        if any(
            entry.root_causes and entry.root_causes[0].name in fault.services
            for entry in view.entries
        )
    ]
    yield f"    first not closed {_after(seen_ms, fault)}, first blamed rightly {_after(named_ms, fault)}"
    for entry, tally in tallies.items():
        if set(tally.levels) == {"closed"} and not tally.top:
            continue
        yield f"    graph:{entry}: {_levels(tally)}, lowest score {tally.score_min:.2f}"
        blaming = sum(tally.first.values())
        for name, count in tally.first.most_common(TOP):
            mark = "RIGHT" if name in fault.services else "other"
            yield (
                f"      {mark} {name}: first in {count} of {blaming}, among {TOP} in {tally.top[name]}, "
                f"mean share {tally.share[name] / tally.top[name]:.2f}: {tally.reason[name]}"
            )
        for name in sorted(fault.services - set(tally.first)):
            if tally.top[name]:
                yield f"      RIGHT {name}: never first, among {TOP} in {tally.top[name]}"
    if all(set(tally.levels) == {"closed"} for tally in tallies.values()):
        yield "    every entry's graph stayed closed"


def _outside(faults: Sequence[Fault], views: Sequence[GraphView]) -> Iterator[str]:
    calm = [
        view
        for view in views
        if not any(
            fault.start_ms <= view.window_end_ms <= fault.end_ms + 5 * LASTS_AFTER_MS
            for fault in faults
        )
    ]
    yield f"  outside of faults: {len(calm)} views"
    for entry, tally in _tallies(calm).items():
        if set(tally.levels) != {"closed"}:
            blamed = ", ".join(f"{name} {count}x" for name, count in tally.first.most_common(TOP))
            yield f"    graph:{entry}: {_levels(tally)}; blamed first: {blamed or 'nobody'}"


def _findings(views: Sequence[GraphView]) -> Iterator[str]:
    newest = {
        (finding.name, tuple(finding.path)): finding for view in views for finding in view.findings
    }
    yield f"  findings: {len(newest)}"
    for finding in sorted(newest.values(), key=lambda one: -one.waste_s_per_min)[:10]:
        yield f"    {finding.name} {' -> '.join(finding.path)}: {finding.reason}"


def _tallies(views: Sequence[GraphView]) -> dict[str, Tally]:
    out: dict[str, Tally] = {}
    for view in views:
        for entry in view.entries:
            out.setdefault(entry.entry, Tally()).add(entry)
    return out


def _levels(tally: Tally) -> str:
    total = sum(tally.levels.values())
    return ", ".join(
        f"{name} {100 * tally.levels[name] // total} %"
        for name in LEVEL_NAMES
        if tally.levels[name]
    )


def _after(times_ms: Sequence[int], fault: Fault) -> str:
    return f"after {(times_ms[0] - fault.start_ms) / 1000:.0f} s" if times_ms else "never"


if __name__ == "__main__":
    main(sys.argv[1:])
