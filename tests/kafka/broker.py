"""One broker: a Java process with a folder of its own, and the ports and process id it lives by."""

import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.kafka.certificates import HOST
from tests.kafka.problem import KafkaTestError

# Below Linux's range for outgoing connections (32768..60999): a killed broker must find its port
# free again.
PORTS = range(20_000, 30_000)
READY_LINE = b"Kafka Server started"
END_WAIT_S = 20.0


class Broker:
    """`ports`: listener name (client, controller, internal) to port."""

    def __init__(self, folder: Path, number: int, ports: dict[str, int]) -> None:
        self.folder = folder
        self.number = number
        self.ports = ports
        self.properties = folder / "server.properties"
        self.log = folder / "log"
        self.pid_file = folder / "pid"
        self._process: subprocess.Popen[bytes] | None = None
        self._log_offset = 0

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"{HOST}:{self.ports['client']}"

    @property
    def is_running(self) -> bool:
        """True of a paused broker too."""
        return self._process is not None and self._process.poll() is None

    def launch(self, command: list[str]) -> None:
        """Start the process; it is ready some seconds later."""
        with self.log.open("ab") as log:
            self._log_offset = log.tell()
            # An own session: Ctrl-C in the terminal ends the tests, which then end the broker.
            self._process = subprocess.Popen(
                [*command, str(self.properties)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid_file.write_text(f"{self._process.pid}\n")

    def is_ready(self) -> bool:
        """The line is written once the controllers have let the broker in; its port opens earlier."""
        with self.log.open("rb") as log:
            log.seek(self._log_offset)
            return READY_LINE in log.read() and _answers(self.ports["client"])

    def kill(self) -> None:
        """End it on the spot (SIGKILL), as a crash does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order (SIGTERM), or by SIGKILL where that takes too long."""
        self.resume()
        self._end(signal.SIGTERM)

    def ask_to_stop(self) -> None:
        """SIGTERM without waiting."""
        self._signal(signal.SIGTERM)

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        self._signal(signal.SIGCONT)

    def limit_file_size(self, bytes_max: int | None) -> None:
        """Make writes past this size of a file fail, as on a full disk; None lifts the limit.

        Linux only. A broker whose only log folder fails halts by itself, as with a real full disk.
        """
        if sys.platform != "linux":
            raise KafkaTestError("a full disk can be acted on Linux only: no prlimit elsewhere")
        if self._process is None:
            raise KafkaTestError(f"broker {self.number} does not run")
        limit = resource.RLIM_INFINITY if bytes_max is None else bytes_max
        hard = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (limit, hard))

    def log_tail(self, lines_count: int = 25) -> str:
        """The end of the broker's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines_count:])

    def wait_ended(self, timeout_s: float) -> int:
        """Its exit status once it ended by itself."""
        if self._process is None:
            raise KafkaTestError(f"broker {self.number} was not started")
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as late:
            raise KafkaTestError(f"broker {self.number} still runs after {timeout_s} s") from late
        self.pid_file.unlink(missing_ok=True)
        return status

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._signal(number)
        try:
            self._process.wait(END_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(END_WAIT_S)
        self.pid_file.unlink(missing_ok=True)


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, chosen at random so that parallel runs seldom meet."""
    chooser = random.Random(os.getpid() ^ time.monotonic_ns())
    found: list[int] = []
    for port in chooser.sample(PORTS, len(PORTS)):
        if _is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise KafkaTestError(f"found no {count} free ports in {PORTS.start}..{PORTS.stop - 1}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As Java does: a closed connection may linger.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _answers(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
