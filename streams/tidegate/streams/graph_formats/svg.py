"""A graph as one SVG file that needs nothing else: no script, no font, no style from elsewhere."""

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from rich.cells import cell_len

from tidegate.schemas.graph import EdgeView, GraphView, NodeView
from tidegate.schemas.level import LEVEL_NAMES
from tidegate.streams.control_options import local_text
from tidegate.streams.graph_formats.colours import COLOURS
from tidegate.streams.graph_formats.labels import (
    cut,
    edge_marks,
    edge_numbers,
    findings_by_edge,
    level_words,
    node_marks,
    node_numbers,
    shown,
    verdicts,
)
from tidegate.streams.graph_formats.layout import Box, Laid, Line, lay_out
from tidegate.streams.graph_formats.selection import Selection

__all__ = ["svg"]

_NAMESPACE = "http://www.w3.org/2000/svg"
_NAME_CHARS_MAX = 40
_CHAR_EM = 0.6
"""How wide a letter may be, of the font's size: every sans-serif font stays below on average."""
_NODE_FONT, _EDGE_FONT = 12, 10
_NODE_LINE, _EDGE_LINE = 16, 13
_MARGIN, _PADDING = 24, 10
_HEAD_LINE = 20


def svg(selection: Selection) -> str:
    """An XML document. What doesn't fit into a box stands in its tooltip."""
    view = selection.view
    findings = findings_by_edge(view)
    index = {node.name: number for number, node in enumerate(view.nodes)}
    node_texts = [_node_lines(node) for node in view.nodes]
    edge_texts = [_edge_lines(e, findings.get((e.caller, e.callee), [])) for e in view.edges]
    laid = lay_out(
        [_size(lines, _NODE_FONT, _NODE_LINE, _PADDING) for lines in node_texts],
        [(index[edge.caller], index[edge.callee]) for edge in view.edges],
        [_size(lines, _EDGE_FONT, _EDGE_LINE, 2) for lines in edge_texts],
    )
    head = [_title(view), *verdicts(view), *filter(None, [selection.cut_text])]
    root = _page(laid, head, sorted({n.level for n in view.nodes} | {e.level for e in view.edges}))
    lines = ET.SubElement(root, "g", {"fill": "none"})
    for edge, line in zip(view.edges, laid.lines, strict=True):
        _draw_line(lines, edge, line)
    boxes = ET.SubElement(root, "g", {"font-size": str(_NODE_FONT)})
    for node, text, box in zip(view.nodes, node_texts, laid.boxes, strict=True):
        _draw_box(boxes, node, text, box)
    labels = ET.SubElement(root, "g", {"font-size": str(_EDGE_FONT)})
    for edge, text, line in zip(view.edges, edge_texts, laid.lines, strict=True):
        _draw_label(labels, edge, text, line.label)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _title(view: GraphView) -> str:
    return f"dependency graph of {local_text(view.window_end_ms)}"


def _node_lines(node: NodeView) -> list[str]:
    words = [level_words(node.level, node.since_ms), *node_marks(node)]
    return [cut(shown(node.name), _NAME_CHARS_MAX), ", ".join(words), ", ".join(node_numbers(node))]


def _edge_lines(edge: EdgeView, findings: Sequence[str]) -> list[str]:
    marks = edge_marks(edge, findings)
    words = [edge.level, *marks] if marks or edge.level != "closed" else []
    calls, *others = edge_numbers(edge)
    return [line for line in (", ".join(words), calls, ", ".join(others)) if line]


def _size(lines: Sequence[str], font: int, line: int, padding: int) -> tuple[float, float]:
    width = max(cell_len(text) for text in lines) * font * _CHAR_EM
    return round(width) + 2 * padding, len(lines) * line + 2 * padding


def _page(laid: Laid, head: Sequence[str], levels: Sequence[str]) -> ET.Element:
    legend = [level for level in LEVEL_NAMES if level in levels]
    top = laid.top - _MARGIN - _HEAD_LINE * (len(head) + 1)
    left = laid.left - _MARGIN
    needed = max(cell_len(line) for line in head) * 14 * _CHAR_EM
    needed = max(needed, sum(_legend_width(level) for level in legend))
    width = max(laid.right - laid.left, needed) + 2 * _MARGIN
    height = laid.bottom + _MARGIN - top
    root = ET.Element(
        "svg",
        {
            "xmlns": _NAMESPACE,
            "viewBox": f"{left:g} {top:g} {width:g} {height:g}",
            "width": f"{width:g}",
            "height": f"{height:g}",
            "role": "img",
            "font-family": "Helvetica, Arial, sans-serif",
        },
    )
    ET.SubElement(root, "title").text = head[0]
    ET.SubElement(
        root,
        "rect",
        {"x": f"{left:g}", "y": f"{top:g}", "width": "100%", "height": "100%", "fill": "#ffffff"},
    )
    defs = ET.SubElement(root, "defs")
    for level in legend:
        _define_arrow(defs, level)
    for number, line in enumerate(head):
        _write(root, line, laid.left, top + _HEAD_LINE * (number + 1), {"font-size": "14"})
    _draw_legend(root, legend, laid.left, top + _HEAD_LINE * (len(head) + 1))
    return root


