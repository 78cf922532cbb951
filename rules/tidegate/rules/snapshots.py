"""Taking and loading a partition's standing. What the window holds is not in it: the log has that."""

from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from tidegate.rules.judgement import Judgement
from tidegate.rules.partition import Candidate, Partition
from tidegate.rules.policy import policy_from_content
from tidegate.rules.sources import SourceRecord
from tidegate.rules.standing import Manifest, Snapshot, assemble, cut, dense, sparse
from tidegate.rules.state_columns import StateColumns
from tidegate.rules.traffic import Traffic
from tidegate.rules.window import Chunk
from tidegate.rules.window_kernel import (
    ADMITTED_WEIGHT_SQUARED,
    OUTCOMES,
    WEIGHT_BY_OUTCOME,
)
from tidegate.schemas.cells import WEIGHT_ONE
from tidegate.schemas.control import PolicyPush, decode_control, encode_control

__all__ = ["SavedSources", "load", "take"]

Ints = npt.NDArray[np.int64]
_CHUNK_COLUMNS = ("slot", "code", "bin", "count", "weight")


class SavedSources(Protocol):
    """What a stage has heard of those who write its log."""

    @property
    def now_ms(self) -> int:
        """The largest append time seen."""

    def records(self) -> list[SourceRecord]:
        """Of each of them."""


def take(
    state: Partition,
    *,
    partition: int,
    boundary: int,
    offset: int,
    sources: SavedSources,
    start_offset: int | None = None,
) -> Snapshot:
    """The standing at `boundary`, which was crossed by the record at log offset `offset`. start_offset: from
    where the window is read again, where the log isn't evaluate's."""
    traffic = state.traffic
    slots = traffic.keys.in_order()
    services = _service_slots(traffic, slots)
    chunks, checksum = cut(
        {
            "keys": [traffic.keys.names[slot] for slot in slots.tolist()],
            "seen": _saved(traffic.seen, slots),
            "hardness": _saved(traffic.hardness, slots),
            "metrics": traffic.metrics.state(),
            "services": _saved(traffic.services, services),
            "long_sums": sparse(_shrunk(traffic.windows.long_sums[:, slots])),
            "long_cells": _long_cells(traffic, slots),
            "exemplars": _exemplars(traffic, slots),
            "judgements": [_judgement(judgement, slots) for judgement in state.judgements()],
            "candidate": _candidate(state),
            "in_force": state.in_force.save(),
            "facts": traffic.facts.save(),
            "aliases": traffic.aliases.save(
                {slot: place for place, slot in enumerate(slots.tolist())}
            ),
            "more": state.save_more(),
        }
    )
    if start_offset is None:
        start_offset = min(
            traffic.pending.start_offset(boundary, offset), traffic.metrics.start_offset(offset)
        )
    manifest = Manifest(
        partition=partition,
        boundary=boundary,
        offset=offset,
        start_offset=start_offset,
        chunks_count=len(chunks),
        checksum=checksum,
        now_ms=sources.now_ms,
        sources=sources.records(),
    )
    return Snapshot(boundary, offset, start_offset, chunks, msgspec.msgpack.encode(manifest))


def load(state: Partition, manifest: bytes, chunks: list[bytes]) -> Manifest:
    """Fills an empty partition. Raises ValueError where the snapshot isn't whole."""
    read, saved = assemble(manifest, chunks)
    traffic = state.traffic
    slots = np.array([traffic.restore_key(s, t) for s, t in saved["keys"]], np.int64)
    state.in_force.load(saved["in_force"])
    traffic.facts.load(saved["facts"])
    traffic.aliases.load(saved["aliases"], slots)
    traffic.metrics.load(saved["metrics"])
    if saved["candidate"] is not None:
        push, since_boundary = saved["candidate"]
        asked = decode_control(push)
        assert isinstance(asked, PolicyPush)
        state.candidate = Candidate(asked, state.new_judgement(state.policy), since_boundary)
    for judgement, rows in zip(state.judgements(), saved["judgements"], strict=True):
        _load_judgement(judgement, rows, traffic, slots)
    state.heed_limits()
    state.load_more(saved["more"])
    if not len(slots):
        return read
    _load(traffic.seen, saved["seen"], slots)
    _load(traffic.hardness, saved["hardness"], slots)
    _load(traffic.services, saved["services"], _service_slots(traffic, slots))
    traffic.windows.long_sums[:, slots] = _expanded(dense(saved["long_sums"]))
    traffic.windows.long[slots] = traffic.windows.long_sums[:, slots].sum(axis=0)
    for number, rows in saved["long_cells"]:
        traffic.windows.long_cells[number] = [
            Chunk(
                slots[np.frombuffer(row["slot"], np.int32)].astype(np.int32),
                np.frombuffer(row["code"], np.uint16),
                np.frombuffer(row["bin"], np.uint16),
                np.frombuffer(row["count"], np.int32),
                np.frombuffer(row["weight"], np.int32),
            )
            for row in rows
        ]
    for place, best in saved["exemplars"]:
        traffic.exemplars.best[int(slots[place])] = [tuple(e) for e in best]
    return read


