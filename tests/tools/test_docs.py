"""What the README and the help texts say works as it stands there."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.rules.policy import load_policy
from tidegate.schemas.topics import Topics
from tidegate.streams.cli import build_parser
from tidegate.streams.embedded import EmbeddedBroker

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(text: str) -> Iterator[str]:
    """`tidegate …` lines of examples, without comments, pipes and prompts."""
    for line in text.splitlines():
        found = re.match(r" *(?:\$ |.*\| )?(tidegate [a-z].*)", line)
        if found:
            command = re.split(r"  +[^-\s]|  +# | \| |#", found[1])[0]
            yield command.strip()


def help_examples() -> list[str]:
    texts, parsers = [], [build_parser()]
    while parsers:
        parser = parsers.pop()
        texts.append(parser.epilog or "")
        for action in parser._actions:
            if isinstance(action.choices, dict):
                parsers += [child for child in action.choices.values() if child is not parser]
    return sorted({command for text in texts for command in commands(text)})


def readme_examples() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", PAGES[0].read_text(), re.DOTALL)
    return sorted({command for block in blocks for command in commands(block)})


@pytest.mark.parametrize("command", [*help_examples(), *readme_examples()])
def test_every_example_is_a_command_line_that_parses(command: str) -> None:
    words = shlex.split(command)[1:]
    assert build_parser().parse_args(words).handler


def test_there_are_examples_to_try() -> None:
    assert len(help_examples()) > 15
    assert len(readme_examples()) >= 4


def test_the_readmes_six_lines_ask_a_real_client() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGES[0].read_text(), re.DOTALL)
    assert len(block.replace("\n\n", "\n").strip().splitlines()) == 6
    assert f"```python\n{block}```" in (ROOT / "docs" / "client.md").read_text()
    with EmbeddedBroker({Topics().decisions: 1}) as broker:
        code = block.replace("kafka:9092", broker.bootstrap)
        whole = f"def ask(trace_id, pay_later):\n{textwrap.indent(code, '    ')}    return client\n"
        names: dict[str, object] = {}
        exec(whole, names)
        ask = names["ask"]
        assert callable(ask)
        client = ask("0af7651916cd43dd8448eb211c80319c", pytest.fail)
        client.close()


def test_the_readmes_policy_is_one() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGES[0].read_text(), re.DOTALL)
    (text,) = (block for block in blocks if "name: shop" in block)
    policy = load_policy(text, where="README.md")
    assert policy.settings[policy.settings_for("pay-eu", "")].mode == "enforce"
    assert policy.settings[policy.settings_for("shop", "postgresql/shop")].level.sleep_s == 60
    assert policy.settings[policy.settings_for("ledger", "")].protocol == "latched"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_of_ours_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert missing == []
