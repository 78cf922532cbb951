"""What a worker answers about the dependency graph over HTTP: `/graph` whole, `/findings` alone.

One worker has the graph stage's partition. The others say so: 404, with the reason as JSON.
"""

from typing import TYPE_CHECKING

import msgspec

from tidegate.schemas.graph import GraphFinding, GraphView, encode_view
from tidegate.streams.metrics import Answer, Page

if TYPE_CHECKING:
    from tidegate.streams.evaluate import Evaluation

__all__ = ["Findings", "graph_pages"]

_JSON = "application/json"


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What `/findings` answers: a part of the graph's view."""

    version: int
    """Of the graph."""
    boundary: int
    window_end_ms: int
    findings: list[GraphFinding]
    """Worst waste first."""


def graph_pages(stage: "Evaluation | None", topic: str) -> dict[str, Page]:
    """By path. stage: None where this worker has no graph stage. topic: where every graph can be read."""

    def graph() -> Answer:
        view = _view_or_reason(stage, topic)
        return _refusal(view) if isinstance(view, str) else Answer(200, encode_view(view), _JSON)

    def findings() -> Answer:
        view = _view_or_reason(stage, topic)
        if isinstance(view, str):
            return _refusal(view)
        shown = Findings(
            version=view.version,
            boundary=view.boundary,
            window_end_ms=view.window_end_ms,
            findings=view.findings,
        )
        return Answer(200, msgspec.json.encode(shown), _JSON)

    return {"/graph": graph, "/findings": findings}


def _view_or_reason(stage: "Evaluation | None", topic: str) -> GraphView | str:
    if stage is None:
        return f"this worker runs without the graph stage; ask the others, or read topic {topic}"
    if not stage.is_owner:
        return (
            "another worker has the graph stage, or it is being rebuilt here; ask the others, or read "
            f"topic {topic}"
        )
    return stage.newest_view or "no graph has come out since this worker took over; ask again soon"


def _refusal(reason: str) -> Answer:
    return Answer(404, msgspec.json.encode({"reason": reason}), _JSON)
