"""A cardinality attack: 100,000 service names and a million targets. Memory stays bounded, what is beyond
a limit is counted as `(other)`, and services that were there before are judged as ever.
"""

import numpy as np
import psutil
import pytest

from tests.exactness.driving import TOPIC_ID
from tidegate.rules.evaluator import Evaluator
from tidegate.rules.packing import Packer, SourceMark
from tidegate.rules.policy import load_policy
from tidegate.schemas.cells import Cells, Exemplars
from tidegate.schemas.outcome import Outcome
from tidegate.schemas.partials import Source
from tidegate.schemas.scope import OTHER

T_MS = 1_750_000_000_000
SERVICES, TARGETS_EACH, BATCH_SERVICES = 100_000, 10, 2_000
SERVICES_MAX, KEYS_MAX = 500, 3_000
POLICY = load_policy(
    f"name: small\nlimits:\n  services_max: {SERVICES_MAX}\n  keys_max: {KEYS_MAX}\n",
    where="test",
)
HONEST = [("web", ""), ("web", "pay"), ("pay", "")]
SOURCE = Source(TOPIC_ID, 0)


def cells_of(keys: list[tuple[str, str]], bucket: int, outcome: Outcome) -> Cells:
    """One span of 20 ms for each key, in one record."""
    count = len(keys)
    none = np.empty(0, np.int64)
    return Cells(
        record=np.zeros(count, np.int32),
        key=np.arange(count, dtype=np.int32),
        bucket=np.full(count, bucket, np.int64),
        code=np.full(count, int(outcome), np.uint16),
        bin=np.full(count, 500, np.uint16),
        count=np.ones(count, np.int32),
        weight=np.full(count, 64, np.int32),
        keys=keys,
        exemplars=Exemplars(
            none.astype(np.int32),
            none.astype(np.int32),
            none,
            none.astype(np.uint16),
            none.astype(np.uint16),
            none.astype(np.uint64),
            none.astype(np.uint64),
        ),
    )


class Attack:
    """Feeds one batch after the other, half a second of event time each."""

    def __init__(self) -> None:
        self.packer = Packer(1)
        self.evaluator = Evaluator(0, POLICY, partitions_count=1)
        self.counters: dict[str, int] = {}
        self.decided: list[str] = []
        self.offset = self.log_offset = 0

    def feed(self, keys: list[tuple[str, str]], outcome: Outcome = Outcome.OK) -> None:
        now_ms = T_MS + self.offset * 500
        self.packer.add(
            cells_of(keys, now_ms // 500, outcome),
            source=np.array([self.packer.source_index(SOURCE)], np.int32),
            offset=np.array([self.offset], np.int64),
            kafka_ms=np.array([now_ms], np.int64),
        )
        self.offset += 1
        mark = SourceMark(SOURCE, 1, now_ms, self.offset)
        for record in self.packer.flush([mark], listed=[(TOPIC_ID, 1)]):
            out = self.evaluator.feed(
                record.value, offset=self.log_offset, append_ms=now_ms + 1_000
            )
            self.log_offset += 1
            self.decided += [f"{d.scope} {d.level}" for d in out.decisions]
            for name, count in out.counters.items():
                self.counters[name] = self.counters.get(name, 0) + count


@pytest.mark.timeout(120)
def test_a_million_targets_of_a_hundred_thousand_services_stay_within_the_limits() -> None:
    attack = Attack()
    process = psutil.Process()
    for _ in range(20):
        attack.feed(HONEST * 5)
    batches = SERVICES // BATCH_SERVICES
    half_bytes = 0
    for batch in range(batches):
        names = [f"s{batch * BATCH_SERVICES + i}" for i in range(BATCH_SERVICES)]
        keys = [(name, f"t{j}.{name}" if j else "") for name in names for j in range(TARGETS_EACH)]
        attack.feed([*HONEST, *keys])
        if batch == batches // 2:
            half_bytes = process.memory_info().rss
    grown = process.memory_info().rss - half_bytes
    state = attack.evaluator.state.traffic
    assert len(state.keys) <= KEYS_MAX + 1  # and `(other)`
    assert state.keys.services_count <= SERVICES_MAX + 1
    assert grown < 100_000_000, f"{grown:,} bytes more for the second half of the attack"

    # Everything beyond is counted, and nothing else.
    kept = len(state.keys) - len(HONEST) - 1
    overflow = attack.counters["overflow_services"] + attack.counters["overflow_edges"]
    assert overflow == SERVICES * TARGETS_EACH - kept
    assert attack.counters["requests"] == SERVICES * TARGETS_EACH + batches * 3 + 20 * 15
    other = state.keys.by_key[OTHER, ""]
    merged = int(state.windows.window[other, :6].sum())
    # All batches lie in the window but the newest, whose bucket is still open.
    assert merged == overflow - BATCH_SERVICES * TARGETS_EACH
    assert not any(OTHER in decided for decided in attack.decided)

    # Who was there before is judged as ever.
    for _ in range(20):
        attack.feed(HONEST * 5, Outcome.SERVER_ERROR)
    assert {"service:pay open", "edge:web->pay open"} <= {
        decided.replace("forced_open", "open") for decided in attack.decided
    }
