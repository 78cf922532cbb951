"""Makes the committed integer tables anew: `python tests/tables/make_tables.py` prints bin_edges.py.

Exact integer arithmetic only (gamma = 101/99), so the table is the same on every machine.
"""

from decimal import Context, Decimal
from itertools import pairwise
from pathlib import Path

GAMMA_UP, GAMMA_DOWN = 101, 99
"""alpha = 1 %: gamma = (1 + alpha) / (1 - alpha) = 101/99 (DDSketch, Masson et al., VLDB 2019)."""
FIRST_NS = 1_000
LAST_NS = 3_600_000_000_000
PER_LINE = 6
TARGET = Path(__file__).parents[2] / "schemas/tidegate/schemas/bin_edges.py"


def edges_ns() -> list[int]:
    """Upper edges: floor(1 us * gamma^i) below one hour, then one hour itself."""
    out = []
    up = down = 1
    while FIRST_NS * up // down < LAST_NS:
        out.append(FIRST_NS * up // down)
        up *= GAMMA_UP
        down *= GAMMA_DOWN
    return [*out, LAST_NS]


def values_ns(edges: list[int]) -> list[int]:
    """One value a bin, as near as possible (relatively) to the smallest and the largest whole ns in it."""
    out = [FIRST_NS]
    for low, high in pairwise(edges):
        least = low + 1
        out.append((4 * least * high + least + high) // (2 * (least + high)))
    return [*out, LAST_NS]


def ln_gamma() -> float:
    """The logarithm's nearest float, from forty digits: `math.log` may differ by a last bit."""
    context = Context(prec=40)
    return float(context.divide(Decimal(GAMMA_UP), Decimal(GAMMA_DOWN)).ln(context))


def _table(name: str, numbers: list[int]) -> list[str]:
    lines = [f"{name}: tuple[int, ...] = ("]
    lines += [
        "    " + " ".join(f"{n:_}," for n in numbers[i : i + PER_LINE])
        for i in range(0, len(numbers), PER_LINE)
    ]
    return [*lines, ")"]


def bin_edges_source() -> str:
    """The text of `tidegate/schemas/bin_edges.py`."""
    edges = edges_ns()
    lines = [
        '"""Sketch bins as integers. Made by tests/tables/make_tables.py: never edit, the edges are wire',
        'format (block format 1)."""',
        "",
        '__all__ = ["EDGES_NS", "LN_GAMMA", "VALUES_NS"]',
        "",
        f"LN_GAMMA = {ln_gamma()!r}",
        "",
        "# fmt: off",
        *_table("EDGES_NS", edges),
        "",
        *_table("VALUES_NS", values_ns(edges)),
        "# fmt: on",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TARGET.write_text(bin_edges_source())
