"""The unpacked bytes of a file that may be gzip, zstd (frames one after the other) or neither, told from
its first bytes, in bounded memory. Knows nothing of what the bytes mean.
"""

import gzip
import io
import zlib
from collections.abc import Callable
from typing import Protocol

import zstandard

__all__ = ["ZSTD_MAGIC", "ByteSource", "Unpacked", "ZstdFrames"]

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK_BYTES = 1 << 20
_PACKED_BYTES = 1 << 17
"""Taken from a file at a time: packed OTLP grows 10- to 30-fold, and progress is told by these."""


class ByteSource(Protocol):
    """An open binary file, or anything with its `read`."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, b"" at the end."""
        ...


class _Raw(io.RawIOBase):
    """Gives BufferedReader a raw side for anything with `read` (stdin, test streams)."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's Buffer has no slices
        data = self._source.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class Unpacked:
    """The unpacked bytes of a recording with a bounded look-ahead. Damage ends the stream, with a
    word: what lies behind it in a compressed file can't be found again.
    """

    def __init__(self, raw: ByteSource, on_damage: Callable[[int, Exception], None]) -> None:
        """`on_damage` gets the offset (unpacked) from which on nothing can be read, and why."""
        self._on_damage = on_damage
        buffered = io.BufferedReader(_Raw(raw), _PACKED_BYTES)
        magic = buffered.peek(len(ZSTD_MAGIC))[: len(ZSTD_MAGIC)]
        self._source: ByteSource = buffered
        if magic.startswith(_GZIP_MAGIC):
            self._source = gzip.GzipFile(fileobj=buffered)
        elif magic == ZSTD_MAGIC:
            self._source = ZstdFrames(buffered)
        self._buffer = bytearray()
        self._start = 0
        self.offset = 0
        """Of the next byte, in the unpacked stream."""
        self.is_at_end = False
        self.is_damaged = False

    def _fill(self) -> bool:
        if self.is_at_end:
            return False
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
        try:
            data = self._source.read(_CHUNK_BYTES)
        except (OSError, EOFError, zlib.error, zstandard.ZstdError) as problem:
            self.is_damaged = True
            self._on_damage(self.offset + len(self._buffer), problem)
            data = b""
        if not data:
            self.is_at_end = True
            return False
        self._buffer += data
        return True

    def peek(self, count: int) -> bytes:
        """The next `count` bytes, fewer at the end."""
        while len(self._buffer) - self._start < count and self._fill():
            pass
        return bytes(self._buffer[self._start : self._start + count])

    def take(self, count: int) -> bytes:
        """As `peek`, and moves on."""
        data = self.peek(count)
        self._start += len(data)
        self.offset += len(data)
        return data

    def skip(self, count: int) -> int:
        """Moves on by `count` bytes without holding them; fewer at the end."""
        left = count
        while left:
            step = len(self.take(min(left, _CHUNK_BYTES)))
            if not step:
                break
            left -= step
        return count - left

    def line(self, limit: int) -> bytes | None:
        """The next line with its newline (the last may have none; b"" at the end), or None for one
        longer than `limit`, which is skipped.
        """
        searched = 0
        while True:
            found = self._buffer.find(b"\n", self._start + searched)
            if found >= 0:
                return self.take(found + 1 - self._start)
            searched = len(self._buffer) - self._start
            if searched > limit:
                self._skip_line()
                return None
            if not self._fill():
                return self.take(searched)

    def _skip_line(self) -> None:
        while True:
            found = self._buffer.find(b"\n", self._start)
            if found >= 0:
                self.take(found + 1 - self._start)
                return
            self.take(len(self._buffer) - self._start)
            if not self._fill():
                return


class ZstdFrames:
    """Frames one after the other, as `cat a.zst b.zst` and the Collector make them. Unlike
    zstandard's own reader this one raises where the last frame is cut short.
    """

    def __init__(self, raw: ByteSource) -> None:
        self._raw = raw
        self._packed = b""
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._is_in_frame = False

    def read(self, _size: int, /) -> bytes:
        """The next unpacked bytes, as many as come; b"" at the end. Raises EOFError, ZstdError."""
        while True:
            if not self._packed:
                self._packed = self._raw.read(_PACKED_BYTES)
                if not self._packed:
                    if self._is_in_frame:
                        raise EOFError("the last zstd frame is cut short")
                    return b""
            if not self._is_in_frame:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
                self._is_in_frame = True
            data = self._frame.decompress(self._packed)
            self._packed = b""
            if self._frame.eof:
                self._packed = self._frame.unused_data
                self._is_in_frame = False
            if data:
                return data
