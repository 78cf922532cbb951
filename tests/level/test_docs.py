"""docs/levels.md is generated from the tables. Mend with: python -m tests.level.test_docs > docs/levels.md."""

from pathlib import Path

from tidegate.rules.level import PROTOCOLS, SWITCHES, Transition, diagram
from tidegate.schemas.level import LEVEL_NAMES

DOC = Path(__file__).parents[2] / "docs" / "levels.md"
SAID = {
    "graded": (
        "By score, which is the default. Worse comes after confirmation, several levels at once; better comes "
        "one level at a\ntime. What turns everything away sleeps, then is probed, then climbs a ramp."
    ),
    "latched": (
        "By failures, where a policy says `protocol: latched`. Failures in a row, or too many of them, lead to "
        "`half_open`,\nwhose first answers decide. What they open backs off, then cools until a health check is "
        "good. `locked` is entered and\nleft by an operator alone: anything else that asks for it is refused and "
        "counted."
    ),
}


def table_of(transitions: tuple[Transition, ...]) -> str:
    rows = [
        f"| `{LEVEL_NAMES[t.state]}` | {t.guard.replace('_', ' ')} | `{LEVEL_NAMES[t.to]}` | {t.text} |\n"
        for t in transitions
    ]
    return "| from | when | to | as a reason says it |\n| --- | --- | --- | --- |\n" + "".join(rows)


def page() -> str:
    protocols = [
        f"## The {protocol} protocol\n\n{said}\n\n"
        f"```mermaid\n{diagram(protocol)}```\n\n{table_of(PROTOCOLS[protocol])}\n"
        for protocol, said in SAID.items()
    ]
    return (
        "# Levels\n\n"
        "Generated from the tables in `rules/tidegate/rules/level.py`. What isn't in them can't happen; their "
        "numbers are in the\npack `default`.\n\n"
        + "".join(protocols)
        + "## When a policy changes a key's protocol\n\n"
        "A key that stands in a level which its new protocol doesn't have leaves it at the next boundary.\n\n"
        + "\n".join(f"To {name}:\n\n{table_of(SWITCHES[name])}" for name in PROTOCOLS)
    )


def test_the_page_of_levels_is_current() -> None:
    assert DOC.read_text() == page()


if __name__ == "__main__":
    print(page(), end="")
