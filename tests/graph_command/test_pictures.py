"""dot, mermaid and svg: read by parsers that aren't ours, with names that try to break out."""

from xml.etree import ElementTree as ET

import mermaidx
import pydot
import pytest

from tests.graph_command import views
from tests.graph_command.command import tidegate
from tidegate.schemas.graph import GraphView, encode_view
from tidegate.schemas.level import LEVEL_NAMES
from tidegate.streams.graph_formats import dot, mermaid, select, svg
from tidegate.streams.graph_formats.colours import COLOURS
from tidegate.streams.graph_formats.labels import shown
from tidegate.streams.level_table import clock_text

# pydot's, about names of pyparsing.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated - use:DeprecationWarning")

SVG = "{http://www.w3.org/2000/svg}"
BOTH = pytest.mark.parametrize("view", [views.shop(), views.hostile()], ids=["shop", "hostile"])


def parsed_dot(view: GraphView) -> pydot.Dot:
    graphs = pydot.graph_from_dot_data(dot(select(view)))
    assert graphs is not None
    (graph,) = graphs
    return graph


def unquoted(text: str) -> str:
    assert text[0] == text[-1] == '"'
    return text[1:-1].replace('\\"', '"').replace("\\\\", "\\")


def label_lines(label: str) -> list[str]:
    """As Graphviz shows them: a backslash with n ends a line, a backslash with anything else is that."""
    assert label[0] == label[-1] == '"'
    lines, chars = [""], iter(label[1:-1])
    for char in chars:
        if char != "\\":
            lines[-1] += char
        elif (escaped := next(chars)) == "n":
            lines.append("")
        else:
            assert escaped in '"\\', "Graphviz would put something else in its place"
            lines[-1] += escaped
    return lines


@BOTH
def test_dot_has_every_node_and_edge_and_nothing_else(view: GraphView) -> None:
    graph = parsed_dot(view)
    defaults = {"graph", "node", "edge"}
    nodes = [node for node in graph.get_nodes() if node.get_name() not in defaults]
    assert {label_lines(node.get("label"))[0] for node in nodes} == {
        shown(node.name) for node in view.nodes
    }
    assert len(nodes) == len(view.nodes)
    assert len(graph.get_edges()) == len(view.edges)
    assert not graph.get_subgraphs()
    ids = {node.get_name() for node in nodes}
    assert {e.get_source() for e in graph.get_edges()} <= ids
    assert {e.get_destination() for e in graph.get_edges()} <= ids


def test_dot_calls_a_node_by_its_name_and_says_its_level_in_words_and_colour() -> None:
    (db,) = parsed_dot(views.shop()).get_node('"inventory-db"')
    assert label_lines(db.get("label"))[1] == f"open since {clock_text(views.T_MS)}, virtual"
    assert unquoted(db.get("fillcolor")) == COLOURS["open"].fill


def test_names_that_look_alike_stay_two_nodes_in_dot() -> None:
    names = ("a\n", "a\\n", "a\\\\n")
    view = views.view([views.node(name) for name in names], [])
    ids = {node.get_name() for node in parsed_dot(view).get_nodes()}
    assert len(ids - {"graph", "node", "edge"}) == 3


def drawn(view: GraphView) -> ET.Element:
    """What Mermaid itself makes of it."""
    return ET.fromstring(mermaidx.render(mermaid(select(view))).svg())


@pytest.mark.slow
@BOTH
def test_mermaid_draws_every_node_and_edge_with_its_name(view: GraphView) -> None:
    root = drawn(view)
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert not tags & {"script", "a", "image", "iframe"}
    labels = [
        "".join(element.itertext())
        for element in root.iter(f"{SVG}g")
        if "node" in element.get("class", "").split()
    ]
    assert len(labels) == len(view.nodes)
    for node in view.nodes:
        # Mermaid takes \n in a text for the end of a line, however it is escaped.
        name = shown(node.name).replace("\\n", "")
        assert any(label.strip().startswith(name) for label in labels), node.name
    paths = [e for e in root.iter(f"{SVG}path") if "flowchart-link" in e.get("class", "")]
    assert len(paths) == len(view.edges)


