"""Which root cause explains an alert: one whose badness reaches the alert's scope along calls that are bad.

Only what a view shows is asked, so that whoever holds the same view gives the same answer.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from tidegate.schemas.decision import RootCause
from tidegate.schemas.graph import EdgeView, GraphView, NodeView
from tidegate.schemas.scope import (
    WHOLE_GRAPH,
    inbound_scope,
    key_of_scope,
    scope_of_key,
    service_scope,
)

__all__ = ["Cause", "Explained", "cause_of"]

SHARE_MIN = 0.5
"""Of what is bad in a graph; where less begins at its first suspect, nobody knows the cause."""
_HEALTHY = 0.8


@dataclass(frozen=True, slots=True)
class Cause:
    """Where it begins."""

    scope: str
    """`service:NAME`, or `inbound:NAME` of a virtual node."""
    reason: str
    """The evidence, for people."""
    share: float

    @property
    def name(self) -> str:
        """The service or virtual node."""
        return self.scope.partition(":")[2]


def cause_of(scope: str, view: GraphView) -> Cause | None:
    """What explains an alert about `scope`; None where nothing does."""
    return Explained(view).cause_of(scope)


class Explained:
    """A view, worked out once: every node that a cause explains."""

    def __init__(self, view: GraphView) -> None:
        self._nodes = {node.name: node for node in view.nodes}
        self._names = self._nodes.keys() | {edge.callee for edge in view.edges}
        self._of_entry: dict[str, Cause] = {}
        self._of_node: dict[str, Cause] = {}
        best: dict[str, RootCause] = {}
        for entry in view.entries:
            first = entry.root_causes[0] if entry.root_causes else None
            if first is None or first.share < SHARE_MIN:
                continue
            self._of_entry[entry.entry] = self._told(first)
            known = best.get(first.name)
            if known is None or first.share > known.share:
                best[first.name] = first
        callers = self._bad_callers(view.edges) if best else {}
        # Who is explained by two goes with the one that explains more, of equal ones by name.
        for cause in sorted(best.values(), key=lambda one: (-one.share, one.name)):
            told = self._told(cause)
            for name in _behind(cause.name, callers, self._thin_callers(cause.name, view.edges)):
                self._of_node.setdefault(name, told)
        for cause in best.values():
            self._of_node[cause.name] = self._told(cause)

    def knows(self, scope: str) -> bool:
        """Whether the scope is about something in the view: only then can it come to have a cause."""
        try:
            service, target = key_of_scope(scope)
        except ValueError:
            return False
        return service in self._names or target in self._names

    def cause_of(self, scope: str) -> Cause | None:
        """What explains an alert about `scope`: of an edge, what explains its callee."""
        try:
            service, target = key_of_scope(scope)
        except ValueError:
            return None
        if target == WHOLE_GRAPH and service in self._of_entry:
            return self._of_entry[service]
        is_edge = scope_of_key(service, target).startswith("edge:")
        return self._of_node.get(target if is_edge else service)

    def _told(self, cause: RootCause) -> Cause:
        node = self._nodes.get(cause.name)
        is_virtual = node is not None and node.kind == "virtual"
        scope = inbound_scope(cause.name) if is_virtual else service_scope(cause.name)
        return Cause(scope, cause.reason, cause.share)

    def _bad_callers(self, edges: Iterable[EdgeView]) -> dict[str, list[str]]:
        """By callee: callers whose calls to it are bad. A virtual node calls those who answer under its
        name."""
        found: dict[str, list[str]] = {}
        for edge in edges:
            if _is_bad(edge) or (edge.score is None and _is_ill(self._nodes.get(edge.callee))):
                found.setdefault(edge.callee, []).append(edge.caller)
        for node in self._nodes.values():
            for name in node.answered_by:
                found.setdefault(name, []).append(node.name)
        return found

    def _thin_callers(self, name: str, edges: Iterable[EdgeView]) -> list[str]:
        """Who calls a cause too seldom for its calls to be judged."""
        return [edge.caller for edge in edges if edge.callee == name and edge.score is None]


def _behind(name: str, callers: dict[str, list[str]], first: list[str]) -> set[str]:
    """All that reach a node along bad calls."""
    found = {name, *first}
    frontier = [name, *first]
    while frontier:
        for caller in callers.get(frontier.pop(), ()):
            if caller not in found:
                found.add(caller)
                frontier.append(caller)
    return found


def _is_bad(edge: EdgeView) -> bool:
    is_low = edge.score is not None and edge.score < _HEALTHY
    return edge.level != "closed" or bool(edge.incidents) or is_low


def _is_ill(node: NodeView | None) -> bool:
    if node is None:
        return False
    return node.level != "closed" or (node.score is not None and node.score < _HEALTHY)