def _define_arrow(defs: ET.Element, level: str) -> None:
    marker = ET.SubElement(
        defs,
        "marker",
        {
            "id": f"to-{level}",
            "viewBox": "0 0 8 8",
            "refX": "8",
            "refY": "4",
            "markerWidth": "8",
            "markerHeight": "8",
            "markerUnits": "userSpaceOnUse",
            "orient": "auto",
        },
    )
    ET.SubElement(marker, "path", {"d": "M0 0L8 4L0 8z", "fill": COLOURS[level].line})


def _legend_width(level: str) -> float:
    return cell_len(level) * _EDGE_FONT * _CHAR_EM + 32


def _draw_legend(root: ET.Element, levels: Sequence[str], left: float, y: float) -> None:
    group = ET.SubElement(root, "g", {"font-size": str(_EDGE_FONT)})
    for level in levels:
        colour = COLOURS[level]
        sample = {"x": f"{left:g}", "y": f"{y - 10:g}", "width": "14", "height": "12"}
        ET.SubElement(group, "rect", {**sample, "fill": colour.fill, "stroke": colour.line})
        _write(group, level, left + 18, y, {"fill": "#222222"})
        left += _legend_width(level)


def _draw_line(group: ET.Element, edge: EdgeView, line: Line) -> None:
    whole = ET.SubElement(
        group,
        "g",
        {
            "stroke": COLOURS[edge.level].line,
            "stroke-width": "1" if edge.level == "closed" else "2.5",
        },
    )
    ET.SubElement(whole, "title").text = _edge_title(edge)
    ET.SubElement(whole, "path", {"d": _way(line.out)})
    arrow = f"url(#to-{edge.level})"
    ET.SubElement(whole, "path", {"d": _way(line.into), "marker-end": arrow})


def _way(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)


def _draw_box(group: ET.Element, node: NodeView, lines: Sequence[str], box: Box) -> None:
    colour = COLOURS[node.level]
    at = ET.SubElement(group, "g")
    ET.SubElement(at, "title").text = shown(node.name)
    frame = {
        "x": f"{box.x - box.width / 2:g}",
        "y": f"{box.y - box.height / 2:g}",
        "width": f"{box.width:g}",
        "height": f"{box.height:g}",
        "fill": colour.fill,
        "stroke": colour.line,
        "stroke-width": "3" if node.is_entry else "1.5",
    }
    if node.kind == "virtual":
        frame |= {"rx": "14", "stroke-dasharray": "5 3"}
    ET.SubElement(at, "rect", frame)
    top = box.y - (len(lines) - 1) * _NODE_LINE / 2 + _NODE_FONT / 3
    for number, line in enumerate(lines):
        style = {"text-anchor": "middle", "fill": colour.text}
        if number == 0:
            style["font-weight"] = "bold"
        _write(at, line, box.x, top + number * _NODE_LINE, style)


def _draw_label(group: ET.Element, edge: EdgeView, lines: Sequence[str], box: Box) -> None:
    top = box.y - (len(lines) - 1) * _EDGE_LINE / 2 + _EDGE_FONT / 3
    for number, text in enumerate(lines):
        style = {"text-anchor": "middle", "fill": "#333333"}
        if number == 0 and edge.level != "closed":
            style |= {"font-weight": "bold", "fill": COLOURS[edge.level].line}
        _write(group, text, box.x, top + number * _EDGE_LINE, style)


def _edge_title(edge: EdgeView) -> str:
    words = level_words(edge.level, edge.since_ms)
    numbers = ", ".join(edge_numbers(edge))
    return f"{shown(edge.caller)} -> {shown(edge.callee)}: {words}, {numbers}"


def _write(parent: ET.Element, text: str, x: float, y: float, style: dict[str, str]) -> None:
    ET.SubElement(parent, "text", {"x": f"{x:g}", "y": f"{y:g}", **style}).text = text
