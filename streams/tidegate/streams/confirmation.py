"""Whether workers did what was asked: read off the decisions that they publish, as clients read them."""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from tidegate.rules.in_force import is_match
from tidegate.schemas.decision import Decision, decode_decision
from tidegate.schemas.scope import OVERRIDE_ALL
from tidegate.schemas.topics import Topics
from tidegate.streams.kafka_log import Span, follow_log, log_spans, read_log

if TYPE_CHECKING:
    from tidegate.streams.kafka_log import LogRecord

__all__ = ["Confirmation"]

_TICK_S = 0.1


class Confirmation:
    """Made before something is asked: what is decided then, and where to read on from."""

    def __init__(self, config: Mapping[str, str], topics: Topics, pattern: str) -> None:
        """Raises Failure where the decisions can't be read."""
        self._config, self._pattern = config, pattern
        spans = log_spans(config, [topics.decisions])
        self._spans = [Span(s.topic, s.partition, s.end, s.end) for s in spans]
        self.newest: dict[str, Decision] = {}
        """Of scopes that match, by scope."""
        for record in read_log(config, spans):
            self._apply(record)

    def wait(self, is_shown: Callable[[Decision], bool], *, timeout_s: float) -> list[str]:
        """Scopes that match and show it, as soon as any does; empty where none did in time."""
        until_s = time.monotonic() + timeout_s
        if shown := self._shown(is_shown):
            return shown
        for records, _ in follow_log(self._config, self._spans, tick_s=_TICK_S):
            for record in records:
                self._apply(record)
            if (shown := self._shown(is_shown)) or time.monotonic() > until_s:
                return shown
        return []

    def _shown(self, is_shown: Callable[[Decision], bool]) -> list[str]:
        return sorted(scope for scope, decision in self.newest.items() if is_shown(decision))

    def _apply(self, record: "LogRecord") -> None:
        try:
            scope = (record.key or b"").decode()
            if scope == OVERRIDE_ALL or not is_match(scope, self._pattern):
                return
            if record.value is None:
                self.newest.pop(scope, None)
            elif not scope.startswith("lease:"):
                self.newest[scope] = decode_decision(record.value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # of another version; clients count it
