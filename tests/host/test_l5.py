"""From a file tree to L5, by the stages that workers run; and what the docs say of the packs."""

from pathlib import Path

import pytest

from tests.host.trees import BOOT_S, EVENTS, events, plant, pressure, v2
from tidegate.client.host import encode_reading, read_host
from tidegate.client.identity import identity_of
from tidegate.rules.host_incidents import HostIncidents
from tidegate.rules.host_metrics import HostMetrics
from tidegate.rules.policy import builtin_policy
from tidegate.schemas.otlp.metrics import decode_metrics

DOCS = Path(__file__).resolve().parents[2] / "docs" / "host.md"
PACKS = ("reference", "default", "adaptive")
IDENTITY = identity_of("shop/pay", "pay-1", {})
START_MS = (BOOT_S + 3_600) * 1000
OOPS = "sys/kernel/oops_count"
PANIC = "proc/sys/kernel/panic_on_oops"
PRESSURE = EVENTS.replace("events", "pressure")
QUIET: dict[str, str | bytes] = {**v2(), PANIC: "0\n", PRESSURE: pressure("0.00")}


def told_by(root: Path, pack: str, *readings: dict[str, str | bytes]) -> list[tuple[str, ...]]:
    """The instances of L5 after each reading of the tree; they come every 5 s."""
    policy = builtin_policy(pack)
    settings = policy.settings[policy.settings_for("shop/pay", "")]
    metrics, incidents, found = HostMetrics(), HostIncidents(), []
    for number, files in enumerate(readings):
        plant(root, {**QUIET, **files})
        time_ms = START_MS + number * 5_000
        value = encode_reading(read_host(root), attributes=IDENTITY.attributes, time_ms=time_ms)
        assert value is not None
        metrics.offer((point for _, point in decode_metrics([value]).points), offset=number)
        boundary = time_ms // 500 + 1
        metrics.merge(boundary)
        incidents.step(metrics, lambda service: settings, boundary)
        active = [one for one in incidents.active("shop/pay") if one.rule == "L5"]
        found.append(active[0].instances if active else ())
    return found


HERE, NOBODY = (IDENTITY.instance,), ()


@pytest.mark.parametrize(
    ("readings", "by_pack"),
    [
        ([{}, {}, {}], {"reference": NOBODY, "default": NOBODY}),
        ([{}, {PANIC: "1\n"}], {"reference": HERE, "default": NOBODY}),
        ([{}, {OOPS: "5\n"}], {"reference": NOBODY, "default": HERE}),
        ([{}, {EVENTS: events(high=4)}], {"reference": HERE, "default": NOBODY}),
        ([{}, {EVENTS: events(most=3)}], {"reference": NOBODY, "default": HERE}),
        ([{}, {EVENTS: events(oom_kill=2)}], {"reference": NOBODY, "default": HERE}),
        ([{PRESSURE: pressure("20.10")}] * 2, {"reference": NOBODY, "default": HERE}),
        ([{PRESSURE: pressure("20.00")}] * 2, {"reference": NOBODY, "default": NOBODY}),
    ],
)
@pytest.mark.parametrize("pack", ["reference", "default"])
def test_what_is_read_leads_to_l5_as_the_pack_says(
    tmp_path: Path,
    pack: str,
    readings: list[dict[str, str | bytes]],
    by_pack: dict[str, tuple[str, ...]],
) -> None:
    assert told_by(tmp_path, pack, *readings)[-1] == by_pack[pack]


def test_counts_from_before_the_first_reading_are_no_news(tmp_path: Path) -> None:
    many: dict[str, str | bytes] = {EVENTS: events(900, 900, 900), OOPS: "900\n"}
    assert told_by(tmp_path, "default", many, many, many) == [NOBODY] * 3


def test_a_control_group_made_anew_counts_from_zero(tmp_path: Path) -> None:
    first: dict[str, str | bytes] = {EVENTS: events(9, 9, 9)}
    second: dict[str, str | bytes] = {EVENTS: events(0, 0, 0)}
    third: dict[str, str | bytes] = {EVENTS: events(0, 1, 0)}
    assert told_by(tmp_path, "default", first, second, third) == [NOBODY, NOBODY, HERE]


def test_the_docs_say_what_l5_does_in_each_pack() -> None:
    settings = {}
    for pack in PACKS:
        policy = builtin_policy(pack)
        settings[pack] = policy.settings[policy.settings_for("any", "")].incidents.l5
    lines = [
        f"| setting | {' | '.join(f'`{pack}`' for pack in PACKS)} |",
        "| --- | --- | --- | --- |",
    ]
    for name in settings["default"].__struct_fields__:
        values = [_shown(getattr(settings[pack], name)) for pack in PACKS]
        lines.append(f"| `{name}` | {' | '.join(values)} |")
    table = "\n".join(lines)
    assert table in DOCS.read_text(), f"put this into {DOCS.name}:\n{table}"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) and value else str(value or "off")
