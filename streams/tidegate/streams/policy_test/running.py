"""Runs cases: the whole path from OTLP bytes to decisions, in virtual time, and nothing by chance."""

import time
import traceback
from dataclasses import dataclass

from tidegate.rules.outputs import Outputs
from tidegate.rules.pipeline import Offline
from tidegate.rules.policy import policy_from_content
from tidegate.schemas.points import MetricPoint
from tidegate.streams.policy_test.case import Case
from tidegate.streams.policy_test.clients import Clients
from tidegate.streams.policy_test.expect import Failure, judge
from tidegate.streams.policy_test.history import History
from tidegate.streams.policy_test.traffic import BASE_MS, Traffic
from tidegate.streams.policy_test.values import STEP_MS

__all__ = ["CaseResult", "play", "run_case"]

_TOGETHER = 64
"""Records decoded at once: a call of its own for each costs more than the rest of a step."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What became of a case."""

    title: str
    where: str
    line: int
    policy: str
    failures: tuple[Failure, ...]
    error: str
    """A traceback, where it could not be run to its end; else empty."""
    event_s: float
    """Virtual time."""
    elapsed_s: float

    @property
    def has_passed(self) -> bool:
        """Everything expected came true."""
        return not self.failures and not self.error


def run_case(case: Case) -> CaseResult:
    """Plays a case and judges it. Raises nothing: a rule that breaks is this case's result."""
    started = time.perf_counter()
    failures: tuple[Failure, ...] = ()
    error = ""
    try:
        history = play(case)
        failures = tuple(
            failure for one in case.expectations if (failure := judge(one, history)) is not None
        )
    except Exception:  # noqa: BLE001 - the other cases are run all the same
        error = traceback.format_exc()
    return CaseResult(
        title=case.title,
        where=case.where,
        line=case.line,
        policy=case.policy_label,
        failures=failures,
        error=error,
        event_s=case.length_ms / 1_000,
        elapsed_s=time.perf_counter() - started,
    )


def play(case: Case) -> History:
    """Everything that comes out of a case."""
    offline = Offline(policy_from_content(case.policy), has_graph=case.has_graph)
    history = History()
    clients = Clients() if case.obeys else None
    traffic = Traffic(dict(case.traffic), case.seed, admits=clients)
    asked = _Agenda(case)
    records: list[tuple[bytes, int]] = []

    def take(out: Outputs) -> None:
        history.add(out)
        if clients is not None:
            clients.hear(out)

    for step in range(case.length_ms // STEP_MS):
        now_ms = step * STEP_MS
        if records and (case.obeys or len(records) == _TOGETHER or asked.is_due(now_ms)):
            take(offline.feed(records))
            records = []
        for out in asked.put(offline, now_ms):
            take(out)
        records.append(traffic.next_record())
    take(offline.feed(records))
    # The last window is judged once its grace is over.
    take(offline.feed([(b"", records[-1][1] + offline.policy.grace_ms)]))
    return history


class _Agenda:
    """What comes beside traffic, by time."""

    def __init__(self, case: Case) -> None:
        self._points: dict[int, list[MetricPoint]] = {}
        for series in case.metrics:
            for at_ms, point in series.points():
                self._points.setdefault(at_ms, []).append(point)
        self._actions = list(reversed(case.actions))

    def is_due(self, now_ms: int) -> bool:
        """Whether anything comes now."""
        return now_ms in self._points or self._is_action_due(now_ms)

    def put(self, offline: Offline, now_ms: int) -> list[Outputs]:
        """Gives it to the stages; what comes out."""
        outs = []
        while self._is_action_due(now_ms):
            at_ms, record = self._actions.pop()
            outs.append(offline.control(record, BASE_MS + at_ms))
        if points := self._points.pop(now_ms, None):
            outs.append(offline.points(points))
        return outs

    def _is_action_due(self, now_ms: int) -> bool:
        return bool(self._actions) and self._actions[-1][0] <= now_ms
