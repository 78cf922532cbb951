"""What the kernel says of a host and a control group, read from a file tree. Told no time, never raises.

A file that is missing, closed to us or garbage means that nothing is known: None, never 0.
"""

import re
from pathlib import Path

import msgspec

from tidegate.client.host.cgroup import cgroup_at, own_cgroup
from tidegate.client.host.files import count_in, text_of

__all__ = ["EVENTS", "HostReading", "read_host"]

EVENTS = ("high", "max", "oom_kill")
"""Of `memory.events`; the others are read by no rule."""
_PERCENT = re.compile(r"avg10=([0-9]{1,3}(?:\.[0-9]{1,6})?)")


class HostReading(msgspec.Struct, frozen=True, kw_only=True):
    """One look at it all. None (or no entry) is what nobody knows here."""

    panic_on_oops: bool | None = None
    """Whether an oops of the kernel ends the machine."""
    kernel_oops: int | None = None
    """Oopses since boot; kernels older than 6.2 don't count them."""
    memory_events: dict[str, int] = {}
    """By name in EVENTS, since the control group was made; those of groups below it count in."""
    memory_full_ratio: float | None = None
    """Share of the last 10 s in which all tasks waited for memory, 0..1: of the control group, else of
    the machine."""
    booted_ms: int = 0
    """When the machine came up, since the Unix epoch, to the second; 0 where unknown."""
    notes: list[str] = []
    """For people: what can't be read here, and why."""


def read_host(root: Path = Path("/"), *, cgroup: Path | None = None) -> HostReading:
    """Reads `/proc` and `/sys` under `root`.

    cgroup: folder of the control group that is read in place of this process's own; then the machine's
    pressure stands in for nothing.
    """
    notes: list[str] = []
    group = own_cgroup(root, notes) if cgroup is None else cgroup_at(cgroup)
    of_machine = root / "proc/pressure/memory" if cgroup is None else None
    if group.note:
        notes.append(group.note)
    panic_on_oops = _whole(root / "proc/sys/kernel/panic_on_oops", notes)
    return HostReading(
        panic_on_oops=None if panic_on_oops is None else panic_on_oops > 0,
        kernel_oops=_whole(root / "sys/kernel/oops_count", notes),
        memory_events=_events(group.events, notes),
        memory_full_ratio=_full_ratio((group.pressure, of_machine), notes),
        booted_ms=_booted_ms(root / "proc/stat", notes),
        notes=notes,
    )


def _whole(path: Path, notes: list[str]) -> int | None:
    """A file that is one whole number."""
    text = text_of(path, notes)
    if text is None:
        return None
    count = count_in(text)
    if count is None:
        notes.append(_garbage(path, "a whole number", text))
    return count


def _events(path: Path | None, notes: list[str]) -> dict[str, int]:
    text = None if path is None else text_of(path, notes)
    if path is None or text is None:
        return {}
    lines = [line.partition(" ") for line in text.splitlines()]
    known = [(name, value) for name, _, value in lines if name in EVENTS]
    if not known:
        notes.append(_garbage(path, f"counts of {', '.join(EVENTS)}", text))
    found = {}
    for name, value in known:
        count = count_in(value)
        if count is None:
            notes.append(_garbage(path, f"the count of `{name}`", value))
        else:
            found[name] = count
    return found


def _full_ratio(paths: tuple[Path | None, ...], notes: list[str]) -> float | None:
    """`full avg10=…` in percent, of the first of these files that is there."""
    for path in paths:
        text = None if path is None else text_of(path, notes)
        if path is None or text is None:
            continue
        for line in text.splitlines():
            words = line.split()
            if words[:1] == ["full"]:
                ratio = _ratio(next((w for w in words if w.startswith("avg10=")), ""))
                if ratio is not None:
                    return ratio
        notes.append(_garbage(path, "a line `full avg10=0.00 …`", text))
        return None
    return None


def _ratio(word: str) -> float | None:
    found = _PERCENT.fullmatch(word)
    ratio = float(f"{found[1]}e-2") if found else 2.0
    return ratio if ratio <= 1.0 else None


def _booted_ms(path: Path, notes: list[str]) -> int:
    text = text_of(path, notes)
    for line in (text or "").splitlines():
        if line.startswith("btime "):
            return (count_in(line.removeprefix("btime ")) or 0) * 1000
    return 0


def _garbage(path: Path, expected: str, found: str) -> str:
    return f"{str(path)!r}: {found[:40]!r} is not {expected}; nothing is sent of it"
