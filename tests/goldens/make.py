"""Makes the golden files anew: `python -m tests.goldens.make [NAME ...]`.

First the recordings, from the table in `incidents.py`, then each one's decisions, by a real `tidegate
replay`. Look at what changed (git diff) and at the folder's `about.md` before keeping it: a golden says
what is right, not what came out. `--decisions` leaves the recordings as they are.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import zstandard

from tests.goldens.files import FOLDER, decisions_path, spans_path
from tests.goldens.incidents import INCIDENTS, Incident
from tests.goldens.recording import as_json, records_of

__all__ = ["lines_of", "main"]


def lines_of(incident: Incident) -> bytes:
    """The recording, unpacked: a line per Kafka record."""
    return b"".join(as_json(record.spans) + b"\n" for record in records_of(incident))


def main(arguments: list[str]) -> None:
    """Makes the goldens named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.goldens.make", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *(one.name for one in INCIDENTS)])
    parser.add_argument("--decisions", action="store_true", help="only the decisions")
    args = parser.parse_args(arguments)
    for incident in INCIDENTS:
        if args.names and incident.name not in args.names:
            continue
        (FOLDER / incident.name).mkdir(exist_ok=True)
        if not args.decisions:
            packed = zstandard.ZstdCompressor(level=19).compress(lines_of(incident))
            spans_path(incident).write_bytes(packed)
        for policy in incident.policies:
            decide(incident, policy, decisions_path(incident, policy))


def decide(incident: Incident, policy: str, out: Path) -> None:
    """Runs `tidegate replay` on a recording. Raises CalledProcessError where it fails."""
    command = [sys.executable, "-m", "tidegate.streams.cli", "replay", str(spans_path(incident))]
    subprocess.run([*command, "--policy", policy, "--out", str(out)], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
