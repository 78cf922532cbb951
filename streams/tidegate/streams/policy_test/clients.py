"""Clients that obey: the real admission function over the decisions that came out so far.

One client for each series; it obeys whatever the mode, since a case is about what would happen.
"""

import msgspec

from tidegate.client.admission import Request, Verdict, admit, strictest
from tidegate.client.state import AdmissionState, first_state
from tidegate.rules.outputs import Outputs
from tidegate.schemas.decision import Decision
from tidegate.schemas.outcome import Effect
from tidegate.schemas.scope import edge_scope, service_scope
from tidegate.streams.policy_test.traffic import Admitted, Key

__all__ = ["Clients"]

_PASSES = Admitted()


class Clients:
    """Hears outputs, admits requests."""

    def __init__(self) -> None:
        self._decisions: dict[str, Decision] = {}
        self._states: dict[tuple[Key, str], AdmissionState] = {}

    def hear(self, out: Outputs) -> None:
        """Obeys these from the next step on."""
        for decision in out.decisions:
            self._decisions[decision.scope] = msgspec.structs.replace(decision, mode="enforce")
        for _, scope in out.tombstones:
            self._decisions.pop(scope, None)

    def __call__(self, key: Key, trace_id: bytes, now_ms: int, *, is_heartbeat: bool) -> Admitted:
        """The strictest verdict of the scopes that concern a request."""
        caller, target = key
        scopes = (
            (edge_scope(caller, target), service_scope(target))
            if target
            else (service_scope(caller),)
        )
        request = Request(trace_id=trace_id, is_heartbeat=is_heartbeat)
        verdicts: list[Verdict] = []
        for scope in scopes:
            decision = self._decisions.get(scope)
            if decision is None:
                continue
            at = (key, scope)
            state = self._states.get(at) or first_state(f"{caller}/{target}", scope)
            verdict, self._states[at] = admit(decision, request, state, now_ms)
            verdicts.append(verdict)
        if not verdicts:
            return _PASSES
        verdict = strictest(verdicts)
        effect = Effect[verdict.effect.upper()] if verdict.effect else Effect.NONE
        return Admitted(effect, 1_000 * (verdict.deadline_ms or 0))
