"""A control topic that is made anew begins at offset 0 again: entries of the old one count no more, whoever is
restored from a snapshot of after that.
"""

import msgspec

from tests.exactness.driving import LogRecord
from tests.in_force.driving import Asked, is_control, log_with, override, push
from tests.in_force.test_cut_and_restored import _fed
from tidegate.rules.evaluator import Evaluator
from tidegate.rules.policy import builtin_policy
from tidegate.schemas.partials import Blocks, decode_partials, encode_partials

DEFAULT = builtin_policy("default")
ASKED = [
    Asked(push("name: one\nsettings: {mode: enforce}\n"), 60, 62),
    Asked(override("service:web", "degraded_2", until_s=150), 64, 66),
    Asked(override("service:web", "open", until_s=150), 70, 72),
]


def of_a_new_topic(record: LogRecord) -> LogRecord:
    """The last one, as the first of another topic."""
    (entry,) = decode_partials(record.value)[0].control
    if entry.seq < len(ASKED) - 1:
        return record
    moved = msgspec.structs.replace(entry, topic_id="made-anew", seq=0)
    value = encode_partials(
        Blocks.empty(), sources=[], watermarks=[], listed=[], partitions_count=1, control=[moved]
    )
    return LogRecord(value, record.append_ms)


def test_entries_before_a_snapshot_are_not_heard_again_where_two_topics_lie_in_its_window() -> None:
    log = [of_a_new_topic(one) if is_control(one) else one for one in log_with(ASKED)]
    straight, snapshots = _fed(Evaluator(0, DEFAULT, partitions_count=1), log, 0)
    differ = []
    for snapshot in snapshots[:-1]:
        restored = Evaluator.restore(
            0, DEFAULT, snapshot.manifest, snapshot.chunks, partitions_count=1
        )
        rows, _ = _fed(restored, log, snapshot.start_offset)
        after = [row for row in rows if row[0] > snapshot.boundary]
        if after != [row for row in straight if row[0] > snapshot.boundary]:
            differ.append(snapshot.boundary)
    assert differ == []
