"""Reads recorded OTLP as the Collector's file exporter writes it, in bounded memory.

What is in a file is told from its bytes, never from its name:

* outside: plain, gzip, or zstd (any number of frames or members, one after the other);
* inside: JSON lines (an `ExportTraceServiceRequest` each), or messages behind their length, a big-endian
  u32. With `compression: zstd` the exporter compresses each of these by itself, so that `zstd -d`
  can't read the file; such messages are unpacked here. One bare protobuf message is read too.

They can't be mistaken for each other: a length that begins with `{`, white space or a protobuf tag
would be over 150 MB, and nothing above RECORD_BYTES_MAX is read. JSON is handed on as it is; the decoder reads it.
Bad pieces are reported and skipped: nothing that lies in a file raises.
"""

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import zstandard

from tidegate.streams.errors import UsageError
from tidegate.streams.unpacked import ZSTD_MAGIC, ByteSource, Unpacked, ZstdFrames

__all__ = ["RECORD_BYTES_MAX", "STDIN", "Problem", "Recorded", "open_recording", "read_recording"]

RECORD_BYTES_MAX = 64 * 1024 * 1024
"""Longer lines or messages are skipped: Kafka itself takes 1 MB by default."""
STDIN = "-"

_CHUNK_BYTES = 1 << 20
_UTF8_BOM = b"\xef\xbb\xbf"
_WHITE = b" \t\r\n"
_LENGTH_BYTES = 4
_LOOK_BYTES = 4_096
_RESOURCE_SPANS_TAG = b"\x0a"
"""Field 1, length-delimited: how a bare request begins (a newline, taken as text)."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request (OTLP bytes, protobuf or JSON) and where it lay."""

    data: bytes
    file: str
    where: str
    """`line 12` or `offset 4711` (of the unpacked bytes)."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A piece of a recording that could not be read."""

    file: str
    where: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: {self.where}: {self.found}; {self.remedy}"


OnProblem = Callable[[Problem], None]


def open_recording(path: str) -> BinaryIO:
    """The file, or standard input for `-`. Raises UsageError where it can't be opened."""
    if path == STDIN:
        return sys.stdin.buffer
    try:
        return Path(path).open("rb")
    except IsADirectoryError as problem:
        raise UsageError(f"{path}: is a folder; name the recordings in it ({path}/*)") from problem
    except OSError as problem:
        raise UsageError(
            f"{path}: {problem.strerror or problem}; expected a recording of the Collector's "
            "file exporter, or - for standard input"
        ) from problem


def read_recording(raw: ByteSource, file: str, *, on_problem: OnProblem) -> Iterator[Recorded]:
    """Every request of one recording, in the order in which it was written. What can't be read goes
    to `on_problem`, and the rest is read on where its place is known. An empty file has no request.
    """

    def on_damage(offset: int, problem: Exception) -> None:
        remedy = (
            "the file is cut short or damaged: what comes before is used, copy it anew for the rest"
        )
        where = f"offset {offset} of the unpacked data"
        on_problem(Problem(file, where, f"can't read on ({problem})", remedy))

    stream = Unpacked(raw, on_damage)
    head = stream.peek(len(_UTF8_BOM))
    if head.startswith(_UTF8_BOM):
        stream.take(len(_UTF8_BOM))
        head = stream.peek(1)
    if not head:
        return
    start = stream.peek(_LOOK_BYTES).lstrip(_WHITE)[:1]
    if start in (b"{", b""):
        yield from _json_lines(stream, file, on_problem)
    elif head[:1] == _RESOURCE_SPANS_TAG:
        data = stream.take(RECORD_BYTES_MAX)
        if stream.peek(1):
            on_problem(_too_long(file, "offset 0"))
        else:
            yield Recorded(data, file, "offset 0")
    else:
        yield from _messages(stream, file, on_problem)


def _json_lines(stream: Unpacked, file: str, on_problem: OnProblem) -> Iterator[Recorded]:
    number = 0
    while True:
        line = stream.line(RECORD_BYTES_MAX)
        number += 1
        where = f"line {number}"
        if line is None:
            on_problem(_too_long(file, where))
            continue
        if not line:
            return
        text = line.strip(_WHITE)
        if not text:
            continue
        if text == b"{":
            # One document over many lines, as an editor or `jq` leaves it.
            yield from _json_document(stream, line, file, where, on_problem)
            return
        if text[:1] == b"{" and text[-1:] == b"}":
            yield Recorded(text, file, where)
        elif line[-1:] != b"\n" and text[:1] == b"{":
            if not stream.is_damaged:  # or else it was said already
                remedy = "the file was cut while being written: the line is skipped"
                on_problem(Problem(file, where, "the last line has no end", remedy))
        else:
            remedy = "the line is skipped; expected one OTLP request as a JSON object per line"
            on_problem(Problem(file, where, f"found {_excerpt(text)}", remedy))


def _json_document(
    stream: Unpacked, first: bytes, file: str, where: str, on_problem: OnProblem
) -> Iterator[Recorded]:
    rest = stream.take(RECORD_BYTES_MAX)
    if stream.peek(1):
        on_problem(_too_long(file, where))
        return
    yield Recorded((first + rest).strip(_WHITE), file, where)


def _messages(stream: Unpacked, file: str, on_problem: OnProblem) -> Iterator[Recorded]:
    while True:
        where = f"offset {stream.offset}"
        prefix = stream.take(_LENGTH_BYTES)
        if not prefix:
            return
        length = int.from_bytes(prefix, "big")
        if length > RECORD_BYTES_MAX:
            on_problem(
                Problem(
                    file,
                    where,
                    f"a message of {length} bytes (at most {RECORD_BYTES_MAX} are read)",
                    "this is no recording of the file exporter (JSON lines, or protobuf behind "
                    "its length as a big-endian u32), or it is damaged here: the rest is skipped",
                )
            )
            return
        data = stream.take(length) if len(prefix) == _LENGTH_BYTES else b""
        if len(prefix) < _LENGTH_BYTES or len(data) < length:
            if not stream.is_damaged:
                found = f"the file ends inside a message ({len(data)} of {length} bytes)"
                remedy = "it was cut while being written: that message is skipped"
                on_problem(Problem(file, where, found, remedy))
            return
        if data.startswith(ZSTD_MAGIC):
            unpacked = _unpack_message(data)
            if unpacked is None:
                remedy = f"that message is skipped (limit {RECORD_BYTES_MAX} bytes unpacked)"
                on_problem(Problem(file, where, "a zstd message that can't be unpacked", remedy))
                continue
            data = unpacked
        if data:
            yield Recorded(data, file, where)


def _unpack_message(data: bytes) -> bytes | None:
    source = ZstdFrames(io.BytesIO(data))
    out = bytearray()
    try:
        while piece := source.read(_CHUNK_BYTES):
            out += piece
            if len(out) > RECORD_BYTES_MAX:
                return None
    except (EOFError, zstandard.ZstdError):
        return None
    return bytes(out)


def _too_long(file: str, where: str) -> Problem:
    found = f"longer than {RECORD_BYTES_MAX} bytes"
    return Problem(file, where, found, "skipped; make the Collector's batches smaller")


def _excerpt(text: bytes) -> str:
    shown = text[:40].decode(errors="replace")
    return repr(shown) + ("…" if len(text) > len(shown) else "")
