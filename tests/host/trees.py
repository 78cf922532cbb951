"""A file tree as the kernel shows it: a service in a systemd slice under cgroup v2."""

from pathlib import Path

__all__ = ["BOOT_S", "EVENTS", "GROUP", "events", "plant", "pressure", "v2"]

GROUP = "sys/fs/cgroup/system.slice/pay.service"
EVENTS = f"{GROUP}/memory.events"
BOOT_S = 1_700_000_000


def events(high: object = 3, most: object = 2, oom_kill: object = 1) -> str:
    return f"low 0\nhigh {high}\nmax {most}\noom 9\noom_kill {oom_kill}\noom_group_kill 8\n"


def pressure(full_percent: object = "12.50") -> str:
    return (
        "some avg10=90.00 avg60=0.10 avg300=0.00 total=1\n"
        f"full avg10={full_percent} avg60=0.00 avg300=0.00 total=12345\n"
    )


def v2() -> dict[str, str | bytes]:
    """By path; a test replaces some of them."""
    return {
        "proc/sys/kernel/panic_on_oops": "1\n",
        "sys/kernel/oops_count": "4\n",
        "sys/kernel/warn_count": "77\n",
        "proc/stat": f"cpu  1 2 3\nintr 5 {'0 ' * 9}\nctxt 9\nbtime {BOOT_S}\nprocesses 5\n",
        "proc/self/cgroup": "0::/system.slice/pay.service\n",
        "proc/pressure/memory": pressure("50.00"),
        "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
        "sys/fs/cgroup/memory.pressure": pressure("40.00"),
        f"{GROUP}/memory.events": events(),
        f"{GROUP}/memory.pressure": pressure(),
    }


def plant(root: Path, files: dict[str, str | bytes]) -> Path:
    """Writes them below root."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root
