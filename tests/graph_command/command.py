"""Runs `tidegate` as users do: a process of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping

COMMAND = (sys.executable, "-m", "tidegate.streams.cli")
ENDS_S = 60.0


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """No settings of whoever runs the tests; times of day as they stand in expectations."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TIDEGATE_")}
    return {**kept, "TZ": "UTC", **(more or {})}


def tidegate(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    """Exit status, stdout, stderr."""
    ended = subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        timeout=ENDS_S,
        check=False,
        env=environment(),
    )
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()
