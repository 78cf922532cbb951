"""L5's `terminate`, obeyed by a service that opted in by making a `Terminator`: snapshot first, exit 137 second.

It acts once in a process's life, on a decision in force that lists its own instance, and never on an
incident that began before it: a process that was ended and comes back is not ended again by what ended it.
"""

import contextlib
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tidegate.client.decider import Decider, wall_ms
from tidegate.client.identity import identity_of
from tidegate.client.store import Answer
from tidegate.schemas.decision import Decision
from tidegate.schemas.scope import service_scope

__all__ = ["EXIT_STATUS", "Terminator", "refusal", "write_whole"]

EXIT_STATUS = 137
"""As of a process that the kernel killed (128 + SIGKILL): supervisors start it again."""
TIMEOUT_S = 10.0
MARGIN_MS = 5_000
"""An incident counts as older than the process up to so long after the beginning: two clocks are compared,
and a decision is read again by a process that was started again within a second."""
_LOG_S = 1.0
_SAID_MAX = 100
_log = logging.getLogger("tidegate.client")


class Terminator:
    """Make it early, once for a process; that is the opt-in. `close` takes it back."""

    def __init__(
        self,
        client: Decider,
        *,
        service: str = "",
        instance: str = "",
        snapshot: Callable[[], bytes],
        path: Path,
        timeout_s: float = TIMEOUT_S,
        exit_process: Callable[[int], object] = os._exit,
        environ: Mapping[str, str] = os.environ,
        now_ms: Callable[[], int] = wall_ms,
        uptime_ms: Callable[[], int] | None = None,
    ) -> None:
        """service, instance: see `identity_of`; the instance as the host reporter has it.

        snapshot: what is written to `path`, whole or not at all; it runs in a thread of its own. One that
        raises, or takes longer than `timeout_s` with the writing, is logged, and the exit still happens.
        exit_process: runs no `finally` and no `atexit`, and flushes nothing: what must be kept belongs
        into the snapshot. now_ms and uptime_ms (since this was made) are for tests.

        Raises ValueError for settings that are wrong.
        """
        if not path.parent.is_dir():
            raise ValueError(f"path: there is no folder {path.parent}; make it before the service")
        if path.is_dir():
            raise ValueError(f"path: {path} is a folder; give a file's name")
        if not timeout_s > 0:
            raise ValueError(f"timeout_s: {timeout_s} leaves no time; give more than 0")
        self.identity = identity_of(service, instance, environ)
        self._scope = service_scope(self.identity.service)
        self._client, self._snapshot, self._path = client, snapshot, path
        self._timeout_s, self._exit_process = timeout_s, exit_process
        self._now_ms, self._uptime_ms = now_ms, uptime_ms or _stopwatch()
        self._said: set[tuple[int | None, str]] = set()
        self._reason = ""
        """Why it acts; empty while it doesn't."""
        self._is_closed = False
        self._woken, self._saved = threading.Event(), threading.Event()
        # Made now: where a host runs out of memory or threads, none can be made any more.
        threading.Thread(target=self._save, name="tidegate-terminator", daemon=True).start()
        client.on_change(self._hear)

    def close(self) -> None:
        """Obeys nothing any more."""
        self._is_closed = True
        self._woken.set()

    # ---- inside ----

    def _hear(self, scope: str, decision: Decision | None) -> None:
        """In the client's thread: once it acts, the process ends in it."""
        if self._is_closed or self._reason or scope != self._scope or decision is None:
            return
        if self.identity.instance not in decision.actions.terminate:
            return
        why_not = refusal(
            self._client.decide(self._scope),
            now_ms=self._now_ms(),
            uptime_ms=self._uptime_ms(),
        )
        if why_not:
            self._say(_since_ms(decision), why_not)
            return
        found = "; ".join(one.reason for one in decision.incidents if one.rule == "L5")
        self._reason = (
            f"{self.identity.instance} of {self._scope} ends itself: {found} "
            f"(policy {decision.policy}, boundary {decision.boundary})"
        )
        self._woken.set()
        if not self._saved.wait(self._timeout_s):
            _log_briefly(f"{self._reason}; no snapshot: none in {self._timeout_s:g} s")
        self._exit_process(EXIT_STATUS)

    def _save(self) -> None:
        """In a thread of its own, so that nothing in it can keep the process from ending; logging too."""
        self._woken.wait()
        if not self._reason:
            return
        try:
            write_whole(self._path, self._snapshot())
            _log.critical("%s; snapshot in %s", self._reason, self._path)
        except BaseException:  # noqa: BLE001 - whatever it raises (SystemExit too), the exit follows
            _log.critical("%s; no snapshot in %s", self._reason, self._path, exc_info=True)
        finally:
            self._saved.set()

    def _say(self, since_ms: int | None, why_not: str) -> None:
        """Once for each incident and reason."""
        if (since_ms, why_not) not in self._said and len(self._said) < _SAID_MAX:
            self._said.add((since_ms, why_not))
            _log.warning("terminate of %s is not obeyed: %s", self.identity.instance, why_not)


def refusal(answer: Answer, *, now_ms: int, uptime_ms: int) -> str:
    """Why the `terminate` of a decision is not obeyed; empty where it is. Pure.

    When the process began is reckoned by its own clock and by the decision's, and the later one counts: a
    clock that is behind must not make an old incident look new.
    """
    decision = answer.decision
    if decision is None or answer.status != "obeyed":
        return f"the decision is not in force ({answer.status})"
    if answer.mode != "enforce":
        return f"mode {answer.mode}: it is advice"
    since_ms = _since_ms(decision)
    if since_ms is None:
        return "the decision shows no L5"
    began_ms = max(now_ms, decision.window_end_ms) - uptime_ms
    if since_ms < began_ms + MARGIN_MS:
        return "L5 began before this process, or with it"
    return ""


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file so that its name stands for the old bytes or the new ones, whatever happens when: a
    file beside it, fsync, rename, fsync of the folder. Raises OSError; then the old one is there."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _log_briefly(text: str) -> None:
    """What hangs may hang in a log handler, and hold its lock."""
    thread = threading.Thread(target=_log.critical, args=("%s", text), daemon=True)
    with contextlib.suppress(RuntimeError):  # no thread left: then no line either
        thread.start()
        thread.join(_LOG_S)


def _since_ms(decision: Decision) -> int | None:
    """When its L5 began."""
    return next((i.since_ms for i in decision.incidents if i.rule == "L5"), None)


def _stopwatch() -> Callable[[], int]:
    """Milliseconds since now, whatever is done to the clock meanwhile."""
    began_ns = time.monotonic_ns()
    return lambda: (time.monotonic_ns() - began_ns) // 1_000_000
