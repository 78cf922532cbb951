"""What the pairing agent keeps of a partition beside its memory: from where a successor must read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pairing.traces import CLIENT, SERVER, T_MS, Raw, as_bytes, pairs_of, sampled_traces
from tidegate.rules.pairing import TRACE_MS
from tidegate.streams.pairing import MARK_EVERY_MS, _Owned

FIRST = 17


@given(st.lists(st.integers(0, 9_000), min_size=1, max_size=60))
def test_a_successor_reads_a_traces_time_and_little_more(gaps_ms: list[int]) -> None:
    owned, now_ms = _Owned(0, FIRST), T_MS
    times = []
    for number, gap_ms in enumerate(gaps_ms):
        now_ms += gap_ms
        times.append(now_ms)
        owned.feed(b"", offset=FIRST + number, append_ms=now_ms)
        start = owned.marks[0][1] - FIRST
        needed = next(i for i, at_ms in enumerate(times) if at_ms > now_ms - TRACE_MS)
        assert start <= needed
        assert times[start] == owned.marks[0][0]
        # The records between are of the second after the mark.
        assert all(at_ms < times[start] + MARK_EVERY_MS for at_ms in times[start:needed])
        assert len(owned.marks) <= TRACE_MS // MARK_EVERY_MS + 2
    assert owned.expected == FIRST + len(gaps_ms)


@pytest.mark.parametrize("died_after", [1, 2, 3])
def test_whoever_goes_on_finds_what_the_one_before_had_half(died_after: int) -> None:
    """Four records, 20 s apart; a call's answer comes in the last. Its call is never forgotten."""
    trace = next(sampled_traces())
    call, answer = Raw(trace, 1, 0, "web", CLIENT, "cart.local"), Raw(trace, 2, 1, "cart", SERVER)
    other = Raw(next(sampled_traces(99)), 1, 0, "web", SERVER)
    log = [pairs_of([as_bytes([raw])])[0][0] for raw in (other, call, other, answer)]
    first, facts = _Owned(0, 0), []
    for offset in range(died_after):
        first.feed(log[offset], offset=offset, append_ms=T_MS + 20_000 * offset)
    successor = _Owned(0, first.marks[0][1])
    for offset in range(successor.expected, len(log)):
        facts += successor.feed(log[offset], offset=offset, append_ms=T_MS + 20_000 * offset).facts
    assert [(fact.target, fact.callees) for fact in facts] == [("cart.local", ["cart"])]
