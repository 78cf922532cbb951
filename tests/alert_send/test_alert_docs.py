"""docs/alerts.md says what the code does."""

import re
from pathlib import Path

from tidegate.streams.alert import dingtalk, wecom
from tidegate.streams.alert.channel import Tries
from tidegate.streams.alert.channels import CHANNELS
from tidegate.streams.alert.metrics import AlertMetrics
from tidegate.streams.alert.settings import load_channels

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "alerts.md").read_text()


def test_the_example_is_a_file_that_is_taken_and_shows_every_kind() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    example = re.sub(r"^  # ", "  ", example, flags=re.MULTILINE).replace("P2: [", "P2: [audit, ")
    setup = load_channels(example, where="docs/alerts.md", environ=None)
    assert {channel.kind for channel in setup.channels.values()} == set(CHANNELS)
    assert setup.tries == Tries()


def test_each_metric_is_listed() -> None:
    registry = AlertMetrics(("x",)).registry
    names = {
        f"{metric.name}{'_total' if metric.type == 'counter' else ''}"
        for metric in registry.collect()
    }
    listed = set(re.findall(r"^\| `(tidegate_alert_\w+)", TEXT, re.MULTILINE))
    assert listed == names


def test_the_robots_passing_codes_are_listed() -> None:
    (codes,) = re.findall(r"\(WeCom (.*?); DingTalk (.*?)\)", TEXT)
    for text, passing in zip(codes, (wecom._PASSING, dingtalk._PASSING), strict=True):
        assert {int(code.replace("−", "-")) for code in text.split(", ")} == passing
