"""What is read of a host: odd trees say less, never something wrong, and nothing raises."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.host.trees import BOOT_S, GROUP, events, plant, pressure, v2
from tidegate.client.host import HostReading, read_host

WHOLE = HostReading(
    panic_on_oops=True,
    kernel_oops=4,
    memory_events={"high": 3, "max": 2, "oom_kill": 1},
    memory_full_ratio=0.125,
    booted_ms=BOOT_S * 1000,
)
EVENTS = f"{GROUP}/memory.events"
PRESSURE = f"{GROUP}/memory.pressure"
PANIC = "proc/sys/kernel/panic_on_oops"
OOPS = "sys/kernel/oops_count"


def test_a_whole_tree_is_read_without_a_note(tmp_path: Path) -> None:
    assert read_host(plant(tmp_path, v2())) == WHOLE


@pytest.mark.parametrize(
    ("path", "content", "expected"),
    [
        (PANIC, "0\n", {"panic_on_oops": False}),
        (PANIC, "2", {"panic_on_oops": True}),
        (PANIC, None, {"panic_on_oops": None}),
        (OOPS, None, {"kernel_oops": None}),  # before Linux 6.2: nothing, not 0
        (OOPS, "0\n", {"kernel_oops": 0}),
        (OOPS, f"{1 << 53}\n", {"kernel_oops": 1 << 53}),
        (EVENTS, events(0, 0, 0), {"memory_events": {"high": 0, "max": 0, "oom_kill": 0}}),
        (EVENTS, "high 3\n", {"memory_events": {"high": 3}}),
        (EVENTS, "oom_kill 1\nhigh 3\nhighest 8\n", {"memory_events": {"oom_kill": 1, "high": 3}}),
        (PRESSURE, pressure("0.00"), {"memory_full_ratio": 0.0}),
        (PRESSURE, pressure("0.07"), {"memory_full_ratio": 0.0007}),
        (PRESSURE, pressure("100.00"), {"memory_full_ratio": 1.0}),
        (PRESSURE, pressure("7"), {"memory_full_ratio": 0.07}),
        # Without its own the nearest above stands in: the whole machine's here.
        (PRESSURE, None, {"memory_full_ratio": 0.4}),
        ("proc/stat", None, {"booted_ms": 0}),
        ("proc/stat", "", {"booted_ms": 0}),
        ("proc/stat", "btime soon\n", {"booted_ms": 0}),
        ("proc/stat", f"intr {'0 ' * 200_000}\nbtime 9\n", {"booted_ms": 9_000}),
    ],
)
def test_what_is_missing_is_unknown_and_what_is_there_is_read(
    tmp_path: Path, path: str, content: str | None, expected: dict[str, object]
) -> None:
    files = v2()
    if content is None:
        del files[path]
    else:
        files[path] = content
    assert read_host(plant(tmp_path, files)) == msgspec.structs.replace(WHOLE, **expected)


@pytest.mark.parametrize(
    ("path", "content", "expected", "note"),
    [
        (PANIC, "", {"panic_on_oops": None}, "'' is not a whole number"),
        (PANIC, "-1\n", {"panic_on_oops": None}, "'-1\\n' is not a whole number"),
        (OOPS, "many\n", {"kernel_oops": None}, "is not a whole number"),
        (OOPS, "1_000\n", {"kernel_oops": None}, "is not a whole number"),
        (OOPS, "٣\n", {"kernel_oops": None}, "is not a whole number"),
        (OOPS, "1.5\n", {"kernel_oops": None}, "is not a whole number"),
        (OOPS, f"{(1 << 53) + 1}\n", {"kernel_oops": None}, "is not a whole number"),
        (OOPS, "9" * 5_000, {"kernel_oops": None}, "is not a whole number"),
        (OOPS, b"\xff\xfe", {"kernel_oops": None}, "is not a whole number"),
        (EVENTS, "", {"memory_events": {}}, "is not counts of high, max, oom_kill"),
        (EVENTS, "high\n", {"memory_events": {}}, "'' is not the count of `high`"),
        (
            EVENTS,
            events(high="x"),
            {"memory_events": {"max": 2, "oom_kill": 1}},
            "'x' is not the count of `high`",
        ),
        (
            EVENTS,
            events(oom_kill="9" * 30),
            {"memory_events": {"high": 3, "max": 2}},
            "is not the count of `oom_kill`",
        ),
        (PRESSURE, "", {"memory_full_ratio": None}, "is not a line `full avg10=0.00"),
        (PRESSURE, "some avg10=1.00\n", {"memory_full_ratio": None}, "is not a line `full"),
        (PRESSURE, pressure("100.01"), {"memory_full_ratio": None}, "is not a line `full"),
        (PRESSURE, pressure("-1.00"), {"memory_full_ratio": None}, "is not a line `full"),
        (PRESSURE, pressure("nan"), {"memory_full_ratio": None}, "is not a line `full"),
        (PRESSURE, pressure("1e1"), {"memory_full_ratio": None}, "is not a line `full"),
        (PRESSURE, pressure("9" * 400), {"memory_full_ratio": None}, "is not a line `full"),
        (PRESSURE, "full total=1\n", {"memory_full_ratio": None}, "is not a line `full"),
    ],
)
def test_garbage_is_told_and_nothing_is_made_of_it(
    tmp_path: Path, path: str, content: str | bytes, expected: dict[str, object], note: str
) -> None:
    found = read_host(plant(tmp_path, {**v2(), path: content}))
    assert msgspec.structs.replace(found, notes=[]) == msgspec.structs.replace(WHOLE, **expected)
    assert len(found.notes) == 1
    assert note in found.notes[0]
    assert path in found.notes[0]


@pytest.mark.parametrize("path", [PANIC, OOPS, EVENTS, PRESSURE, "proc/stat", "proc/self/cgroup"])
def test_a_folder_where_a_file_should_be_is_no_reading(tmp_path: Path, path: str) -> None:
    files = v2()
    del files[path]
    (plant(tmp_path, files) / path).mkdir(parents=True)
    assert read_host(tmp_path) != WHOLE


@pytest.mark.parametrize("path", [PANIC, OOPS, EVENTS, PRESSURE])
def test_a_file_that_is_closed_to_us_is_told(path: str) -> None:
    with not_root(), tempfile.TemporaryDirectory() as folder:
        root = plant(Path(folder), v2())
        (root / path).chmod(0)
        found = read_host(root)
    assert len(found.notes) == 1
    assert "can't be read (Permission denied)" in found.notes[0]


def test_a_group_that_is_closed_to_us_is_told_and_none_above_stands_in() -> None:
    with not_root(), tempfile.TemporaryDirectory() as folder:
        files = {**v2(), "sys/fs/cgroup/system.slice/memory.events": events(9, 9, 9)}
        root = plant(Path(folder), files)
        (root / GROUP).chmod(0)
        found = read_host(root)
        (root / GROUP).chmod(0o700)
    assert (found.memory_events, found.memory_full_ratio) == ({}, 0.5)
    assert len(found.notes) == 2
    assert all("can't be read (Permission denied)" in note for note in found.notes)


@contextlib.contextmanager
def not_root() -> Iterator[None]:
    """Root may read everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_file_that_can_not_be_read_is_told_and_the_rest_is_read(tmp_path: Path) -> None:
    plant(tmp_path, v2())
    (tmp_path / OOPS).unlink()
    (tmp_path / OOPS).symlink_to(OOPS.rpartition("/")[2])  # a loop
    found = read_host(tmp_path)
    assert msgspec.structs.replace(found, notes=[]) == msgspec.structs.replace(
        WHOLE, kernel_oops=None
    )
    assert len(found.notes) == 1
    assert "can't be read (Too many levels of symbolic links)" in found.notes[0]


