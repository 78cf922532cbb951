"""`tidegate graph` as text: trees, marks, cuts."""

import itertools

from msgspec.structs import replace

from tests.graph_command import views
from tests.graph_command.command import tidegate
from tidegate.schemas.graph import GraphView, decode_view, encode_view
from tidegate.streams.graph_formats import plain_text, select, tree

SHOP = """\
graph of 2023-11-14 22:13:20+00:00, version 7: 6 nodes, 7 edges, 2 entries
web  [entry]  graph degraded_2, score 0.41, 5 nodes;  itself degraded_1 since 22:13:20  40.0 req/s  errors 1.2%  p95 80 ms
├── root cause inventory-db (84%): its callers see p95 2.1 s since 12:03:04
└── checkout  degraded_2 since 22:13:20  12.3 calls/s  errors 4.1%  p95 1,310 ms  [gives_up_early]
    ├── inventory-db  open since 22:13:20  12.3 calls/s  errors 4.1%  p95 1,310 ms  [L3]  [virtual]
    ├── inventory  closed  12.3 calls/s  errors 4.1%  p95 1,310 ms  [cycle]  [outlives]
    │   ├── inventory-db  open since 22:13:20  12.3 calls/s  errors 4.1%  p95 1,310 ms  [virtual]
    │   └── checkout  closed  12.3 calls/s  errors 4.1%  p95 1,310 ms  itself degraded_2 since 22:13:20  [cycle]  (cycle: cut here)
    └── mail  closed  0.2 calls/s  errors 4.1%  p95 1,310 ms
"""


def shown(view: GraphView, *names: str, nodes_max: int | None = None) -> str:
    return plain_text(tree(select(view, names, nodes_max=nodes_max)))


def saved(view: GraphView) -> bytes:
    return encode_view(view)


def test_a_tree_for_each_entry_worst_first_with_causes_marks_and_cycles_cut() -> None:
    status, out, error = tidegate("graph", "--view", "-", stdin=saved(views.shop()))
    assert (status, error) == (0, "")
    assert out.startswith(SHOP + "admin  [entry]  graph closed")
    assert out.endswith("3 findings; `tidegate findings` says more\n")


def test_an_entry_shows_only_what_it_reaches() -> None:
    status, out, _ = tidegate("graph", "admin", "--view", "-", stdin=saved(views.shop()))
    assert status == 0
    assert out.splitlines()[0].endswith("version 7: 5 nodes, 6 edges, 1 entry")
    assert "web" not in out


def test_any_node_may_be_named_and_an_unknown_one_is_a_failure_with_a_hint() -> None:
    data = saved(views.shop())
    status, out, _ = tidegate("graph", "inventory-db", "--view", "-", stdin=data)
    assert status == 0
    assert "inventory-db  [virtual]  itself open since" in out
    status, out, error = tidegate("graph", "chekout", "--view", "-", stdin=data)
    assert (status, out) == (1, "")
    assert error == ("tidegate: chekout: this graph has no such node; did you mean checkout?\n")


def test_what_no_entry_reaches_is_shown_too() -> None:
    view = views.view(
        [views.node(name) for name in ("a", "b", "c", "d", "e")],
        [views.edge("b", "c"), views.edge("c", "b"), views.edge("d", "e")],
        [],
    )
    text = shown(view)
    roots = [line.split()[0] for line in text.splitlines()[1:] if line[0].isalpha()]
    assert roots == ["a", "d", "b"]


def test_a_node_opens_once_in_a_tree_so_that_many_ways_stay_a_short_text() -> None:
    names = [f"{side}{depth}" for depth in range(30) for side in "lr"]
    nodes = [views.node("top", is_entry=True), *(views.node(name) for name in names)]
    edges = [views.edge("top", "l0"), views.edge("top", "r0")]
    edges += [
        views.edge(f"{a}{depth}", f"{b}{depth + 1}")
        for depth in range(29)
        for a in "lr"
        for b in "lr"
    ]
    text = shown(views.view(nodes, edges, [views.entry("top", 61)]))
    assert len(text.splitlines()) == 2 + len(edges)
    assert text.count("(its calls: see above)") == len(edges) - len(names) - 2
    assert "(cycle: cut here)" not in text


def test_a_very_deep_chain_is_no_recursion() -> None:
    names = [f"s{number}" for number in range(3_000)]
    edges = [views.edge(a, b) for a, b in itertools.pairwise(names)]
    view = views.view([views.node(name) for name in names], edges, [views.entry("s0", 3_000)])
    assert shown(view, nodes_max=500).count("\n") == 502


def test_a_cut_keeps_the_worst_with_their_way_and_says_what_is_missing() -> None:
    view = views.wide(150)
    status, out, error = tidegate("graph", "--max-nodes", "5", "--view", "-", stdin=saved(view))
    assert (status, error) == (0, "")
    assert "db-s0149" in out
    assert "s0149" in out
    assert "296 nodes and 296 edges are left out" in out
    part = select(view, nodes_max=5).view
    assert len(part.nodes) == 5
    status, out, _ = tidegate("graph", "--view", "-", stdin=saved(view))
    assert "101 nodes and 101 edges are left out" in out, "200 are shown by default"


def test_json_is_the_whole_view_and_can_be_read_back() -> None:
    view = views.wide(150)
    status, out, _ = tidegate("graph", "--format", "json", "--view", "-", stdin=saved(view))
    assert status == 0
    assert out.count("\n") == 1
    again = decode_view(out.encode())
    assert len(again.nodes) == 301
    assert sorted(again.nodes, key=str) == sorted(view.nodes, key=str)
    status, out, error = tidegate(
        "graph", "s0000", "--format", "json", "--max-nodes", "1", "--view", "-", stdin=saved(view)
    )
    assert status == 0
    assert [node.name for node in decode_view(out.encode()).nodes] == ["s0000"]
    assert "1 nodes and 1 edges are left out" in error


def test_names_steer_no_terminal_and_end_no_line() -> None:
    text = shown(views.hostile())
    assert len(text.splitlines()) == 1 + 1 + 1 + (len(views.HOSTILE) - 1) + 1
    assert all(char == "\n" or char.isprintable() for char in text)
    assert "[red]markup[/red]" in text


def test_edges_to_nodes_that_are_missing_are_counted() -> None:
    whole = views.shop()
    view = replace(whole, nodes=[node for node in whole.nodes if node.name != "mail"])
    assert "0 nodes and 1 edges are left out" in shown(view)


def test_an_empty_graph_says_so() -> None:
    assert "no service was seen yet" in shown(views.view([], []))
