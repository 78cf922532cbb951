"""The command line as people and scripts meet it: real processes, exit statuses, one line of reason."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tidegate.streams.cli import COMMAND_MODULES, build_parser

HELP_S_MAX = 20.0
"""Far above what it takes (0.3 s): CI machines stall."""


def tidegate(*arguments: str, **environ: str) -> tuple[int, str, str]:
    """Exit status, stdout, stderr."""
    ended = subprocess.run(
        [sys.executable, "-m", "tidegate.streams.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("TIDEGATE_")}, **environ},
    )
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "what should `tidegate` do?"),
        (["rpelay"], "unknown command 'rpelay'; did you mean `replay`?"),
        (["xyzzy"], "unknown command 'xyzzy'; there are demo, topics, run"),
        (["watch", "--jsno"], "tidegate watch: unknown option --jsno; did you mean --json?"),
        (["watch", "--js"], "unknown option --js"),
        (["watch", "now"], "unexpected argument 'now'"),
        (["watch"], "no broker given; use --brokers HOST:PORT"),
        (["watch", "--brokers", "kafka"], "'kafka' is not HOST:PORT"),
        (["watch", "--brokers", "k:1", "--kafka-config", "/no/file"], "/no/file: can't be read"),
        (["topics"], "tidegate topics"),
        (["run", "--role", "everything"], "everything"),
        (["replay"], "no FILE given"),
        (["replay", "/no/such/file"], "/no/such/file: No such file or directory"),
        (["replay", "/tmp"], "/tmp: is a folder"),
        (["replay", "a", "a"], "a is named twice"),
        (["replay", "-", "--policy", "defalt"], "did you mean default?"),
        (["replay", "-", "--compare"], "--compare needs --internal"),
        (["replay", "-", "--brokers", "k:1"], "--brokers needs --internal"),
        (["replay", "-", "--out", "/no/such/folder/x"], "/no/such/folder/x: can't be written"),
        (["replay", "--internal", "a", "b"], "--internal takes one dump FILE"),
        (["replay", "--internal", __file__], "is no dump of format 3"),
        (["dump", "--brokers", "k:1"], "--out"),
        (["demo", "--seconds", "74.9"], "give at least 75"),
        (["demo", "--seconds", "nan"], "give at least 75"),
        (["demo", "--seconds", "soon"], "--seconds"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_to_do(arguments: list[str], says: str) -> None:
    status, out, error = tidegate(*arguments)
    assert (status, out) == (2, ""), error
    assert error.startswith("tidegate: ")
    assert says in error
    assert error.count("\n") == 1
    assert "Traceback" not in error


def test_a_traceback_comes_with_debug_only_wherever_it_stands() -> None:
    for arguments in (["--debug", "replay", "/no/file"], ["replay", "/no/file", "--debug"]):
        status, _, error = tidegate(*arguments)
        assert status == 2
        assert "Traceback" in error
        assert error.splitlines()[-1].startswith("tidegate: /no/file: ")


def test_the_version_is_that_of_the_distribution() -> None:
    status, out, _ = tidegate("--version")
    assert status == 0
    assert re.fullmatch(r"tidegate \d+\.\d+\.\d+\n", out)


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from tidegate.streams.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numba', 'numpy', 'faust', 'confluent_kafka', 'aiokafka', 'rich', 'opentelemetry'}\n"
        "print('loaded:', sorted(heavy & sys.modules.keys()))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=HELP_S_MAX,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.endswith("loaded: []\n")
    for command in COMMAND_MODULES:
        assert re.search(rf"^ +{command} ", ended.stdout, re.MULTILINE)


@pytest.mark.parametrize("command", COMMAND_MODULES)
def test_every_command_explains_itself_with_examples(command: str) -> None:
    status, out, error = tidegate(command, "--help")
    assert (status, error) == (0, "")
    assert out.startswith(f"usage: tidegate {command}")
    if command != "topics":  # its examples are those of its own commands
        assert "examples:" in out
        assert f"  tidegate {command}" in out


def test_every_option_has_a_help_text() -> None:
    commands = [build_parser()]
    while commands:
        command = commands.pop()
        for action in command._actions:
            if isinstance(action, argparse._SubParsersAction):
                commands += action.choices.values()
            else:
                assert action.help, f"{command.prog} {action.option_strings or action.dest}"


def test_a_reader_that_closes_the_pipe_early_gets_no_complaint(tmp_path: Path) -> None:
    command = f"set -o pipefail; {sys.executable} -m tidegate.streams.cli --help | true"
    ended = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stderr == ""