def test_an_empty_tree_says_nothing(tmp_path: Path) -> None:
    assert read_host(tmp_path) == HostReading(
        notes=["there is no /proc/self/cgroup: memory.events are not sent"]
    )
    assert read_host(tmp_path / "nowhere").panic_on_oops is None


def test_a_group_that_is_named_is_read_in_place_of_our_own(tmp_path: Path) -> None:
    plant(tmp_path, {**v2(), "pod/memory.events": events(70, 0, 0)})
    found = read_host(tmp_path, cgroup=tmp_path / "pod")
    assert found.memory_events == {"high": 70, "max": 0, "oom_kill": 0}
    assert found.memory_full_ratio is None  # the machine's is not the pod's
    assert found.notes == []
    bare = read_host(tmp_path, cgroup=tmp_path / "gone")
    assert bare.memory_events == {}
    assert "has no memory.events" in bare.notes[0]
    assert bare.kernel_oops == 4


@given(
    contents=st.fixed_dictionaries({}, optional=dict.fromkeys(v2(), st.binary(max_size=60))),
    lines=st.lists(st.sampled_from([b"0::", b"0::/", b"4:memory:/x", b"/..", b"\n", b"\0", b":"])),
)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_make_it_raise_or_say_what_can_not_be(
    tmp_path: Path, contents: dict[str, bytes], lines: list[bytes]
) -> None:
    plant(tmp_path, {**v2(), **contents, "proc/self/cgroup": b"".join(lines)})
    found = read_host(tmp_path)
    assert set(found.memory_events) <= {"high", "max", "oom_kill"}
    assert all(0 <= count <= 1 << 53 for count in found.memory_events.values())
    assert found.kernel_oops is None or 0 <= found.kernel_oops <= 1 << 53
    assert found.memory_full_ratio is None or 0 <= found.memory_full_ratio <= 1
    assert msgspec.json.decode(msgspec.json.encode(found), type=HostReading) == found


def test_this_machine_is_read() -> None:
    found = read_host()
    assert found.panic_on_oops == (Path("/proc/sys/kernel/panic_on_oops").read_text() != "0\n")
    assert (found.kernel_oops is not None) == Path("/sys/kernel/oops_count").exists()
    assert found.booted_ms > 0
    assert found.memory_full_ratio is None or 0 <= found.memory_full_ratio <= 1
    assert bool(found.memory_events) != any("memory.events" in note for note in found.notes)
