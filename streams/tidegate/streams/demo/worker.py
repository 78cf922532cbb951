"""A worker (`tidegate run`) as a child process that never outlives the demo.

The child reads its standard input, which nobody writes to: when it ends, the demo is gone, however it
went, and the child ends itself. (A worker alone would wait for its broker to come back, for ever.)
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tidegate.streams.errors import Failure

__all__ = ["WorkerProcess"]

STOP_S = 10.0
_LOG_LINES_SHOWN = 15


class WorkerProcess:
    """`with WorkerProcess(["run", ...]) as worker:`; its output goes to a file, shown if it fails."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._process: subprocess.Popen[bytes] | None = None

    def check(self) -> None:
        """Raises Failure with the end of its output if the worker has ended."""
        if self._process is not None and self._process.poll() is not None:
            raise Failure(
                f"the worker ended with exit status {self._process.returncode}; its last words:\n"
                + self.last_words()
            )

    def last_words(self) -> str:
        """The end of the worker's output."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-_LOG_LINES_SHOWN:])

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tidegate.streams.demo.worker", *self._arguments]
        # A session of its own: Ctrl-C is for the demo, which stops the worker in order.
        self._process = subprocess.Popen(  # noqa: S603 - our own module, no shell
            command,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()
        self._log.close()


def _end_with_parent() -> None:
    # The descriptor, not sys.stdin: a thread in sys.stdin's lock would hang the interpreter's exit.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_S)
    os._exit(1)


if __name__ == "__main__":
    from tidegate.streams.cli import main

    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(main(sys.argv[1:]))
