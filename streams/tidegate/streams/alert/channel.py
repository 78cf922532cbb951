"""What every kind of channel is made of: its settings, the request it makes of an alert, how it reads the
answer.

A kind is one function in a file of its own and one line in `channels.CHANNELS`. Nothing here or there
opens a connection; `posting.py` does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import quote

import msgspec
from msgspec import Meta

from tidegate.schemas.alert import Alert
from tidegate.streams.alert.grouped import Grouped

__all__ = [
    "Channel",
    "ChannelSettings",
    "GroupingSettings",
    "Kind",
    "Links",
    "Refusal",
    "Request",
    "Tries",
    "json_request",
    "key_of",
]

Seconds = Annotated[float, Meta(ge=0.1, le=3600)]


class ChannelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every channel may set. A field NAME_env names an environment variable that holds the secret
    NAME, NAME_file a file that does."""

    type: str
    timeout_s: Annotated[float, Meta(ge=0.1, le=60)] = 10.0
    """Of one try, from connecting to the end of the answer."""
    ca_file: str | None = None
    """PEM file of the authorities that may have signed the server's certificate; null: the usual ones."""


class Tries(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often and how long one alert is tried on one channel."""

    tries_max: Annotated[int, Meta(ge=1, le=100)] = 10
    wait_first_s: Seconds = 1.0
    """Before the second try; doubled each time, with up to a quarter more at random."""
    wait_max_s: Seconds = 60.0
    total_s: Seconds = 600.0
    """No try begins later than this after the alert was read, except the first."""


class GroupingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How alerts of one cause become one message."""

    wait_s: Annotated[float, Meta(ge=0, le=300)] = 15.0
    """How long an incident waits for its cause before people are told; 0: each is told by itself."""
    update_s: Annotated[float, Meta(ge=1, le=86_400)] = 300.0
    """Between two messages about who joined a group."""


class Links(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where people go from an alert. They are shown as they are: they must hold no secret."""

    trace_url: str | None = None
    """With `{trace_id}` in it."""
    scope_url: str | None = None
    """With `{scope}` (`service:payments`) or `{name}` (`payments`) in it: a dashboard, a runbook."""

    def of_scope(self, scope: str) -> str | None:
        """The address for a scope."""
        if self.scope_url is None:
            return None
        name = scope.partition(":")[2] or scope
        return self.scope_url.replace("{scope}", _quoted(scope)).replace("{name}", _quoted(name))

    def of_traces(self, trace_ids: list[str]) -> list[tuple[str, str]]:
        """(trace id, address) of each."""
        if self.trace_url is None:
            return []
        return [(one, self.trace_url.replace("{trace_id}", _quoted(one))) for one in trace_ids]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an answer with a status of success is none."""

    reason: str
    is_final: bool
    """Whether another try can't help."""


@dataclass(frozen=True, slots=True)
class Request:
    """One POST. `url` and `headers` may hold secrets."""

    url: str = field(repr=False)
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    refusal: Callable[[bytes], Refusal | None] | None = None
    """Reads the body of a 2xx answer; None: the status says it all."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel of the file, ready to be used."""

    name: str
    kind: "Kind"
    settings: ChannelSettings
    values: Mapping[str, str] = field(repr=False)
    """Addresses and secrets by name, wherever they came from."""
    secrets: tuple[str, ...] = field(repr=False)
    """Those of the values that must not be seen."""
    links: Links = field(default_factory=Links)

    def request(self, alert: Alert, now_ms: int, grouped: Grouped | None = None) -> Request:
        """What is posted for this alert, now: some requests are signed with the time. grouped: what is
        known of its cause."""
        return self.kind.request(alert, self, now_ms, grouped)


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of channel."""

    name: str
    settings: type[ChannelSettings]
    request: Callable[[Alert, Channel, int, Grouped | None], Request]
    needs: tuple[str, ...]
    """Addresses and secrets it can't do without."""
    is_told_singly: bool = False
    """Whether it groups by itself: it gets every incident, with its cause, and no messages of groups."""


def json_request(
    url: str,
    body: object,
    *,
    headers: Mapping[str, str] | None = None,
    content_type: str = "application/json",
    refusal: Callable[[bytes], Refusal | None] | None = None,
) -> Request:
    """A POST of JSON."""
    return Request(
        url=url,
        body=msgspec.json.encode(body),
        headers={"Content-Type": content_type, **(headers or {})},
        refusal=refusal,
    )


def key_of(alert: Alert) -> str:
    """ID-NUMBER: the same however often the event is sent."""
    return f"{alert.id}-{alert.number}"


def _quoted(text: str) -> str:
    return quote(text, safe="")
