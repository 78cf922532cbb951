"""Every boundary of every golden, recomputed from raw spans."""

import pytest

from tests.exactness.driving import TOPIC_ID, Feed, straight_log
from tests.goldens.incidents import INCIDENTS, Incident
from tests.goldens.recording import as_protobuf, records_of
from tests.oracle.checking import check_log
from tests.oracle.recompute import Oracle
from tests.oracle.spans import spans_of_record
from tidegate.rules.policy import builtin_policy


@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda incident: incident.name)
def test_every_boundary_of_a_golden_is_what_its_raw_spans_say(incident: Incident) -> None:
    records = records_of(incident)
    values = [as_protobuf(record.spans) for record in records]
    oracle = Oracle({(TOPIC_ID, 0, i): spans_of_record(v) for i, v in enumerate(values)})
    feeds = [
        Feed(value, record.kafka_ms, offset=i)
        for i, (value, record) in enumerate(zip(values, records, strict=True))
    ]
    log = straight_log(feeds)[0]
    evaluator, out = check_log(log, oracle, builtin_policy("default"), every=20)
    assert len(oracle.merged) == sum(len(record.spans) for record in records)
    assert evaluator.seen.boundaries >= incident.seconds * 2 - 40
    assert evaluator.seen.quantiles > 100
    assert out.counters["late"] == oracle.late == 0
