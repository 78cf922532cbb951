"""However spans are spread over records, workers and time, the same is found; a plain oracle agrees."""

import random
from dataclasses import replace
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pairing.traces import (
    CLIENT,
    CONSUMER,
    INTERNAL,
    PRODUCER,
    SERVER,
    T_MS,
    Callees,
    Raw,
    as_bytes,
    callees_of,
    oracle,
    pairs_of,
    round_trips,
    sampled_traces,
)
from tidegate.rules.pairing import TRACE_MS, Pairing, Told

PARTITIONS = 3
SERVICES = ("web", "cart", "pay", "mesh")
HOW = st.sampled_from(("trace", "resource", "random"))


def drawn(seed: int, traces: int, *, shares_ids: bool = False) -> list[Raw]:
    """Random trees of calls; about half of the traces aren't looked at. shares_ids: a request has its
    call's id and parent."""
    draw = random.Random(seed)
    sampled = sampled_traces(seed + 1)
    out: list[Raw] = []
    for _ in range(traces):
        tree = _Tree(draw, next(sampled) | (draw.random() < 0.5) << 127, shares_ids=shares_ids)
        tree.serve(draw.choice(SERVICES), 0)
        out += tree.spans
    return out


class _Tree:
    def __init__(self, draw: random.Random, trace: int, *, shares_ids: bool) -> None:
        self.spans: list[Raw] = []
        self._draw, self._trace, self._shares_ids = draw, trace, shares_ids
        self._ids = count(1)

    def serve(
        self, service: str, parent: int, *, depth: int = 0, own_id: int = 0, kind: int = SERVER
    ) -> None:
        """A request and all that follows from it."""
        draw, me = self._draw, own_id or next(self._ids)
        self._add(me, parent, service, kind)
        for _ in range(draw.randrange(3) if depth < 5 else 0):
            above = me
            for _ in range(draw.randrange(3)):
                inside = next(self._ids)
                self._add(inside, above, service, INTERNAL)
                above = inside
            target, call = draw.choice(SERVICES), next(self._ids)
            sends, answers = draw.choice(((CLIENT, SERVER), (CLIENT, SERVER), (PRODUCER, CONSUMER)))
            self._add(call, above, service, sends, f"{target}.local")
            callee = draw.choice(("m1", "m2", "m3")) if target == "mesh" else target
            if draw.random() < 0.2:
                continue  # it is dead
            if self._shares_ids:
                self.serve(callee, above, depth=depth + 1, own_id=call, kind=answers)
            else:
                self.serve(callee, call, depth=depth + 1, kind=answers)

    def _add(self, own_id: int, parent: int, service: str, kind: int, target: str = "") -> None:
        self.spans.append(Raw(self._trace, own_id, parent, service, kind, target))


def records_of(spans: list[Raw], how: str, seed: int, *, base_ms: int = T_MS) -> list[bytes]:
    """Records of the spans topic, each span in one of them, some in two."""
    draw = random.Random(seed)
    groups: dict[object, list[Raw]] = {}
    for raw in spans:
        keys: list[object] = [
            {"trace": raw.trace, "resource": raw.service, "random": draw.randrange(7)}[how]
        ]
        if draw.random() < 0.1:
            keys.append("again")
        for key in keys:
            groups.setdefault(key, []).append(raw)
    out = []
    for mine in groups.values():
        draw.shuffle(mine)
        size = draw.randint(1, 9)
        out += [as_bytes(mine[at : at + size], base_ms=base_ms) for at in range(0, len(mine), size)]
    draw.shuffle(out)
    return out


def told_of_run(records: list[bytes], workers: int) -> tuple[Callees, set[tuple[str, ...]], int]:
    """Records spread over ingest workers and their flushes, then a pairing for each partition: callees,
    paths of loops, and how many of these were left out."""
    logs: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
    for number in range(workers):
        mine = records[number::workers]
        for at in range(0, len(mine), 3):
            for partition, sent in enumerate(pairs_of(mine[at : at + 3], partitions=PARTITIONS)):
                logs[partition] += sent
    told: list[Told] = []
    left_out = 0
    for log in logs:
        pairing, now_ms = Pairing(), T_MS
        for value in log:
            pairing.feed(value, now_ms)
            told.append(pairing.due(now_ms))
            now_ms += (TRACE_MS - 1) // len(log)  # all of it within a trace's time
        told.append(pairing.finish())
        left_out += pairing.counters["loops_left_out"]
    return callees_of(told), {tuple(x.path) for one in told for x in one.loops}, left_out


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30), HOW, st.integers(1, 4), st.integers(0, 1 << 30))
def test_facts_are_those_of_the_raw_spans(seed: int, how: str, workers: int, order: int) -> None:
    spans = drawn(seed, traces=6)
    callees, paths, left_out = told_of_run(records_of(spans, how, order), workers)
    assert callees == oracle(spans)
    expected = round_trips(spans)
    assert paths <= expected
    assert paths == expected or left_out


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1 << 30), HOW, st.integers(0, 1 << 30))
def test_with_shared_ids_too_once_services_are_known_to_share_them(
    seed: int, how: str, order: int
) -> None:
    spans = drawn(seed, traces=4, shares_ids=True)
    calm = [
        replace(raw, trace=next(sampled_traces(1 << 40)), service=name)
        for name in (*SERVICES, "m1", "m2", "m3")
        for raw in (Raw(0, ord(name[-1]), 0, "", CLIENT, ""), Raw(0, ord(name[-1]), 0, "", SERVER))
    ]
    pairing = Pairing()
    for value in pairs_of([as_bytes(calm)])[0]:
        pairing.feed(value, T_MS)
    told: list[Told] = []
    for record in records_of(spans, how, order):
        for value in pairs_of([record])[0]:
            pairing.feed(value, T_MS)
    told.append(pairing.finish())
    found = {key: names for key, names in callees_of(told).items() if key[1].endswith(".local")}
    assert found == oracle(spans)


def test_a_log_gives_the_same_every_time_and_cut_records_change_nothing() -> None:
    spans = drawn(5, traces=60)
    whole = pairs_of([as_bytes(spans)])[0]
    pieces = [value for raw in spans for value in pairs_of([as_bytes([raw])])[0]]
    told = []
    for log in (whole, whole, pieces):
        pairing = Pairing()
        for value in log:
            pairing.feed(value, T_MS)
        told.append((pairing.due(T_MS + 20_000), pairing.finish()))
    assert told[0] == told[1] == told[2]
    assert len(told[0][0].facts) > 10
    assert len(told[0][0].loops) > 3
