"""docs/policy.md is generated from the types and the packs.

Mend with: python -m tests.policy.test_docs > docs/policy.md.
"""

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from msgspec import inspect

from tidegate.rules.policy import PACKS, load_policy
from tidegate.rules.policy_check import RULES_MAX, allowed
from tidegate.rules.policy_layers import CHAIN_MAX
from tidegate.rules.policy_types import PolicyFile
from tidegate.rules.policy_yaml import TEXT_CHARS_MAX, Entry, Problems, parse, plain

DOC = Path(__file__).parents[2] / "docs" / "policy.md"
TEXTS = {name: (files("tidegate.rules") / "packs" / f"{name}.yaml").read_text() for name in PACKS}
ROOT = inspect.type_info(PolicyFile)
assert isinstance(ROOT, inspect.StructType)
FIELDS = [field for field in ROOT.fields if field.name not in ("name", "warning", "services")]


def leaves(fields: list[inspect.Field], path: str = "") -> Iterator[tuple[str, inspect.Type]]:
    for field in fields:
        if isinstance(field.type, inspect.StructType):
            yield from leaves(list(field.type.fields), f"{path}{field.name}.")
        else:
            yield f"{path}{field.name}", field.type


def entry_of(pack: str, path: str) -> Entry | None:
    here = Entry(parse(TEXTS[pack], Problems(pack)), 0)
    for part in path.split("."):
        if not isinstance(here.value, dict) or part not in here.value:
            return None
        here = here.value[part]
    return here


def why(path: str, pack: str = "default") -> str:
    entry = entry_of(pack, path)
    line = TEXTS[pack].split("\n")[entry.line - 1] if entry else ""
    return line.partition("#")[2].strip()


def shown(pack: str, path: str) -> str:
    entry = entry_of(pack, path)
    if entry is None:
        return ""
    value = plain(entry.value)
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def row(path: str, kind: inspect.Type) -> str:
    values, reasons = [shown("default", path) or "–"], [why(path)]
    for name in PACKS:
        if name != "default" and shown(name, path):
            values.append(f"`{name}`: {shown(name, path)}")
            reasons += [f"`{name}`: {why(path, name)}"] if why(path, name) else []
    return f"| `{path}` | {'; '.join(values)} | {allowed(kind)} | {'; '.join(reasons)} |"


EXAMPLE = """\
name: shop                # part of every decision, as shop@VERSION; the version is a hash of all settings
extends: default          # a pack, or a file relative to this one's folder
sampling: none            # or head (`ot=th:` in tracestate is weighed); tail sampling can't be judged: refused

settings:                 # of every service and edge
  target_ms: 250

services:                 # first match wins; patterns as in file names: * ? [abc]
  - match: {service: "pay-*", target: postgresql}   # edges from these services to that target
    target_ms: 40
  - match: {service: "pay-*"}                       # the services themselves, and all their other edges
    mode: enforce
    level:
      sleep_s: 20
"""


def page() -> str:
    rows = "\n".join(row(path, kind) for path, kind in leaves(FIELDS))
    return f"""# Policies

A policy is a YAML file; `tidegate run`, `replay` and `demo` take it as `--policy FILE` (or the name of a pack). It says
only what differs from what it extends. The file is checked as a whole: every problem is told at once, with its line,
what is allowed and what was probably meant, and nothing runs on half a policy.

```yaml
{EXAMPLE}```

Packs: `default` (what holds without any configuration; decisions are advice), `reference` (the published protocol to
the letter, for comparison: it sheds healthy slow services, and whoever enforces it is warned) and `adaptive` (every
service against its own habit).

## Files that extend files

`extends` names a pack, or a file such as `../base.yaml`, relative to the folder of the file it stands in. That file may
extend another one, up to {CHAIN_MAX} in all; a ring is refused. Sections are merged setting by setting; lists are replaced
as a whole, so a file with `services` has those rules and no others. Only the outermost file needs a `name`.
`tidegate policy push` sends one text in which all of them are merged.

## Looking at policies

| command | what it says |
| --- | --- |
| `tidegate policy check FILE...` | everything that is wrong with all of them, in one run; exit status 1 if anything is |
| `tidegate policy show [FILE]` | the whole policy as it is in force, with where each value stands |
| `tidegate policy diff A B` | each setting that differs, before and after, and which rules changed; exit status 1 if any |
| `tidegate policy explain SERVICE [TARGET] --policy FILE` | what holds for a service or for its calls to a target, and which pack, line or rule says so; with `--brokers`, what the last 24 hours' decisions turned away or would have |
| `tidegate policy push`, `status`, `history`, `promote`, `abort`, `rollback` | what is in force in a running installation, and a new version: for all, for some services, or decided beside |
| `tidegate policy schema` | the JSON Schema ([policy.schema.json](policy.schema.json)) |

`check`, `show`, `diff` and `explain` take `--json`. An editor with a YAML language server completes and checks a policy whose first line is
`# yaml-language-server: $schema=policy.schema.json` (a path or an address of the schema).

At most {RULES_MAX:,} rules, {TEXT_CHARS_MAX:,} characters. A rule that an earlier one always matches first is refused.

## All settings

Those under `settings` may stand in a rule under `services`, too. Where the packs `reference` or `adaptive` say something
else, it stands behind the default. Generated from the types in `rules/tidegate/rules/policy_types.py` and the packs.

| setting | default | allowed | what it is for |
| --- | --- | --- | --- |
{rows}
"""


def test_the_page_of_settings_is_current() -> None:
    assert DOC.read_text() == page()


def test_the_example_is_a_good_policy() -> None:
    policy = load_policy(EXAMPLE, where="example")
    assert policy.settings_for("pay-eu", "postgresql") == 1


def test_every_setting_says_in_the_pack_what_it_is_for() -> None:
    bare = [path for path, _ in leaves(FIELDS) if not why(path)]
    assert bare == []


if __name__ == "__main__":
    print(page(), end="")
