"""`tidegate test`: runs case files and says what came of them."""

import argparse
import fnmatch
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.streams.errors import UsageError
from tidegate.streams.output import open_output

if TYPE_CHECKING:
    from tidegate.streams.policy_test.case import Case
    from tidegate.streams.policy_test.running import CaseResult

__all__ = ["add_parser", "builtin_files", "cases_of"]

EXIT_FAILED = 1
_FILE_BYTES_MAX = 4_000_000
_CASES_PER_PROCESS = 8
"""A process takes two seconds to start: fewer cases are quicker done in one."""
_SUFFIXES = (".yaml", ".yml")

_DESCRIPTION = """\
Tries policies on made-up traffic in virtual time: what happens and what is expected stand in
YAML files; no Python, no Kafka, nothing by chance. Without FILE: the built-in packs' own cases.

FILE may be a folder: all *.yaml files below it. docs/policy-tests.md says how cases are written."""
_EXAMPLES = """\
examples:
  tidegate test                              the built-in packs' cases
  tidegate test shop-cases.yaml
  tidegate test cases/ --junit out.xml --jobs 4
  tidegate test -k 'half*' --list

exit status: 0 all passed, 1 failures, 2 wrong files or usage"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `tidegate test`."""
    parser = subparsers.add_parser(
        "test", help="try policies on cases", description=_DESCRIPTION, epilog=_EXAMPLES
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="case files, or folders of them")
    parser.add_argument(
        "-k",
        dest="pattern",
        metavar="PATTERN",
        help="only cases whose `FILE: NAME` has this text, or matches it where it has * or ?",
    )
    parser.add_argument("--list", action="store_true", help="name the cases, run none")
    parser.add_argument(
        "--jobs",
        type=int,
        default=0,
        metavar="N",
        help="processes (default: as many as there are processors, and cases for)",
    )
    parser.add_argument("--junit", metavar="PATH", help="also write JUnit XML")
    parser.add_argument("--json", action="store_true", help="a JSON document instead of lines")
    parser.set_defaults(handler=_test)


def builtin_files() -> list[Path]:
    """The built-in packs' case files."""
    from importlib.resources import files

    folder = Path(str(files("tidegate.rules"))) / "packs" / "cases"
    return sorted(folder.glob("*.yaml"))


def cases_of(names: Sequence[str]) -> "list[Case]":
    """The cases of files and folders, in that order. Raises UsageError with everything that is wrong in
    any of them."""
    from tidegate.rules.policy import PolicyError
    from tidegate.streams.policy_test.reading import read_case_text

    cases: list[Case] = []
    wrong: list[str] = []
    for path in _files_of(names):
        try:
            cases += read_case_text(_text_of(path), where=str(path))
        except PolicyError as problem:
            wrong.append(str(problem))
    if wrong:
        raise UsageError("\n".join(["case files have problems", *wrong]))
    return cases


def _test(args: argparse.Namespace) -> int:
    from rich.console import Console

    from tidegate.schemas.compiling import FIRST_USE, is_first_use
    from tidegate.streams.policy_test import report

    if args.jobs < 0:
        raise UsageError(f"--jobs {args.jobs}: give a number of processes, or 0")
    cases = [case for case in cases_of(args.files) if _is_wanted(case.title, args.pattern)]
    if not cases:
        raise UsageError(f"-k {args.pattern}: matches no case; --list names them")
    # Long lines stay whole: CI shows them in full, and a terminal wraps by itself.
    console = Console(highlight=False, soft_wrap=True)
    if args.list:
        for line in report.listing(cases):
            console.print(line, markup=False)
        return 0
    if is_first_use() and not args.json:
        sys.stderr.write(f"tidegate: {FIRST_USE}\n")
    started = time.perf_counter()
    results = []
    with _progress(len(cases), is_shown=not args.json) as advance:
        for result in _run(cases, args.jobs):
            results.append(result)
            advance()
            if not args.json:
                console.print(report.case_line(result))
    elapsed_s = time.perf_counter() - started
    failed = [result for result in results if not result.has_passed]
    if args.junit:
        with open_output(args.junit) as out:
            out.write(report.junit_report(results, elapsed_s=elapsed_s))
    if args.json:
        sys.stdout.write(report.json_report(results, elapsed_s=elapsed_s).decode())
        return EXIT_FAILED if failed else 0
    for result in failed:
        console.print()
        for text in report.failure_lines(result):
            console.print(text)
    console.print()
    console.print(report.summary_line(results, elapsed_s=elapsed_s))
    return EXIT_FAILED if failed else 0


def _run(cases: "Sequence[Case]", jobs: int) -> "Iterator[CaseResult]":
    """Results in the order of the cases."""
    from tidegate.streams.policy_test.running import run_case

    usable = jobs or min(os.cpu_count() or 1, len(cases) // _CASES_PER_PROCESS)
    if usable <= 1:
        yield from map(run_case, cases)
        return
    # Started anew, not forked: a fork takes over locks of threads that it doesn't have.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(usable, len(cases)), mp_context=context) as pool:
        try:
            yield from pool.map(run_case, cases)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _is_wanted(title: str, pattern: str | None) -> bool:
    if pattern is None:
        return True
    if any(sign in pattern for sign in "*?["):
        return fnmatch.fnmatchcase(title.casefold(), f"*{pattern.casefold()}*")
    return pattern.casefold() in title.casefold()


def _files_of(names: Sequence[str]) -> list[Path]:
    if not names:
        return builtin_files()
    out: list[Path] = []
    for name in names:
        path = Path(name)
        found = [path]
        if path.is_dir():
            found = sorted(one for one in path.rglob("*") if one.suffix in _SUFFIXES)
            if not found:
                raise UsageError(f"{name}: holds no *.yaml file")
        for one in found:
            if one in out:
                raise UsageError(f"{one} is named twice; its cases would run twice")
            out.append(one)
    return out


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
        if len(data) > _FILE_BYTES_MAX:
            raise UsageError(f"{path}: has more than {_FILE_BYTES_MAX} bytes; that is no case file")
        return data.decode("utf-8-sig")
    except OSError as problem:
        raise UsageError(f"{path}: can't be read ({problem.strerror})") from problem
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        raise UsageError(f"{path}:{line}: is not UTF-8; save it as UTF-8") from problem


@contextmanager
def _progress(total: int, *, is_shown: bool) -> "Iterator[Callable[[], None]]":
    """How many are done, on stderr, where that is a terminal of its own."""
    if not is_shown or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress

    console = Console(stderr=True)
    with Progress(BarColumn(), MofNCompleteColumn(), console=console, transient=True) as progress:
        task = progress.add_task("cases", total=total)
        yield lambda: progress.advance(task)
