"""A partition's standing as bytes: everything that outlives the window, in chunks below 512 kB.

Rows are saved in the order of scopes, never by slot: slots depend on the order of arrival. Wide columns
are mostly zeros and saved sparsely.
"""

import hashlib
import zlib
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tidegate.rules.sources import SourceRecord

__all__ = ["CHUNK_BYTES_MAX", "Manifest", "Snapshot", "assemble", "cut", "dense", "sparse"]

CHUNK_BYTES_MAX = 500_000
FORMAT = 2


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Written after its chunks: a snapshot without one, or with a chunk missing, doesn't exist."""

    format: int = FORMAT
    partition: int
    boundary: int
    offset: int
    """X: log offset of the record at which the boundary was crossed."""
    start_offset: int
    """From where the log must be read again to rebuild the window."""
    chunks_count: int
    checksum: str
    """SHA-256 of all chunks together, hex."""
    now_ms: int
    """Largest append time seen."""
    sources: list[SourceRecord]


@dataclass(slots=True)
class Snapshot:
    """What evaluate writes to its table: the chunks first, then the manifest."""

    boundary: int
    offset: int
    start_offset: int
    chunks: list[bytes]
    manifest: bytes


def cut(state: dict[str, Any]) -> tuple[list[bytes], str]:
    """(chunks, checksum) of a state made of plain values, bytes and lists."""
    blob = zlib.compress(msgspec.msgpack.encode(state), 1)
    chunks = [blob[i : i + CHUNK_BYTES_MAX] for i in range(0, len(blob), CHUNK_BYTES_MAX)]
    return chunks, hashlib.sha256(blob).hexdigest()


def assemble(manifest: bytes, chunks: list[bytes]) -> tuple[Manifest, dict[str, Any]]:
    """The opposite. Raises ValueError where the snapshot isn't whole."""
    read = msgspec.msgpack.decode(manifest, type=Manifest)
    blob = b"".join(chunks)
    if read.format != FORMAT:
        raise ValueError(f"snapshot format {read.format}; this version reads {FORMAT}")
    if len(chunks) != read.chunks_count or hashlib.sha256(blob).hexdigest() != read.checksum:
        raise ValueError(
            f"snapshot of boundary {read.boundary}: {len(chunks)} of {read.chunks_count} chunks, or "
            "their checksum is wrong"
        )
    state: dict[str, Any] = msgspec.msgpack.decode(zlib.decompress(blob))
    return read, state


def sparse(array: npt.NDArray[Any]) -> dict[str, Any]:
    """An array as its shape, dtype and non-zero elements."""
    flat = np.ascontiguousarray(array).reshape(-1)
    index = np.flatnonzero(flat)
    steps = np.diff(index, prepend=0)
    return {
        "dtype": flat.dtype.str,
        "shape": list(array.shape),
        "steps": steps.astype("<u4").tobytes(),
        "values": flat[index].tobytes(),
    }


def dense(saved: dict[str, Any]) -> npt.NDArray[Any]:
    """The array of `sparse`."""
    dtype = np.dtype(saved["dtype"])
    flat = np.zeros(int(np.prod(saved["shape"])), dtype)
    index = np.cumsum(np.frombuffer(saved["steps"], "<u4").astype(np.int64))
    flat[index] = np.frombuffer(saved["values"], dtype)
    return flat.reshape(saved["shape"])
