"""Which control group is ours: namespaces, hybrids, groups without a memory controller; and a pod's."""

from pathlib import Path

import pytest

from tests.host.trees import events, plant, pressure
from tidegate.client.host import own_cgroup, pod_cgroup

V2 = "sys/fs/cgroup"
CONTROLLERS: dict[str, str | bytes] = {f"{V2}/cgroup.controllers": "memory\n"}


@pytest.mark.parametrize(
    ("proc_self_cgroup", "files", "found"),
    [
        ("0::/\n", [f"{V2}/memory.events"], f"{V2}/memory.events"),  # a container's namespace
        ("0::/a/b\n", [f"{V2}/a/b/memory.events"], f"{V2}/a/b/memory.events"),
        # No controller there: the kernel accounts it to the group above.
        ("0::/a/b\n", [f"{V2}/a/memory.events", f"{V2}/a/b/x"], f"{V2}/a/memory.events"),
        # The path is the host's, the mount shows the container's group only.
        ("0::/docker/7f\n", [f"{V2}/memory.events"], f"{V2}/memory.events"),
        ("0::/a:b/c\n", [f"{V2}/a:b/c/memory.events"], f"{V2}/a:b/c/memory.events"),
        ("1:name=systemd:/\n0::/a\n", [f"{V2}/a/memory.events"], f"{V2}/a/memory.events"),
        ("0::/a (deleted)\n", [f"{V2}/memory.events"], f"{V2}/memory.events"),
    ],
)
def test_our_own_group_is_the_one_that_accounts_for_us(
    tmp_path: Path, proc_self_cgroup: str, files: list[str], found: str
) -> None:
    plant(tmp_path, {**CONTROLLERS, **dict.fromkeys(files, events())})
    plant(tmp_path, {"proc/self/cgroup": proc_self_cgroup})
    group = own_cgroup(tmp_path, [])
    assert group.events == tmp_path / found
    assert group.note == ""


@pytest.mark.parametrize(
    ("proc_self_cgroup", "files", "note"),
    [
        ("4:memory:/x\n1:cpu:/x\n", {}, "memory is under cgroup v1"),
        (
            "4:cpu,memory:/x\n0::/\n",
            {f"{V2}/unified/cgroup.controllers": ""},
            "memory is under a hybrid of cgroup v1 and v2",
        ),
        ("0::/\n", {}, "cgroup v2 is not mounted here"),
        ("", {}, "cgroup v2 is not mounted here"),
        ("garbage\n", CONTROLLERS, "cgroup v2 is not mounted here"),
        ("0::/../b\n", CONTROLLERS, "'/../b' lies outside of this cgroup namespace"),
        ("0::/\n", CONTROLLERS, "'/' has none"),  # the machine's root group
        ("0::/" + "a/" * 3_000, CONTROLLERS, "has none"),
        ("0::/" + "n" * 5_000, CONTROLLERS, "has none"),
        ("0::/a\0b\n", CONTROLLERS, "has none"),
    ],
)
def test_a_group_that_counts_no_events_is_told_with_the_reason(
    tmp_path: Path, proc_self_cgroup: str, files: dict[str, str | bytes], note: str
) -> None:
    group = own_cgroup(plant(tmp_path, {**files, "proc/self/cgroup": proc_self_cgroup}), [])
    assert group.events is None
    assert note in group.note


def test_a_hybrid_still_has_pressure(tmp_path: Path) -> None:
    unified = f"{V2}/unified"
    plant(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/x\n0::/a\n",
            f"{unified}/cgroup.controllers": "",
            f"{unified}/a/memory.pressure": pressure(),
        },
    )
    assert own_cgroup(tmp_path, []).pressure == tmp_path / unified / "a/memory.pressure"


UID = "0b5f7c1e-77aa-4c1d-9d6b-2f1f4b6f0001"
UID_ = UID.replace("-", "_")
OTHER = "0b5f7c1e-77aa-4c1d-9d6b-2f1f4b6f0002"


@pytest.mark.parametrize(
    "folder",
    [
        f"kubepods.slice/kubepods-pod{UID_}.slice",
        f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice",
        f"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID_}.slice",
        f"kubepods/pod{UID}",
        f"kubepods/besteffort/pod{UID}",
        f"nodes/7/kubepods/burstable/pod{UID}",
    ],
)
def test_a_pods_group_is_found_as_both_of_kubelets_drivers_name_it(
    tmp_path: Path, folder: str
) -> None:
    container = "cri-containerd-7f.scope/memory.events"
    other = folder.replace(UID, OTHER).replace(UID_, OTHER.replace("-", "_"))
    plant(
        tmp_path,
        {
            f"{folder}/{container}": events(),
            f"{other}/{container}": events(),
            f"{other}/pod{UID}x/memory.events": events(),
            "system.slice/pay.service/memory.events": events(),
        },
    )
    assert pod_cgroup(tmp_path, UID) == tmp_path / folder
    assert pod_cgroup(tmp_path, UID[:-1]) is None
    assert pod_cgroup(tmp_path / "nowhere", UID) is None
