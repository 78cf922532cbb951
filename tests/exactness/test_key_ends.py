"""A key that ends at the very boundary before which its next cells came: it ends all the same, and
begins anew with them. (A job that runs once an hour does this, when keys live for an hour.)
"""

import pytest

from tests.exactness.driving import TOPIC_ID, Feed, Ingest, LogRecord, evaluate
from tests.goldens.recording import as_protobuf
from tests.goldens.traffic import SERVER, RawSpan
from tidegate.rules.policy import load_policy
from tidegate.schemas.decision import decode_decision
from tidegate.schemas.partials import Source

T_MS = 1_750_000_000_000
TTL_S = 600
POLICY = load_policy(f"name: short\ntiming:\n  key_ttl_s: {TTL_S}\n", where="test")
SOURCE = Source(TOPIC_ID, 0)


def request_of(service: str, end_ms: int, number: int) -> bytes:
    end_us = end_ms * 1000
    span = RawSpan(service, SERVER, "", end_us - 5_000, end_us, number, number, 0, 200)
    return as_protobuf([span], base_ms=T_MS)


@pytest.mark.parametrize("early_ms", [0, 3_000])
def test_a_key_that_ends_while_its_next_cells_wait_begins_anew(early_ms: int) -> None:
    """`job` runs at 0 s and again just when it ends; its record comes early or late; `steady` and a
    newcomer, which takes the freed place, go on."""
    log: list[list[LogRecord]] = [[]]
    ingest = Ingest(log)
    again_ms = TTL_S * 1000 + 1_100
    feeds = [(0, request_of("job", 0, 1)), (again_ms - early_ms, request_of("job", again_ms, 2))]
    feeds += [(ms, request_of("steady", ms, 10 + ms)) for ms in range(0, 620_000, 2_000)]
    feeds.append((again_ms + 600, request_of("newcomer", again_ms + 600, 3)))
    feeds.sort()
    offset = 0
    for now_ms in range(500, 625_000, 500):
        while offset < len(feeds) and feeds[offset][0] < now_ms:
            ingest.read([Feed(feeds[offset][1], T_MS + feeds[offset][0], 0, offset)])
            offset += 1
        ingest.flush({SOURCE: T_MS + now_ms - 500}, append_ms=T_MS + now_ms)
    rows, counters = evaluate(log[0], POLICY)
    assert counters["requests"] == len(feeds)
    job = [(b - T_MS // 500, v is None) for b, key, v in rows if key == "service:job"]
    ends = 1 + TTL_S * 2 + 1
    assert job == [(1, False), (ends, True), (ends + 1, False)]
    seen = {
        key: decode_decision(value).signals.requests
        for _, key, value in rows
        if value is not None and key.startswith("service:")
    }
    assert seen == {"service:job": 1, "service:steady": 1, "service:newcomer": 1}
