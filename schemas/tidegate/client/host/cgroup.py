"""Which control group (cgroup v2) accounts for the memory of this process, or of a pod.

Works on a file tree under `root`, never raises for what it holds.
"""

import errno
import os
from pathlib import Path

import msgspec

from tidegate.client.host.files import text_of

__all__ = ["Cgroup", "cgroup_at", "own_cgroup", "pod_cgroup"]

EVENTS_FILE = "memory.events"
PRESSURE_FILE = "memory.pressure"
DEPTH_MAX = 8
"""Of folders in which a pod's is looked for; Kubernetes puts it at 2 to 5."""
_MOUNTS = ("sys/fs/cgroup", "sys/fs/cgroup/unified")
"""Where cgroup v2 is mounted; the second on hybrid set-ups."""
_UNIFIED = "0::"


class Cgroup(msgspec.Struct, frozen=True, kw_only=True):
    """Files of a control group; None for what it doesn't have."""

    events: Path | None = None
    """`memory.events`."""
    pressure: Path | None = None
    """`memory.pressure`."""
    note: str = ""
    """For people: why something is missing. Empty where nothing is."""


def cgroup_at(folder: Path) -> Cgroup:
    """The one with this folder."""
    events, pressure = folder / EVENTS_FILE, folder / PRESSURE_FILE
    note = "" if _is_file(events) else f"{str(folder)!r} has no {EVENTS_FILE}: none are sent"
    return Cgroup(events=events, pressure=pressure, note=note)


def own_cgroup(root: Path, notes: list[str]) -> Cgroup:
    """Of this process. Where its own folder has no `memory.events`, the kernel accounts it to the nearest
    folder above that has."""
    text = text_of(root / "proc/self/cgroup", notes)
    if text is None:
        return Cgroup(note="there is no /proc/self/cgroup: memory.events are not sent")
    lines = text.split("\n")
    path = next((line[len(_UNIFIED) :] for line in lines if line.startswith(_UNIFIED)), None)
    is_v1 = any("memory" in line.split(":")[1].split(",") for line in lines if ":" in line)
    mount = next((root / m for m in _MOUNTS if _is_file(root / m / "cgroup.controllers")), None)
    if path is None or mount is None:
        return Cgroup(note=_v1_note("cgroup v1") if is_v1 else _NONE_NOTE)
    parts = [part for part in path.split("/") if part]
    if ".." in parts:
        return Cgroup(note=f"{path!r} lies outside of this cgroup namespace: {_NOT_SENT}")
    folders = [mount.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]
    found = Cgroup(events=_nearest(folders, EVENTS_FILE), pressure=_nearest(folders, PRESSURE_FILE))
    if found.events is not None:
        return found
    note = _v1_note("a hybrid of cgroup v1 and v2") if is_v1 else f"{path!r} has none: {_NOT_SENT}"
    return Cgroup(pressure=found.pressure, note=note)


def pod_cgroup(cgroups: Path, uid: str) -> Path | None:
    """Folder of a Kubernetes pod below `cgroups` (the host's `/sys/fs/cgroup`), None where there is none.
    Both of kubelet's drivers are known: `podUID`, and `…-podUID.slice` with underscores."""
    by_systemd = f"-pod{uid.replace('-', '_')}.slice"
    for folder, names, _ in os.walk(cgroups):
        for name in names:
            if name == f"pod{uid}" or name.endswith(by_systemd):
                return Path(folder, name)
        is_deep = len(Path(folder).relative_to(cgroups).parts) >= DEPTH_MAX
        names[:] = [] if is_deep else sorted(name for name in names if not _is_pod(name))
    return None


def _is_pod(name: str) -> bool:
    return name.startswith("pod") or "-pod" in name


def _nearest(folders: list[Path], name: str) -> Path | None:
    return next((folder / name for folder in folders if _is_file(folder / name)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as problem:
        # Closed to us it is still the one: what a group above counts is not ours.
        return problem.errno == errno.EACCES


_NOT_SENT = "memory.events are not sent"
_NONE_NOTE = f"cgroup v2 is not mounted here: {_NOT_SENT}"


def _v1_note(what: str) -> str:
    return (
        f"memory is under {what}, which counts no memory.events: none are sent; cgroup v2 is needed"
    )
