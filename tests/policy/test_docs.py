"""docs/policy.md is generated from the types and the packs.

Mend with: python -m tests.policy.test_docs > docs/policy.md.
"""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from msgspec import inspect

from tidegate.rules.policy import PACKS
from tidegate.rules.policy_check import allowed
from tidegate.rules.policy_types import PolicyFile
from tidegate.rules.policy_yaml import Entry, Problems, parse, plain

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


def why(path: str) -> str:
    entry = entry_of("default", path)
    line = TEXTS["default"].split("\n")[entry.line - 1] if entry else ""
    return line.partition("#")[2].strip()


def shown(pack: str, path: str) -> str:
    entry = entry_of(pack, path)
    if entry is None:
        return ""
    value = plain(entry.value)
    return "`null`" if value is None else f"`{value}`"


def row(path: str, kind: inspect.Type) -> str:
    reference = shown("reference", path)
    default = shown("default", path) or "–"
    both = f"{default} (`reference`: {reference})" if reference else default
    return f"| `{path}` | {both} | {allowed(kind)} | {why(path)} |"


def page() -> str:
    rows = "\n".join(row(path, kind) for path, kind in leaves(FIELDS))
    return f"""# Policies

A policy is a YAML file; `tidegate run`, `replay` and `demo` take it as `--policy FILE` (or the name of a pack). It says
only what differs from the pack it extends (`default`, unless `extends: reference` stands in it). The file is checked
as a whole: every problem is told at once, with its line and what is allowed, and nothing runs on half a policy.

```yaml
name: shop                # part of every decision, as shop@VERSION; the version is a hash of all settings
extends: default
sampling: none            # or head (`ot=th:` in tracestate is weighed); tail sampling can't be judged: refused

settings:                 # of every service and edge
  target_ms: 250

services:                 # first match wins; patterns as in file names: * ? [abc]
  - match: {{service: "pay-*", target: postgresql}}   # edges from these services to that target
    target_ms: 40
  - match: {{service: "pay-*"}}                       # the services themselves, and all their other edges
    mode: enforce
    level:
      sleep_s: 20
```

Packs: `default` (what holds without any configuration; decisions are advice) and `reference` (the published protocol
to the letter, for comparison: it sheds healthy slow services, and whoever enforces it is warned).

## All settings

Those under `settings` may stand in a rule under `services`, too. Generated from the types in
`rules/tidegate/rules/policy_types.py` and the pack `default`.

| setting | default | allowed | what it is for |
| --- | --- | --- | --- |
{rows}
"""


def test_the_page_of_settings_is_current() -> None:
    assert DOC.read_text() == page()


def test_every_setting_says_in_the_pack_what_it_is_for() -> None:
    bare = [path for path, _ in leaves(FIELDS) if not why(path)]
    assert bare == []


if __name__ == "__main__":
    print(page(), end="")
