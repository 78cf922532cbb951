"""Records of `tidegate.graph`: the dependency graph as it is now, for commands, pages and other programs.

JSON, key `part:NUMBER`: one view is cut into parts below 512 kB, and the topic keeps the newest of each. The
same type, whole, is what a worker's HTTP port answers.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

import msgspec

from tidegate.schemas.decision import LevelName, RootCause

__all__ = [
    "FINDING_NAMES",
    "GRAPH_SCHEMA",
    "EdgeView",
    "EntryView",
    "GraphFinding",
    "GraphView",
    "NodeView",
    "Parts",
    "decode_view",
    "encode_view",
    "json_schema",
    "parts_of",
]

GRAPH_SCHEMA = 1
PART_BYTES_MAX = 400_000

FindingName = Literal[
    "cycle", "amplification", "gives_up_early", "deadline_grows", "outlives", "network"
]
FINDING_NAMES: tuple[FindingName, ...] = get_args(FindingName)


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """A service, or a name that answers and is none that we know."""

    name: str
    kind: Literal["service", "virtual"]
    """virtual: a database, a mesh's address, a service that sends no spans."""
    is_entry: bool
    """Receives requests that none of the known callers made."""
    level: LevelName
    """Of its own view; of a virtual node, of all callers'."""
    score: float | None
    since_ms: int | None
    qps: float
    error_ratio: float
    p95_ms: float | None
    answered_by: list[str] = []
    """Of a virtual node: the services that answer under its name."""


class EdgeView(msgspec.Struct, frozen=True, kw_only=True):
    """One caller's calls to one callee, as the caller sees them; beside it what the callee says."""

    caller: str
    callee: str
    level: LevelName
    score: float | None
    since_ms: int | None
    calls_per_s: float
    error_ratio: float
    timeout_ratio: float
    p95_ms: float | None
    server_p95_ms: float | None
    """The callee's own P95; null where it says nothing."""
    network_ms: float | None
    """The difference: network and queues between both."""
    fan_out: float | None
    """Calls per request of the caller, in the last 30 s."""
    usual_fan_out: float | None
    """What is usual."""
    hard: float | None
    """P(request fails given the call fails), a lower bound; null where too few failed to tell."""
    deadline_ms: float | None
    """After how long the caller gives up, as seen; null where it never did."""
    incidents: list[str] = []


class EntryView(msgspec.Struct, frozen=True, kw_only=True):
    """The graph of an entry: all that a request entering there may need."""

    entry: str
    level: LevelName
    score: float
    """0..1: how likely a request entering there is served well."""
    nodes_count: int
    root_causes: list[RootCause] = []


class GraphFinding(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with how services call each other, not with one of them now."""

    name: FindingName
    path: list[str]
    """Services in the order of the calls; of a cycle the first one is the last one too."""
    since_ms: int
    waste_s_per_min: float = 0.0
    """Work that nobody waits for, seconds in a minute; 0 where it can't be told."""
    reason: str
    exemplars: list[str] = []
    """Trace ids."""


class GraphView(msgspec.Struct, frozen=True, kw_only=True):
    """The graph at a boundary; or one part of it."""

    schema: int = GRAPH_SCHEMA
    version: int
    """Grows when nodes or edges come or go."""
    boundary: int
    window_end_ms: int
    part: int = 0
    parts: int = 1
    nodes: list[NodeView] = []
    edges: list[EdgeView] = []
    entries: list[EntryView] = []
    findings: list[GraphFinding] = []
    """Worst waste first."""


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(GraphView)


def encode_view(view: GraphView) -> bytes:
    """One line of JSON, without the newline."""
    return _encoder.encode(view)


def decode_view(data: bytes) -> GraphView:
    """Raises msgspec.DecodeError for anything that is no view."""
    return _decoder.decode(data)


def parts_of(view: GraphView) -> list[bytes]:
    """The records of a view, in the order of their numbers; their keys are `part:NUMBER`."""
    pieces = list(_pieces(view))
    return [
        encode_view(msgspec.structs.replace(view, part=number, parts=len(pieces), **piece))
        for number, piece in enumerate(pieces)
    ]


class Parts:
    """Puts views together from the records of the topic, which come one part at a time."""

    def __init__(self) -> None:
        self._parts: dict[int, GraphView] = {}

    def add(self, part: GraphView) -> GraphView | None:
        """The view that this part makes whole. What was written before what is known already (by a worker
        that was frozen and woke) is ignored."""
        known = self._parts.get(part.part)
        if known is not None and known.boundary > part.boundary:
            return None
        self._parts[part.part] = part
        return _whole(self._parts) if part.part == part.parts - 1 else None


def _whole(parts: Mapping[int, GraphView]) -> GraphView | None:
    """None where some parts are missing or of another boundary."""
    first = parts.get(0)
    if first is None:
        return None
    mine = [parts.get(number) for number in range(first.parts)]
    found = [part for part in mine if part is not None and part.boundary == first.boundary]
    if len(found) != first.parts:
        return None
    return msgspec.structs.replace(
        first,
        parts=1,
        nodes=[node for part in found for node in part.nodes],
        edges=[edge for part in found for edge in part.edges],
        entries=[entry for part in found for entry in part.entries],
        findings=[finding for part in found for finding in part.findings],
    )


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a view, generated from the type."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **msgspec.json.schema(GraphView),
    }


def _pieces(view: GraphView) -> Iterator[dict[str, list[Any]]]:
    names = ("nodes", "edges", "entries", "findings")
    piece: dict[str, list[Any]] = {name: [] for name in names}
    size = 0
    for name in names:
        for item in getattr(view, name):
            bytes_count = len(_encoder.encode(item)) + 1
            if size and size + bytes_count > PART_BYTES_MAX:
                yield piece
                piece, size = {each: [] for each in names}, 0
            piece[name].append(item)
            size += bytes_count
    yield piece
