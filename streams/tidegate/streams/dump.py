"""`tidegate dump`: the internal log of a run as one file, to recompute or keep what was decided; or as lines
of JSON, to read.

A dump is a line of text, then zstd: a header, then records (snapshots first), msgpack behind their length (big-endian
u32). Only `tidegate replay --internal` reads it, and only of its own format number.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import msgspec
import zstandard

from tidegate.schemas.topics import Topics
from tidegate.streams.errors import Failure, UsageError
from tidegate.streams.kafka_log import LogRecord, Span, log_spans, read_log
from tidegate.streams.kafka_options import add_kafka_options, kafka_config_of, topics_of
from tidegate.streams.unpacked import Unpacked

__all__ = ["DumpHeader", "add_parser", "internal_log", "read_dump", "write_dump"]

DUMP_FORMAT = 3
"""3: the graph, and the snapshots of its stage."""
_MAGIC = b"tidegate dump %d\n"
_RECORD_BYTES_MAX = 64 * 1024 * 1024
_LENGTH_BYTES = 4

_DESCRIPTION = """\
Writes the internal log of a live run into one file: the partials and health (what was counted,
and when; what operators asked for) with offsets and append times, what was published (decisions,
alerts, shadow, the graph), the control topic, and, where retention has removed the oldest of
partials or health, the snapshots to begin from. `tidegate replay --internal FILE` recomputes from
it what was published, and --compare compares.

With --json it writes a line of JSON for each record instead, to read: of Kafka, or of a dump FILE.

Reads without a consumer group and changes nothing on the broker."""
_EXAMPLES = """\
examples:
  tidegate dump --brokers localhost:9092 --out incident.dump
  tidegate replay --internal incident.dump --compare
  tidegate dump --json incident.dump | jq -c 'select(.topic | endswith("tidegate.alerts"))'
  tidegate dump --json --brokers localhost:9092 | jq -c 'select(.value.control?)'"""


class DumpHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a dump holds."""

    format: int = DUMP_FORMAT
    partials: str
    """Name of the partials topic."""
    decisions: str
    alerts: str
    shadow: str
    health: str
    """What evaluate publishes and the graph stage reads."""
    graph: str
    """In the dump only where there is one, as the next one."""
    control: str
    snapshots: str
    """Changelog of evaluate's snapshots; in the dump only where partials don't begin at offset 0."""
    graph_snapshots: str
    """Changelog of the graph stage's; in the dump only where health doesn't begin at offset 0."""
    spans: list[Span]
    """Of each partition the offsets that were there."""

    @property
    def appended(self) -> tuple[str, ...]:
        """Topics of what is published beside decisions."""
        return self.alerts, self.shadow, self.health, self.graph

    @property
    def partitions_count(self) -> int:
        """Of partials."""
        return sum(span.topic == self.partials for span in self.spans)


