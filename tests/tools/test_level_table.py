"""The table that `watch` and the demo draw."""

import pytest
from rich.console import Console

from tests.tools.published import T_MS, decision
from tidegate.schemas.decision import LevelName, encode_decision
from tidegate.schemas.level import LEVEL_NAMES
from tidegate.streams.board import Board
from tidegate.streams.level_table import LEVEL_STYLES, level_table


def drawn(width: int, scopes: dict[str, LevelName], **settings: int) -> list[str]:
    board = Board()
    for scope, level in scopes.items():
        made = decision(scope, level, score=0.25)
        board.apply_decision(scope.encode(), encode_decision(made), now_ms=T_MS)
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(level_table(board.rows(now_ms=T_MS), width=width, **settings))
    return capture.get().splitlines()


def test_every_level_has_a_colour() -> None:
    assert LEVEL_STYLES.keys() == set(LEVEL_NAMES)


@pytest.mark.parametrize("width", [80, 100, 110, 200])
@pytest.mark.parametrize("scope", ["service:a", "edge:checkout->" + "p" * 60])
def test_numbers_are_never_squeezed_out_by_names_or_reasons(width: int, scope: str) -> None:
    lines = drawn(width, {scope: "forced_open"})
    assert len(lines) == 2, "a row is one line"
    assert len(lines[1].rstrip()) <= width
    cells = lines[1].split()
    assert cells[1:7] == ["forced_open", "0.25", "25.0%", "40", "ms", "20.0"]
    assert ("because of a test" in lines[1]) == (width == 200)


def test_what_does_not_fit_is_counted() -> None:
    scopes: dict[str, LevelName] = {f"service:{i}": "closed" for i in range(9)}
    lines = drawn(100, scopes, rows_max=4)
    assert len(lines) == 6
    assert lines[-1].strip() == "… and 5 more"
