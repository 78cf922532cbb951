"""Taking and loading a partition's standing. What the window holds is not in it: the log has that."""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tidegate.rules.partition import Partition
from tidegate.rules.sources import Sources
from tidegate.rules.standing import Manifest, Snapshot, assemble, cut, dense, sparse
from tidegate.rules.window import Chunk
from tidegate.rules.window_kernel import (
    ADMITTED_WEIGHT_SQUARED,
    OUTCOMES,
    WEIGHT_BY_OUTCOME,
)
from tidegate.schemas.cells import WEIGHT_ONE

__all__ = ["load", "take"]

Ints = npt.NDArray[np.int64]
_CHUNK_COLUMNS = ("slot", "code", "bin", "count", "weight")


def take(
    state: Partition, *, partition: int, boundary: int, offset: int, sources: Sources
) -> Snapshot:
    """The standing at `boundary`, which was crossed by the record at log offset `offset`."""
    slots = state.keys.in_order()
    services = _service_slots(state, slots)
    chunks, checksum = cut(
        {
            "keys": [state.keys.names[slot] for slot in slots.tolist()],
            "columns": [
                {name: sparse(column[slots]) for name, column in part.columns().items()}
                for part in state.key_columns()
            ],
            "services": {
                name: sparse(column[services]) for name, column in state.services.columns().items()
            },
            "long_sums": sparse(_shrunk(state.windows.long_sums[:, slots])),
            "long_cells": _long_cells(state, slots),
            "exemplars": _exemplars(state, slots),
        }
    )
    start_offset = state.pending.start_offset(boundary, offset)
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
    slots = np.array([state.restore_key(s, t) for s, t in saved["keys"]], np.int64)
    if not len(slots):
        return read
    for part, columns in zip(state.key_columns(), saved["columns"], strict=True):
        arrays = part.columns()
        for name, column in columns.items():
            arrays[name][slots] = dense(column)
    services = _service_slots(state, slots)
    for name, column in saved["services"].items():
        state.services.columns()[name][services] = dense(column)
    state.windows.long_sums[:, slots] = _expanded(dense(saved["long_sums"]))
    state.windows.long[slots] = state.windows.long_sums[:, slots].sum(axis=0)
    for number, rows in saved["long_cells"]:
        state.windows.long_cells[number] = [
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
        state.exemplars.best[int(slots[place])] = [tuple(e) for e in best]
    return read


def _service_slots(state: Partition, slots: Ints) -> Ints:
    """Service slots in the order of the first key (by scope) of each."""
    mine = state.keys.service_slot[slots]
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


def _long_cells(state: Partition, slots: Ints) -> list[tuple[int, list[dict[str, bytes]]]]:
    place = np.full(state.keys.capacity, -1, np.int32)
    place[slots] = np.arange(len(slots), dtype=np.int32)
    return [
        (
            number,
            [
                {
                    name: (place[chunk.slot] if name == "slot" else getattr(chunk, name)).tobytes()
                    for name in _CHUNK_COLUMNS
                }
                for chunk in state.windows.long_cells[number]
            ],
        )
        for number in sorted(state.windows.long_cells)
    ]


def _exemplars(state: Partition, slots: Ints) -> list[tuple[int, Any]]:
    best = state.exemplars.best
    return [(place, best[slot]) for place, slot in enumerate(slots.tolist()) if slot in best]
