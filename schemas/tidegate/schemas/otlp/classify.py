"""What a span's attributes say: outcome, effect, target, weight. Plain Python, one span at a time.

The kernel does the same on bytes; this is what it is tested against, and what runs without numba.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

from tidegate.schemas.cells import WEIGHT_MAX, WEIGHT_ONE
from tidegate.schemas.conventions import TIMEOUT_WORDS
from tidegate.schemas.outcome import Effect, Outcome
from tidegate.schemas.scope import UNKNOWN_TARGET

__all__ = [
    "GRPC_NAMES",
    "GRPC_OUTCOMES",
    "effect_of",
    "joined",
    "outcome_of",
    "target_by_url",
    "target_of",
    "weight_of",
]

Value = str | int | float | bool
Fields = Mapping[str, Value]

GRPC_NAMES = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
]
"""By their numbers."""
_GRPC = {
    0: Outcome.OK,
    1: Outcome.CANCELLED,
    4: Outcome.TIMEOUT,
    8: Outcome.THROTTLED,
} | dict.fromkeys((2, 12, 13, 14, 15), Outcome.SERVER_ERROR)
GRPC_OUTCOMES = [_GRPC.get(code, Outcome.CLIENT_ERROR) for code in range(len(GRPC_NAMES))]
_EFFECTS = {effect.name.lower(): effect for effect in Effect}
_STATUS_ERROR = 2


def number_of(value: Value | None) -> int:
    """A status code as a number: integers, and digits as text; 0 for none, anything else, or "0"."""
    if isinstance(value, bool) or value is None:
        return 0
    if isinstance(value, int):
        return value if 0 < value < 1_000 else 0
    if isinstance(value, str) and 0 < len(value) <= 3 and value.isascii() and value.isdigit():
        return int(value)
    return 0


def grpc_of(value: Value | None) -> int:
    """A gRPC status as its number; -1 for none. Names (`DEADLINE_EXCEEDED`) are the newest generation."""
    if isinstance(value, bool) or value is None:
        return -1
    if isinstance(value, int):
        return value if 0 <= value <= 16 else -1
    if isinstance(value, str):
        if value.isascii() and value.upper() in GRPC_NAMES:
            return GRPC_NAMES.index(value.upper())
        if 0 < len(value) <= 2 and value.isascii() and value.isdigit() and int(value) <= 16:
            return int(value)
    return -1


def names_timeout(text: str) -> bool:
    """Whether a text names a time-out."""
    lower = text.lower()
    return any(word in lower for word in TIMEOUT_WORDS)


def outcome_of(
    fields: Fields, status_code: int, status_message: str, exception: tuple[str, str]
) -> Outcome:
    """The protocol's code decides; the span's status only where there is none. An RPC failure comes before
    HTTP's code, which says 200 beside it (meshes report both).

    exception: type and message of the last exception event, "" without any.
    """
    error_type = str(fields.get("error_type", ""))
    http = number_of(fields.get("http_status"))
    grpc = grpc_of(fields.get("grpc_status"))
    if grpc > 0:
        return GRPC_OUTCOMES[grpc]
    if http >= 100:
        return _http_outcome(http, error_type)
    if grpc == 0:
        return Outcome.OK
    flag = fields.get("error_flag")
    is_flagged = flag is True or (isinstance(flag, str) and flag.lower() == "true")
    if status_code != _STATUS_ERROR and not (status_code == 0 and (is_flagged or error_type)):
        return Outcome.OK
    if any(names_timeout(text) for text in (error_type, status_message, *exception)):
        return Outcome.TIMEOUT
    return Outcome.SERVER_ERROR


def _http_outcome(code: int, error_type: str) -> Outcome:
    if code in (408, 504):
        return Outcome.TIMEOUT
    if code == 429:
        return Outcome.THROTTLED
    if code == 499:
        return Outcome.CANCELLED
    if code >= 500:
        return Outcome.TIMEOUT if names_timeout(error_type) else Outcome.SERVER_ERROR
    return Outcome.CLIENT_ERROR if code >= 400 else Outcome.OK


def effect_of(fields: Fields) -> Effect:
    """NONE for a name that is none."""
    return _EFFECTS.get(str(fields.get("effect", "")), Effect.NONE)


def target_of(fields: Fields, span_name: str) -> str:
    """Who is called, by what the span itself says; never empty."""
    text = {name: value for name, value in fields.items() if isinstance(value, str) and value}
    if "peer_service" in text:
        return text["peer_service"]
    if "db_system" in text:
        return joined(text["db_system"], text.get("db_namespace", ""))
    if "messaging_system" in text:
        return joined(text["messaging_system"], text.get("messaging_destination", ""))
    method = text.get("rpc_method", "")
    service = method.rpartition("/")[0].lstrip("/") or text.get("rpc_service", "")
    if "address" in text:
        return joined(text["address"], service)
    return target_by_url(text.get("url", ""), service, span_name)


def target_by_url(url: str, service: str, span_name: str) -> str:
    """Host of the URL and RPC service, either alone, else the span's name."""
    return joined(_host(url), service) or span_name or UNKNOWN_TARGET


def joined(first: str, second: str) -> str:
    """Both with a slash between, or the one there is."""
    return f"{first}/{second}" if first and second else first or second


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def weight_of(trace_state: str) -> int:
    """Adjusted count from `ot=th:HEX` (OpenTelemetry consistent probability sampling), 64 = 1."""
    for member in trace_state.split(","):
        key, _, value = member.strip().partition("=")
        if key != "ot":
            continue
        for field in value.split(";"):
            name, _, digits = field.partition(":")
            if name == "th" and 0 < len(digits) <= 14:
                return _adjusted(digits)
    return WEIGHT_ONE


def _adjusted(digits: str) -> int:
    try:
        rejected = int(digits.ljust(14, "0"), 16)
    except ValueError:
        return WEIGHT_ONE
    kept = (1 << 56) - rejected
    return min(WEIGHT_MAX, ((1 << 56) * WEIGHT_ONE + kept // 2) // kept)
