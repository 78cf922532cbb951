"""docs/levels.md is generated from the table. Mend with: python -m tests.level.test_docs > docs/levels.md."""

from pathlib import Path

from tidegate.rules.level import TRANSITIONS, diagram
from tidegate.schemas.level import LEVEL_NAMES

DOC = Path(__file__).parents[2] / "docs" / "levels.md"


def page() -> str:
    rows = [
        f"| `{LEVEL_NAMES[t.state]}` | {t.guard.replace('_', ' ')} | `{LEVEL_NAMES[t.to]}` | {t.text} |"
        for t in TRANSITIONS
    ]
    return (
        "# Levels: the graded protocol\n\n"
        "Generated from the table in `rules/tidegate/rules/level.py`. What isn't in it can't happen; its "
        "numbers are in the\npack `default`.\n\n"
        f"```mermaid\n{diagram()}```\n\n"
        "| from | when | to | as a reason says it |\n| --- | --- | --- | --- |\n"
        + "\n".join(rows)
        + "\n"
    )


def test_the_page_of_levels_is_current() -> None:
    assert DOC.read_text() == page()


if __name__ == "__main__":
    print(page(), end="")
