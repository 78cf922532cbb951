"""`tidegate findings` on saved graphs."""

import json

from tests.graph_command import views
from tests.graph_command.command import tidegate
from tidegate.schemas.graph import GraphView, encode_view
from tidegate.streams.findings_command import newest_of

SHOP = encode_view(views.shop())


def test_a_table_with_the_most_wasted_work_first() -> None:
    status, out, error = tidegate("findings", "--view", "-", stdin=SHOP)
    assert (status, error) == (0, "")
    assert out == (
        "      waste  finding         since     path                               reason\n"
        "120.0 s/min  gives_up_early  22:13:20  web -> checkout                    because web does\n"
        " 33.4 s/min  outlives        22:13:20  checkout -> inventory              because checkout does\n"
        "          –  cycle           22:13:20  checkout -> inventory -> checkout  because checkout does\n"
    )


def test_json_is_a_finding_a_line() -> None:
    status, out, _ = tidegate("findings", "--json", "--view", "-", stdin=SHOP)
    assert status == 0
    found = [json.loads(line) for line in out.splitlines()]
    assert [each["name"] for each in found] == ["gives_up_early", "outlives", "cycle"]
    assert found[0]["exemplars"] == [views.TRACE]


def test_names_choose_and_none_left_is_said_on_stderr() -> None:
    status, out, _ = tidegate(
        "findings", "--name", "cycle,outlives", "--json", "--view", "-", stdin=SHOP
    )
    assert [json.loads(line)["name"] for line in out.splitlines()] == ["outlives", "cycle"]
    for more in ([], ["--json"]):
        status, out, error = tidegate(
            "findings", "--name", "network", *more, "--view", "-", stdin=SHOP
        )
        assert (status, out, error) == (0, "", "tidegate: no finding named network\n")


def test_a_name_that_is_none_is_wrong_usage_with_a_hint() -> None:
    status, out, error = tidegate("findings", "--name", "cycel", "--view", "-", stdin=SHOP)
    assert (status, out) == (2, "")
    assert error == "tidegate: --name: 'cycel' is no finding; did you mean cycle?\n"


def test_names_of_services_steer_no_terminal() -> None:
    data = encode_view(views.hostile())
    _, out, _ = tidegate("findings", "--view", "-", stdin=data)
    assert len(out.splitlines()) == 2
    assert all(char == "\n" or char.isprintable() for char in out)


def test_of_many_graphs_every_finding_counts_as_it_was_last() -> None:
    def seen(*findings: tuple[str, float]) -> GraphView:
        return views.view(
            [], [], [], [views.finding("outlives", ["a", b], waste=waste) for b, waste in findings]
        )

    found = newest_of([seen(("b", 1.0), ("c", 2.0)), seen(("b", 3.0)), seen()])
    assert [(each.path, each.waste_s_per_min) for each in found] == [
        (["a", "b"], 3.0),
        (["a", "c"], 2.0),
    ]
