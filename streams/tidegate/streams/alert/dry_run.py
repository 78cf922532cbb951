"""What `tidegate alert --dry-run` prints: each request as a JSON line, made with words in place of secrets."""

import sys
import time
from collections.abc import Mapping

import msgspec

from tidegate.schemas.topics import Topics
from tidegate.streams.alert.routing import Routing
from tidegate.streams.alert.sending import alert_of
from tidegate.streams.alert.settings import Setup
from tidegate.streams.kafka_log import LogRecord, follow_log, log_spans

__all__ = ["dry_run", "lines_of"]

_TICK_S = 0.25


def dry_run(setup: Setup, config: Mapping[str, str], topics: Topics) -> None:
    """Until Ctrl-C. `setup` must have been read without its secrets."""
    routings: dict[int, Routing] = {}
    spans = log_spans(config, [topics.alerts])
    for records, _ in follow_log(config, spans, tick_s=_TICK_S):
        for record in records:
            routing = routings.setdefault(record.partition, Routing(setup.tiers))
            now_ms = time.time_ns() // 1_000_000
            sys.stdout.writelines(lines_of(record, setup, routing, now_ms))
        sys.stdout.flush()


def lines_of(record: LogRecord, setup: Setup, routing: Routing, now_ms: int) -> list[str]:
    """A line for each channel that the record would go to; one that says why where it goes nowhere."""
    where = {"partition": record.partition, "offset": record.offset}
    alert, problem = alert_of(record)
    if alert is None:
        return [_line({**where, "dead_letter": problem})]
    names = {**where, "alert": alert.id, "number": alert.number, "event": alert.event}
    route = routing.take(alert)
    if not route.channels:
        return [_line({**names, "skipped": route.skipped or "no channel"})]
    lines = []
    for name in route.channels:
        channel = setup.channels[name]
        request = channel.request(alert, now_ms)
        sent = {
            "channel": name,
            "type": channel.kind.name,
            "method": "POST",
            "url": request.url,
            "headers": dict(request.headers),
            "body": msgspec.json.decode(request.body),
        }
        lines.append(_line({**names, **sent}))
    return lines


def _line(content: Mapping[str, object]) -> str:
    return msgspec.json.encode(content).decode() + "\n"