def _judgement(judgement: Judgement, slots: Ints) -> dict[str, Any]:
    """The policy's content goes along: a worker that takes over may never have seen it."""
    return {
        "policy": judgement.policy.content(),
        "is_pushed": judgement.is_pushed,
        "columns": [_saved(part, slots) for part in judgement.columns()],
        "panic": judgement.panic.save(),
        "alarms": judgement.alarms.save(),
        "limits": judgement.save_limits(slots),
    }


def _load_judgement(
    judgement: Judgement, saved: dict[str, Any], traffic: Traffic, slots: Ints
) -> None:
    fallback = judgement.policy
    if saved["is_pushed"]:
        judgement.switch(policy_from_content(saved["policy"]), is_pushed=True)
    judgement.settle(traffic)
    for part, columns in zip(judgement.columns(), saved["columns"], strict=True):
        _load(part, columns, slots)
    judgement.panic.load(saved["panic"])
    judgement.alarms.load(saved["alarms"])
    judgement.load_limits(saved["limits"], slots)
    if not saved["is_pushed"] and policy_from_content(saved["policy"]).label != fallback.label:
        # The worker was started with another policy than the one before it.
        judgement.switch(fallback)


def _candidate(state: Partition) -> tuple[bytes, int] | None:
    tried = state.candidate
    return None if tried is None else (encode_control(tried.push), tried.since_boundary)


def _saved(part: StateColumns, rows: Ints) -> dict[str, Any]:
    return {name: sparse(column[rows]) for name, column in part.columns().items()}


def _load(part: StateColumns, saved: dict[str, Any], rows: Ints) -> None:
    arrays = part.columns()
    for name, column in saved.items():
        arrays[name][rows] = dense(column)


def _service_slots(traffic: Traffic, slots: Ints) -> Ints:
    """Service slots in the order of the first key (by scope) of each."""
    mine = traffic.keys.service_slot[slots]
    _, first = np.unique(mine, return_index=True)
    return mine[np.sort(first)]


def _shrunk(long_sums: Ints) -> Ints:
    """Adjusted counts as their difference from unsampled ones: zero, and so not saved, for most."""
    out = long_sums.copy()
    requests = out[..., :OUTCOMES]
    out[..., WEIGHT_BY_OUTCOME : WEIGHT_BY_OUTCOME + OUTCOMES] -= requests * WEIGHT_ONE
    out[..., ADMITTED_WEIGHT_SQUARED] -= requests.sum(axis=-1) * WEIGHT_ONE * WEIGHT_ONE
    return out


def _expanded(shrunk: Ints) -> Ints:
    requests = shrunk[..., :OUTCOMES]
    shrunk[..., WEIGHT_BY_OUTCOME : WEIGHT_BY_OUTCOME + OUTCOMES] += requests * WEIGHT_ONE
    shrunk[..., ADMITTED_WEIGHT_SQUARED] += requests.sum(axis=-1) * WEIGHT_ONE * WEIGHT_ONE
    return shrunk


def _long_cells(traffic: Traffic, slots: Ints) -> list[tuple[int, list[dict[str, bytes]]]]:
    place = np.full(traffic.keys.capacity, -1, np.int32)
    place[slots] = np.arange(len(slots), dtype=np.int32)
    return [
        (
            number,
            [
                {
                    name: (place[chunk.slot] if name == "slot" else getattr(chunk, name)).tobytes()
                    for name in _CHUNK_COLUMNS
                }
                for chunk in traffic.windows.long_cells[number]
            ],
        )
        for number in sorted(traffic.windows.long_cells)
    ]


def _exemplars(traffic: Traffic, slots: Ints) -> list[tuple[int, Any]]:
    best = traffic.exemplars.best
    return [(place, best[slot]) for place, slot in enumerate(slots.tolist()) if slot in best]