def test_mermaid_text_holds_no_sign_of_its_grammar_from_a_name() -> None:
    for line in mermaid(select(views.hostile())).splitlines()[2:]:
        if '"' in line:
            before, inside, after = line.split('"')
            assert before.strip().rstrip("([|-> ").replace("-->", "").strip().startswith("n")
            assert not set(inside.replace("<br/>", "")) & set('<>[](){}|`%:"\\&')
            assert after.strip(")]|")[:1] in (":", " ")


def test_mermaids_own_limits_are_told() -> None:
    many = encode_view(views.wide(300))
    status, out, error = tidegate(
        "graph", "--format", "mermaid", "--max-nodes", "1000", "--view", "-", stdin=many
    )
    assert status == 0
    assert out.startswith("flowchart LR\n")
    assert "Mermaid draws at most 500 edges and 50,000 characters" in error
    assert "600" in error


@BOTH
def test_svg_is_one_xml_document_with_every_name_and_nothing_from_elsewhere(
    view: GraphView,
) -> None:
    text = svg(select(view))
    root = ET.fromstring(text)
    assert root.tag == f"{SVG}svg"
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert tags == {"svg", "title", "rect", "defs", "marker", "path", "g", "text"}
    for element in root.iter():
        for name, value in element.attrib.items():
            assert not name.startswith("on")
            assert "href" not in name
            assert "url(" not in value or value.startswith("url(#to-")
    titles = {element.text for element in root.iter(f"{SVG}title")}
    assert {shown(node.name) for node in view.nodes} <= titles
    assert len(list(root.iter(f"{SVG}path"))) == 2 * len(view.edges) + len(
        list(root.iter(f"{SVG}marker"))
    )


def test_svg_says_levels_in_words_and_the_root_cause() -> None:
    texts = [
        element.text for element in ET.fromstring(svg(select(views.shop()))).iter(f"{SVG}text")
    ]
    assert "open, L3" in texts
    assert any(text and text.startswith("degraded_2 since") for text in texts)
    assert (
        "web: graph degraded_2, score 0.41; root cause inventory-db (84%): its callers see p95 2.1 s "
        "since 12:03:04" in texts
    )


def boxes(root: ET.Element) -> list[tuple[float, float, float, float]]:
    frames = [element for element in root.iter(f"{SVG}rect") if "stroke-width" in element.attrib]
    return [
        (
            float(f.attrib["x"]),
            float(f.attrib["y"]),
            float(f.attrib["width"]),
            float(f.attrib["height"]),
        )
        for f in frames
    ]


def test_no_box_lies_over_another_and_all_lie_on_the_page() -> None:
    root = ET.fromstring(svg(select(views.wide(40))))
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    placed = boxes(root)
    assert len(placed) == 81
    for number, (x, y, w, h) in enumerate(placed):
        assert left <= x
        assert x + w <= left + width
        assert top <= y
        assert y + h <= top + height
        for x2, y2, w2, h2 in placed[:number]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y


@pytest.mark.parametrize("render", [dot, mermaid, svg])
def test_the_same_graph_is_the_same_picture_in_whatever_order_it_came(render: object) -> None:
    assert callable(render)
    view = views.shop()
    turned = views.view(view.nodes[::-1], view.edges[::-1], view.entries[::-1], view.findings)
    assert render(select(view)) == render(select(turned))


def test_an_empty_graph_is_a_picture_too() -> None:
    empty = select(views.view([], []))
    assert ET.fromstring(svg(empty)).tag == f"{SVG}svg"
    assert pydot.graph_from_dot_data(dot(empty))
    assert mermaid(empty).startswith("flowchart LR\n")


def test_a_service_that_calls_itself_is_drawn() -> None:
    view = views.view([views.node("a", is_entry=True)], [views.edge("a", "a")])
    assert len(list(ET.fromstring(svg(select(view))).iter(f"{SVG}path"))) == 3


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("level", LEVEL_NAMES)
def test_every_level_has_a_colour_on_which_its_text_can_be_read(level: str) -> None:
    colour = COLOURS[level]
    assert contrast(colour.fill, colour.text) >= 4.5
    assert contrast("#ffffff", colour.line) >= 3.0
