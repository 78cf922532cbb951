"""Ends brokers whose test process died without doing so, by SIGKILL say.

The guard waits for the end of its standard input, a pipe that only the test process holds open;
then it kills the process ids named in the brokers' pid files, which a broker that ended in good
order no longer has.
"""

import subprocess
from pathlib import Path

SCRIPT = 'cat >/dev/null; for f in "$0"/broker-*/pid; do [ -f "$f" ] && kill -9 "$(cat "$f")"; done'


class Guard:
    """One small shell for a cluster."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", SCRIPT, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def end(self) -> None:
        """Closes the pipe: whatever still has a pid file is killed."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(10)
