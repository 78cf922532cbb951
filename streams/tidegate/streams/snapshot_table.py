"""How a partition's snapshots lie in the table `snapshots`: a key for each chunk, and one for the manifest,
which is written last. A snapshot without its manifest, or with a chunk missing, does not exist.

Keys carry the boundary and are never written twice with other bytes, so a worker that was frozen and
wakes can only write what its successor wrote.
"""

from collections.abc import Iterator, Mapping

import msgspec

__all__ = ["StoredSnapshot", "chunk_key", "keys_before", "manifest_key", "newest_first"]

_MANIFEST = "manifest"


class StoredSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot as the table holds it; its chunks may be incomplete, which `Evaluator.restore` sees."""

    boundary: int
    manifest: bytes
    chunks: list[bytes]


def chunk_key(partition: int, boundary: int, chunk: int) -> bytes:
    """Key of a chunk. The partition is part of it: Faust holds the table's partitions in one dict."""
    return f"{partition}/{boundary}/{chunk:05d}".encode()


def manifest_key(partition: int, boundary: int) -> bytes:
    """Key of a manifest."""
    return f"{partition}/{boundary}/{_MANIFEST}".encode()


def newest_first(table: Mapping[bytes, bytes], partition: int) -> Iterator[StoredSnapshot]:
    """The partition's snapshots that have a manifest."""
    found = _by_boundary(table, partition)
    for boundary in sorted(found, reverse=True):
        names = found[boundary]
        if _MANIFEST in names:
            chunks = [table[names[name]] for name in sorted(names) if name != _MANIFEST]
            yield StoredSnapshot(boundary=boundary, manifest=table[names[_MANIFEST]], chunks=chunks)


def keys_before(keys: Mapping[bytes, object], partition: int, boundary: int) -> list[bytes]:
    """Keys of the partition's snapshots older than `boundary`, chunks before manifests: what is left of
    a snapshot that was deleted halfway must not look whole."""
    found = _by_boundary(keys, partition)
    return [
        names[name]
        for old in sorted(found)
        if old < boundary
        for names in (found[old],)
        for name in sorted(names, reverse=True)
    ]


def _by_boundary(keys: Mapping[bytes, object], partition: int) -> dict[int, dict[str, bytes]]:
    out: dict[int, dict[str, bytes]] = {}
    for key in keys:
        owner, _, rest = key.decode().partition("/")
        boundary, _, name = rest.partition("/")
        if owner == str(partition) and boundary.isdigit():
            out.setdefault(int(boundary), {})[name] = key
    return out
