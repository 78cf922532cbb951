"""Posts one alert to one channel: tries, waits, tries again, and says why where it gives up. What it says
never holds a secret, an address or a request.
"""

import asyncio
import logging
import ssl
import time
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import metadata
from urllib.parse import quote, quote_plus

import httpx
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_exponential,
    wait_random,
)

from tidegate.schemas.alert import Alert
from tidegate.streams.alert.channel import Channel, Request, Tries
from tidegate.streams.alert.grouped import Grouped

__all__ = ["Poster", "UndeliveredError"]

_ANSWER_BYTES_MAX = 65_536
_EXCERPT_CHARS_MAX = 300
_AGAIN_STATUSES = frozenset({408, 425, 429})
"""Beside 5xx."""
_JITTER_RATIO = 0.25


class UndeliveredError(Exception):
    """The channel did not take the alert. The text is the reason, fit for everybody's eyes."""

    def __init__(self, reason: str, tries_count: int) -> None:
        super().__init__(reason)
        self.reason, self.tries_count = reason, tries_count


class _AgainError(Exception):
    """One try failed, another may not."""

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s
        """The server asked for this wait."""


class _FinalError(Exception):
    """No other try can succeed."""


class Poster:
    """Connections to one channel's server. Close it when done."""

    def __init__(
        self, channel: Channel, tries: Tries, *, on_retry: Callable[[str, float], None]
    ) -> None:
        """`on_retry` is told why a try failed and how long the wait for the next one is."""
        self.channel, self._tries, self._on_retry = channel, tries, on_retry
        # httpx logs each request's address, which for robots holds the key.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        settings = channel.settings
        self._client = httpx.AsyncClient(
            verify=ssl.create_default_context(cafile=settings.ca_file)
            if settings.ca_file is not None
            else True,
            timeout=settings.timeout_s,
            follow_redirects=False,
            headers={"User-Agent": f"tidegate/{metadata.version('tidegate')}"},
        )
        self._shadows = _shadows_of(channel.secrets)

    async def post(self, alert: Alert, *, read_s: float, grouped: Grouped | None = None) -> int:
        """How many tries it took. `grouped`: what is known of its cause. `read_s`: monotonic time at which the alert was read, from which
        on the time for all tries counts. Raises UndeliveredError after the last."""
        left_s = max(self._tries.total_s - (time.monotonic() - read_s), 0.001)
        tries_count = 0
        try:
            async for attempt in AsyncRetrying(
                stop=stop_after_attempt(self._tries.tries_max) | stop_before_delay(left_s),
                wait=self._wait_s,
                retry=retry_if_exception_type(_AgainError),
                before_sleep=self._told,
                reraise=True,
            ):
                with attempt:
                    tries_count += 1
                    now_ms = time.time_ns() // 1_000_000
                    await self._try(self.channel.request(alert, now_ms, grouped))
        except (_AgainError, _FinalError) as problem:
            raise UndeliveredError(str(problem), tries_count) from None
        return tries_count

    async def close(self) -> None:
        """Ends the connections."""
        await self._client.aclose()

    async def _try(self, request: Request) -> None:
        timeout_s = self.channel.settings.timeout_s
        try:
            # httpx bounds each wait; an answer that trickles would pass all of those.
            async with asyncio.timeout(timeout_s):
                status, headers, body = await self._exchange(request)
        except (TimeoutError, httpx.TimeoutException):
            raise _AgainError(f"no answer within {timeout_s:g} s") from None
        except httpx.HTTPError as problem:
            raise _AgainError(self._clean(f"{type(problem).__name__}: {problem}")) from None
        if 200 <= status < 300:
            refusal = request.refusal(body) if request.refusal is not None else None
            if refusal is not None:
                kind = _FinalError if refusal.is_final else _AgainError
                raise kind(self._clean(refusal.reason))
            return
        told = self._clean(f"HTTP {status}: {body.decode(errors='replace')}")
        if status in _AGAIN_STATUSES or status >= 500:
            raise _AgainError(told, _after_s(headers.get("Retry-After")))
        if 300 <= status < 400:
            told = f"HTTP {status}: redirects are not followed; give the address it leads to"
        raise _FinalError(told)

    async def _exchange(self, request: Request) -> tuple[int, httpx.Headers, bytes]:
        async with self._client.stream(
            "POST", request.url, content=request.body, headers=request.headers
        ) as response:
            body = b""
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) >= _ANSWER_BYTES_MAX:
                    break
            return response.status_code, response.headers, body[:_ANSWER_BYTES_MAX]

    def _wait_s(self, state: RetryCallState) -> float:
        problem = state.outcome.exception() if state.outcome is not None else None
        asked_s = problem.after_s if isinstance(problem, _AgainError) else None
        first_s, max_s = self._tries.wait_first_s, self._tries.wait_max_s
        grown_s = wait_exponential(multiplier=first_s, max=max_s)(state)
        jitter_s = wait_random(0, grown_s * _JITTER_RATIO)(state)
        # Not before the server said; the jitter keeps many senders from coming at once.
        return (grown_s if asked_s is None else asked_s) + jitter_s

    def _told(self, state: RetryCallState) -> None:
        problem = state.outcome.exception() if state.outcome is not None else None
        self._on_retry(str(problem), state.upcoming_sleep)

    def _clean(self, text: str) -> str:
        """One short line in which no secret of the channel's stands: servers like to repeat them."""
        for shadow in self._shadows:
            text = text.replace(shadow, "***")
        line = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
        return line if len(line) <= _EXCERPT_CHARS_MAX else f"{line[: _EXCERPT_CHARS_MAX - 1]}…"


def _shadows_of(secrets: tuple[str, ...]) -> tuple[str, ...]:
    """Every form in which a secret goes over the wire, longest first."""
    shadows: set[str] = set()
    for secret in secrets:
        shadows |= {secret, quote(secret, safe=""), quote_plus(secret)}
        shadows.add(b64encode(secret.encode()).decode())
    return tuple(sorted(shadows - {""}, key=len, reverse=True))


def _after_s(header: str | None) -> float | None:
    """Retry-After: seconds, or a date; None where it is neither."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        until = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max((until - datetime.now(UTC)).total_seconds(), 0.0)
