"""channels.yaml: what is taken, what is refused, with file, line and path, and without a secret in it."""

from pathlib import Path

import pytest

from tests.alert_send.alerts import LINKS, SECRETS, setup
from tidegate.rules.policy_yaml import PolicyError
from tidegate.streams.alert.settings import DEFAULT_TIERS, load_channels, read_channels
from tidegate.streams.errors import UsageError

ENVIRON = SECRETS | {"EMPTY": "", "TWO_LINES": "a\nb", "HOOK_URL": "https://h.example/T0/hush-path"}
HOOK = "hook: {type: webhook, url: https://h.example}"
ROBOTS = """\
channels:
  wecom: {type: wecom, key_env: WECOM_KEY}
  dingtalk: {type: dingtalk, token_env: DING_TOKEN}
"""


def hook(more: str, name: str = "hook") -> str:
    return f"tiers: {{P1: [{name}], P2: []}}\nchannels:\n  {name}:\n    {more}"


def problems(text: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        load_channels(text, where="c.yaml", environ=ENVIRON)
    return str(caught.value).splitlines()


def test_a_whole_file_is_read() -> None:
    ready = setup("https://x.example")
    assert ready.tiers == dict.fromkeys(("P1", "P2"), ("am", "chat", "ding", "hook", "phone"))
    assert ready.channels["ding"].values == {
        "url": "https://x.example/robot/send",
        "token": SECRETS["DING_TOKEN"],
        "secret": SECRETS["DING_SECRET"],
    }
    assert ready.channels["ding"].secrets == (SECRETS["DING_TOKEN"], SECRETS["DING_SECRET"])
    assert ready.tries.tries_max == 10


def test_without_tiers_the_usual_names_have_the_usual_tiers() -> None:
    ready = load_channels(ROBOTS, where="c.yaml", environ=ENVIRON)
    assert ready.tiers == {"P1": ("wecom",), "P2": ("dingtalk",)}
    assert ready.channels["wecom"].values["url"].startswith("https://qyapi.weixin.qq.com/")
    assert ready.channels["wecom"].secrets == (SECRETS["WECOM_KEY"],)
    assert DEFAULT_TIERS == {"P1": ("wecom", "phone"), "P2": ("dingtalk",)}


def test_secrets_come_from_files_too(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hush-from-a-file\n")
    text = hook(f"{{type: wecom, key_file: {tmp_path / 'key'}}}")
    channel = load_channels(text, where="c.yaml", environ={}).channels["hook"]
    assert channel.values["key"] == "hush-from-a-file"


def test_an_address_can_be_a_secret() -> None:
    text = hook("{type: webhook, url_env: HOOK_URL}")
    channel = load_channels(text, where="c.yaml", environ=ENVIRON).channels["hook"]
    assert channel.secrets == (ENVIRON["HOOK_URL"],)
    assert "hush" not in repr(channel)


REFUSED: list[tuple[str, list[str]]] = [
    ("", ["c.yaml: expected a mapping of settings; found nothing"]),
    ("chanels: {}", ["c.yaml:1: chanels: 'chanels' is no section; did you mean `channels`?"]),
    ("channels: {}", ["c.yaml:1: channels: names no channel"]),
    ("tiers: {P1: []}", ["c.yaml: channels: names no channel"]),
    (
        "channels: {hook: 3, other: {}, third: {type: webhok}}",
        [
            "c.yaml:1: channels.hook: is no channel; give a mapping",
            "channels.other.type: is missing; allowed: alertmanager, wecom, dingtalk, webhook",
            "channels.third.type: 'webhok' is no type of channel; did you mean `webhook`?",
            "c.yaml: tiers.P1: is missing, and there is no channel named wecom or phone; give",
            "c.yaml: tiers.P2: is missing, and there is no channel named dingtalk; give",
        ],
    ),
    (
        f"tiers: {{P1: [hok, 3], P3: [hook], P2: hook}}\nchannels:\n  {HOOK}\n  x: {{type: wecom, key_env: WECOM_KEY}}",
        [
            "c.yaml:1: tiers.P3: 'P3' is no tier",
            "c.yaml:1: tiers.P1[0]: 'hok' is no channel of this file; did you mean `hook`?",
            "c.yaml:1: tiers.P1[1]: 3 is no channel of this file; there are hook, x",
            "c.yaml:1: tiers.P2: is no list; give the names of channels",
            "c.yaml:4: channels.x: is in no tier, so nothing would be sent there",
        ],
    ),
    (hook("{type: webhook}"), ["c.yaml:3: channels.hook: lacks one of url, url_env, url_file"]),
    (hook("{type: wecom}"), ["c.yaml:3: channels.hook: lacks one of key_env, key_file"]),
    (hook("{type: webhook, url: ftp://x}"), ["channels.hook.url: is no address; give http://"]),
    (hook("{type: webhook, url: 3}"), ["channels.hook.url: is no text; put it into quotes"]),
    (hook("{type: webhook, url: 'https://:99999/'}"), ["channels.hook.url: is no address"]),
    (
        hook("{type: webhook, url: https://x.example, url_env: HOOK_URL}"),
        ["channels.hook.url_env: stands beside url; give one of them"],
    ),
    (
        hook("{type: webhook, url: https://x.example, timeout_s: 0, tmeout_s: 5}"),
        [
            "c.yaml:4: channels.hook.timeout_s: 0 is out of range; give a number of seconds from 0.1 to 60",
            "channels.hook.tmeout_s: 'tmeout_s' is no setting here; did you mean `timeout_s`?",
        ],
    ),
    (
        hook("{type: webhook, url: https://x.example, ca_file: /no/such.pem}"),
        ["channels.hook.ca_file: '/no/such.pem': No such file or directory; give a PEM file"],
    ),
    (
        hook(f"{{type: webhook, url: https://x.example, ca_file: {__file__}}}"),
        ["test_settings.py': holds no PEM; give a PEM file of certificates"],
    ),
    (
        hook("{type: wecom, key_env: UNSET}"),
        ["channels.hook.key_env: the variable that it names is not set; nothing can be sent"],
    ),
    (hook("{type: wecom, key_env: EMPTY}"), ["channels.hook.key_env: the variable that it names"]),
    (hook("{type: wecom, key_env: TWO_LINES}"), ["key_env: what it names is not one line"]),
    (
        hook("{type: wecom, key_file: /no/such}"),
        ["key_file: the file that it names can't be read (No such file or directory)"],
    ),
    (
        hook("{type: webhook, url: https://x.example}\ntries: {tries_max: 0}\n")
        + "links: {trace_url: 'traces', scope_url: 'https://x.example/{service}'}",
        [
            "c.yaml:5: tries.tries_max: 0 is out of range; give a whole number from 1 to 100",
            "c.yaml:6: links.trace_url: is no address; give http://… or https://…",
            "c.yaml:6: links.trace_url: has no `{trace_id}` in it; put it where it belongs",
            "c.yaml:6: links.scope_url: has no `{scope}` or `{name}` in it",
        ],
    ),
    (
        "channels: {hook: {type: webhook}, hook: {type: webhook}}",
        ["channels.hook: stands twice, first in line 1; keep one of them"],
    ),
]


@pytest.mark.parametrize(("text", "expected"), REFUSED)
def test_all_problems_are_told_at_once(text: str, expected: list[str]) -> None:
    found = problems(text)
    for part in expected:
        assert [line for line in found if part in line], (part, found)
    assert all(line.startswith("c.yaml") for line in found)


INLINE: list[tuple[str, str]] = [
    ("{type: wecom, key: hush-1}", "hook.key: a secret must not stand in this file; put it else"),
    ("{type: wecom, key: 123456}", "give `key_env: VARIABLE`, `key_file: PATH`"),
    ("{type: wecom, key_env: hush-wecom-1}", "hook.key_env: is no name of an environment variable"),
    (
        "{type: wecom, key_file: hush-wecom-1}",
        "hook.key_file: the file that it names can't be read",
    ),
    ("{type: wecom, key_env: HUSHHUSH1}", "hook.key_env: the variable that it names is not set"),
    ("{type: wecom, api_key: hush}", "hook.api_key: a secret must not stand in this file"),
    ("{type: dingtalk, token_env: DING_TOKEN, secret: [hush]}", "hook.secret: a secret must not"),
    ("{type: pagerduty, routing_key: hush}", "give `routing_key_env: VARIABLE`"),
    ("{type: wecom, url: 'https://x.example/send?key=hush', key_env: WECOM_KEY}", "by key_env"),
    ("{type: webhook, url: 'https://x.example/send?sig=hush'}", "and the rest by url_env"),
    ("{type: webhook, url: 'https://user:hush@x.example'}", "hook.url: holds a login"),
    ("{type: webhook, url: 'hush'}", "hook.url: is no address"),
    ("{type: alertmanager, url: 'http://am', password: hush}", "give `password_env: VARIABLE`"),
    ("{type: webhook, url: 'http://x', headers: {Authorization: hush}}", "'headers' is no setting"),
    ("{type: webhook, url: 'http://x', access_token: hush}", "`token_env: VARIABLE`, `token_file"),
]


@pytest.mark.parametrize(("channel", "expected"), INLINE)
def test_a_secret_in_the_file_is_refused_and_not_repeated(channel: str, expected: str) -> None:
    found = "\n".join(problems(hook(channel)))
    assert expected in found
    assert "hush" not in found.lower()
    assert "123456" not in found


def test_without_secrets_words_stand_in_their_place() -> None:
    text = f"{LINKS}{hook('{type: dingtalk, token_env: UNSET, secret_file: /no/such}')}"
    channel = load_channels(text, where="c.yaml", environ=None).channels["hook"]
    assert (channel.values["token"], channel.values["secret"]) == ("REDACTED", "REDACTED")
    address = hook("{type: webhook, url_env: UNSET}")
    channel = load_channels(address, where="c.yaml", environ=None).channels["hook"]
    assert channel.values["url"] == "https://redacted.invalid/"


@pytest.mark.parametrize(
    ("content", "expected"), [(None, "No such file or directory"), (b"\xff", "is not UTF-8 text")]
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, content: bytes | None, expected: str
) -> None:
    path = tmp_path / "channels.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=rf"channels\.yaml: {expected}; give a YAML file"):
        read_channels(str(path), {})
