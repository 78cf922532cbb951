"""What the author of a wrong value probably meant: `30` for `30s`, `0.1` for `10%`, `true` for `"yes"`."""

import re
from collections.abc import Iterator

from msgspec import inspect

from tidegate.rules.policy_types import PolicyFile
from tidegate.rules.policy_yaml import Tree

__all__ = ["homes_of", "meant", "unit_of"]

_SECONDS = {
    **dict.fromkeys(("us", "µs"), 1e-6),
    **dict.fromkeys(("ms", "msec", "millis"), 1e-3),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86_400.0),
}
_UNITS = (("_ms", "milliseconds", 1e-3), ("_s", "seconds", 1.0), ("_days", "days", 86_400.0))
_IGNORED = ("rps", "qps", "req/s", "/s", "mib", "x", "requests")
"""Units that say what the setting's name says already."""
_NUMBER = re.compile(r"\s*([-+]?(?:\d[\d_]*)?[.,]?\d+(?:[eE][-+]?\d+)?)\s*([A-Za-zµ%/]*)\s*")
_TEXT_CHARS_MAX = 40
_BOOLS = {"true": True, "yes": True, "on": True, "1": True, "1.0": True}
_BOOLS |= {"false": False, "no": False, "off": False, "0": False, "0.0": False}


def unit_of(path: str) -> tuple[str, float]:
    """The unit of time at a setting's end, in words and in seconds; `("", 0)` for one without."""
    for end, words, seconds in _UNITS:
        if path.endswith(end) and not path.endswith("_per_s"):
            return words, seconds
    return "", 0.0


def meant(kind: inspect.Type, path: str, value: Tree) -> str:
    """The allowed value that was probably meant; empty where none suggests itself."""
    if isinstance(kind, inspect.BoolType):
        is_true = _BOOLS.get(str(value).casefold())
        return "" if is_true is None else str(is_true).lower()
    if isinstance(kind, inspect.LiteralType):
        # YAML reads `no` and `off` as false.
        is_none = value is None or value is False
        return "none" if is_none and "none" in kind.values else ""
    if not isinstance(kind, inspect.IntType | inspect.FloatType) or isinstance(value, bool):
        return ""
    number = _number(value, path)
    if number is None:
        return ""
    is_share = kind.le == 1 and isinstance(kind, inspect.FloatType)
    if is_share and isinstance(value, int | float):
        number = number / 100
    return _told(kind, number)


def homes_of(name: str) -> tuple[str, ...]:
    """Every path under which a setting of this name stands."""
    return _HOMES.get(name, ())


def _number(value: Tree, path: str) -> float | None:
    """In the setting's unit."""
    if isinstance(value, int | float):
        return float(value) if abs(value) < 2**53 else None
    found = _NUMBER.fullmatch(value) if isinstance(value, str) and _is_short(value) else None
    if found is None:
        return None
    number, unit = float(found[1].replace("_", "").replace(",", ".")), found[2].casefold()
    _, seconds = unit_of(path)
    if unit == "%":
        return number / 100
    if seconds and unit in _SECONDS:
        return number * _SECONDS[unit] / seconds
    return number if not unit or (not seconds and unit in _IGNORED) else None


def _is_short(text: str) -> bool:
    return len(text) <= _TEXT_CHARS_MAX


def _told(kind: inspect.IntType | inspect.FloatType, number: float) -> str:
    if isinstance(kind, inspect.IntType) and number != round(number):
        return ""
    is_inside = (
        (kind.ge is None or number >= kind.ge)
        and (kind.gt is None or number > kind.gt)
        and (kind.le is None or number <= kind.le)
        and (kind.lt is None or number < kind.lt)
    )
    if not is_inside or abs(number) >= 2**53:
        return ""
    return str(round(number)) if number == round(number) else f"{number:.10g}"


def _homes(kind: inspect.Type, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(kind, inspect.StructType):
        for field in kind.fields:
            inner = f"{path}.{field.name}" if path else field.name
            yield field.name, inner
            yield from _homes(field.type, inner)


def _by_name() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name, path in _homes(inspect.type_info(PolicyFile), ""):
        found[name] = (*found.get(name, ()), path)
    return found


_HOMES = _by_name()
