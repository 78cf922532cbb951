"""How a dependency graph is shown: which part of it, and as what."""

from tidegate.streams.graph_formats.dot import dot
from tidegate.streams.graph_formats.mermaid import MERMAID_CHARS_MAX, MERMAID_EDGES_MAX, mermaid
from tidegate.streams.graph_formats.selection import Selection, select
from tidegate.streams.graph_formats.svg import svg
from tidegate.streams.graph_formats.text import plain_text, tree

__all__ = [
    "MERMAID_CHARS_MAX",
    "MERMAID_EDGES_MAX",
    "Selection",
    "dot",
    "mermaid",
    "plain_text",
    "select",
    "svg",
    "tree",
]
