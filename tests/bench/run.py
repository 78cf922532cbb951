"""`make bench`: measures and prints. `python -m tests.bench.run [NAMES] [--quick] [--json]`."""

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import boundary, client_cost, decode, end_to_end, graph, latency
from tests.bench.rows import Row

BENCHES: tuple[tuple[str, Callable[..., list[Row]]], ...] = (
    ("decode", decode.run),
    ("boundary", boundary.run),
    ("graph", graph.run),
    ("client", client_cost.run),
    ("end-to-end", end_to_end.run),
    ("latency", latency.run),
)


def main() -> None:
    """Runs the chosen benchmarks, all by default."""
    names = [name for name, _ in BENCHES]
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(names)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="small inputs: seconds, not minutes")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    parser.add_argument(
        "--folder", type=Path, help="keeps generated input (default: a temporary one)"
    )
    args = parser.parse_args()
    for name in args.names:
        if name not in names:
            parser.error(f"{name!r} is no benchmark; choose from {', '.join(names)}")
    folder = args.folder or Path(tempfile.gettempdir()) / "tidegate-bench"
    folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    for name, bench in BENCHES:
        if args.names and name not in args.names:
            continue
        rows = bench(folder, is_quick=args.quick)
        if args.json:
            for row in rows:
                print(json.dumps({"bench": name, **asdict(row)}), flush=True)
            continue
        table = Table("figure", "value", "unit", "measured on", title=name)
        for row in rows:
            table.add_row(row.name, f"{row.value:,.2f}", row.unit, row.shape)
        console.print(table)


if __name__ == "__main__":
    main()