_encoder = msgspec.msgpack.Encoder()
_header_decoder = msgspec.msgpack.Decoder(DumpHeader)
_record_decoder = msgspec.msgpack.Decoder(LogRecord)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `tidegate dump`."""
    parser = subparsers.add_parser(
        "dump",
        help="write the internal log of a live run into a file",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    parser.add_argument("file", nargs="?", metavar="FILE", help="a dump to show (with --json)")
    parser.add_argument("--out", metavar="FILE", help="the file to write (--json: default stdout)")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each record")
    add_kafka_options(parser)
    parser.set_defaults(handler=_dump)


def write_dump(out: BinaryIO, header: DumpHeader, records: Iterator[LogRecord]) -> int:
    """Writes a dump and returns how many records it holds."""
    count = 0
    out.write(_MAGIC % DUMP_FORMAT)
    with zstandard.ZstdCompressor(level=3).stream_writer(out, closefd=False) as packed:
        _write(packed, header)
        for record in records:
            _write(packed, record)
            count += 1
    return count


def read_dump(path: str) -> tuple[DumpHeader, Iterator[LogRecord]]:
    """The header, and the records to iterate once. Raises UsageError for what is no dump, and Failure
    in the middle of one that is damaged: a comparison must not pass on half of the data.
    """
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - closed when the records are read
    except OSError as problem:
        raise UsageError(
            f"{path}: can't be read ({problem.strerror}); expected a dump"
        ) from problem
    magic = file.readline(64)
    if magic != _MAGIC % DUMP_FORMAT:
        file.close()
        raise UsageError(
            f"{path}: is no dump of format {DUMP_FORMAT}; expected a file that `tidegate dump` wrote"
        )

    def on_damage(offset: int, problem: Exception) -> None:
        raise Failure(f"{path}: damaged at offset {offset} ({problem}); make the dump anew")

    stream = Unpacked(file, on_damage)
    first = _read(stream, path)
    if first is None:
        raise Failure(f"{path}: has no header; make the dump anew")
    header = _header_decoder.decode(first)

    def records() -> Iterator[LogRecord]:
        with file:
            while (data := _read(stream, path)) is not None:
                yield _record_decoder.decode(data)

    return header, records()


def internal_log(
    config: Mapping[str, str], topics: Topics
) -> tuple[DumpHeader, Iterator[LogRecord]]:
    """What the log holds now. The ends of what is published are asked first, then that of health, that of
    partials last: whatever was published before then follows from records that are read too. Raises
    Failure where the broker doesn't answer.
    """
    first = [topics.decisions, topics.alerts, topics.shadow, *_there(config, [topics.graph])]
    last = [topics.health, *_there(config, [topics.control]), topics.partials]
    spans = log_spans(config, [*first, *last])
    cut = {span.topic for span in spans if span.low}
    changelogs = [topics.snapshots_changelog] if topics.partials in cut else []
    if topics.health in cut:
        changelogs += _there(config, [topics.graph_snapshots_changelog])
    snapshots = log_spans(config, changelogs) if changelogs else []
    header = DumpHeader(
        partials=topics.partials,
        decisions=topics.decisions,
        alerts=topics.alerts,
        shadow=topics.shadow,
        health=topics.health,
        graph=topics.graph,
        control=topics.control,
        snapshots=topics.snapshots_changelog,
        graph_snapshots=topics.graph_snapshots_changelog,
        spans=[*snapshots, *spans],
    )
    return header, itertools.chain(read_log(config, snapshots), read_log(config, spans))


def _there(config: Mapping[str, str], names: list[str]) -> list[str]:
    """Those of the topics that exist: workers run without some. Where nothing answers, reading says so."""
    from tidegate.streams.source_topics import BrokerAwayError, SourceTopics, TopicMissingError

    try:
        SourceTopics({**config, "error_cb": lambda _: None, "log_level": 0}).facts(names)
    except TopicMissingError as problem:
        return [name for name in names if name not in problem.names]
    except BrokerAwayError:
        return []
    return names


def _dump(args: argparse.Namespace) -> int:
    from tidegate.streams.output import open_output

    if args.json:
        return _show(args)
    if args.file is not None:
        raise UsageError(f"{args.file}: a dump is shown with --json; to write one, give --out FILE")
    if args.out is None:
        raise UsageError("no file to write; give --out FILE, or --json to read the log")
    header, records = internal_log(kafka_config_of(args), topics_of(args))
    with open_output(args.out) as out:
        count = write_dump(out, header, records)
    sys.stderr.write(f"{args.out}: {count:,} records\n")
    return 0


def _show(args: argparse.Namespace) -> int:
    from tidegate.streams.dump_lines import line_of
    from tidegate.streams.output import open_output

    if args.file is not None:
        header, records = read_dump(args.file)
    else:
        header, records = internal_log(kafka_config_of(args), topics_of(args))
    with open_output(args.out or "-") as out:
        for record in records:
            out.write(line_of(header, record) + b"\n")
    return 0


def _write(packed: zstandard.ZstdCompressionWriter, value: DumpHeader | LogRecord) -> None:
    data = _encoder.encode(value)
    packed.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)


def _read(stream: Unpacked, path: str) -> bytes | None:
    prefix = stream.take(_LENGTH_BYTES)
    if not prefix:
        return None
    length = int.from_bytes(prefix, "big")
    data = stream.take(length) if length <= _RECORD_BYTES_MAX else b""
    if len(prefix) < _LENGTH_BYTES or len(data) < length:
        raise Failure(f"{path}: ends inside a record; make the dump anew")
    return data
