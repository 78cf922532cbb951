"""Each golden, straight: through `Offline` as replay does, and through a log of partials."""

import msgspec
import pytest

from tests.exactness.driving import Feed, evaluate, straight_log
from tests.goldens.files import decisions_path, golden_decisions, golden_records, spans_path
from tests.goldens.incidents import INCIDENTS, Incident
from tests.goldens.make import lines_of
from tests.goldens.recording import as_json, as_protobuf, records_of
from tidegate.rules.policy import builtin_policy
from tidegate.schemas.decision import Decision, decode_decision
from tidegate.streams.cli import main

CASES = [(incident, policy) for incident in INCIDENTS for policy in incident.policies]


def feeds(incident: Incident) -> list[Feed]:
    """As protobuf: the recordings' JSON is what replay reads."""
    return [
        Feed(as_protobuf(record.spans), record.kafka_ms, offset=offset)
        for offset, record in enumerate(records_of(incident))
    ]


@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda incident: incident.name)
def test_the_recording_is_what_the_generator_makes(incident: Incident) -> None:
    assert b"\n".join(golden_records(incident)) + b"\n" == lines_of(incident)


@pytest.mark.parametrize(("incident", "policy"), CASES, ids=lambda x: getattr(x, "name", x))
def test_replay_gives_the_golden_decisions(
    incident: Incident, policy: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp(incident.name) / "decisions.jsonl"
    recording = str(spans_path(incident))
    assert main(["replay", recording, "--policy", policy, "--out", str(out), "--quiet"]) == 0
    assert out.read_bytes() == golden_decisions(incident, policy), (
        "if the new decisions are right: python -m tests.goldens.make --decisions "
        f"{incident.name}, and say why in {decisions_path(incident, policy).parent}/about.md"
    )


@pytest.mark.parametrize(("incident", "policy"), CASES, ids=lambda x: getattr(x, "name", x))
def test_a_log_of_partials_gives_the_golden_decisions(incident: Incident, policy: str) -> None:
    published, counters = evaluate(straight_log(feeds(incident))[0], builtin_policy(policy))
    lines = [value for _, key, value in published if value and key.startswith(("service", "edge"))]
    golden = [
        line
        for line in golden_decisions(incident, policy).splitlines()
        if decode_decision(line).scope.startswith(("service", "edge"))
    ]
    assert lines == golden
    produced = sum(len(record.spans) for record in records_of(incident))
    assert counters["requests"] == produced
    assert counters["late"] == counters["skewed"] == counters["duplicate_blocks"] == 0


def test_json_and_protobuf_records_mean_the_same() -> None:
    incident = INCIDENTS[0]
    policy = builtin_policy("default")
    records = records_of(incident)
    logs = [
        straight_log([Feed(encode(r.spans), r.kafka_ms, offset=i) for i, r in enumerate(records)])
        for encode in (as_json, as_protobuf)
    ]
    assert evaluate(logs[0][0], policy) == evaluate(logs[1][0], policy)


def decisions_of(incident: Incident) -> list[Decision]:
    return [decode_decision(line) for line in golden_decisions(incident, "default").splitlines()]


def test_every_golden_decision_is_one_line_of_deterministic_json() -> None:
    for incident in INCIDENTS:
        for line, decision in zip(
            golden_decisions(incident, "default").splitlines(), decisions_of(incident), strict=True
        ):
            assert msgspec.json.encode(decision, order="deterministic") == line
