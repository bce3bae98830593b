"""Control groups of either generation: found where they are mounted, limited by the files that they have."""

from pathlib import Path

import pytest

from portway.box.isolation.cgroups import CgroupTree
from portway.box.isolation.limits import MEBI, Limits
from portway.rpc.control_groups import Placed, find_hierarchies

LIMITS = Limits(cpu_millis=1500, memory_bytes=64 * MEBI, pids=20, own_processes=5)
MEMBERS = "cgroup.procs"


def machine(folder: Path, memberships: str, mounts: list[str]) -> Path:
    """What /proc/self would say on a machine with these mounts below `folder`."""
    proc = folder / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text(memberships)
    lines = [f"{number} 1 0:{number} {mount}\n" for number, mount in enumerate(mounts, 30)]
    (proc / "mountinfo").write_text("".join(lines))
    return proc


def test_a_machine_with_the_second_generation_only(tmp_path: Path) -> None:
    own = tmp_path / "cg" / "system.slice" / "box.service"
    own.mkdir(parents=True)
    (tmp_path / "cg" / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids rdma\n")
    mounts = [f"/ {tmp_path}/cg rw - cgroup2 cgroup2 rw,nsdelegate"]
    (found,) = find_hierarchies(machine(tmp_path, "0::/system.slice/box.service\n", mounts))
    assert (found.version, found.own) == (2, own)
    assert found.kinds == {"cpu", "cpuacct", "memory", "pids", "kill"}


def test_a_machine_with_both_at_once(tmp_path: Path) -> None:
    for name in ("memory/own", "cpu,cpuacct", "pids", "unified"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "unified" / "cgroup.controllers").write_text("hugetlb\n")
    mounts = [
        f"/ {tmp_path}/memory rw - cgroup cgroup rw,memory",
        f"/ {tmp_path}/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
        f"/ {tmp_path}/pids rw - cgroup cgroup rw,pids",
        f"/ {tmp_path}/named rw - cgroup cgroup rw,name=systemd",
        f"/ {tmp_path}/unified rw - cgroup2 cgroup2 rw",
        "/ / rw - ext4 /dev/vda rw",
    ]
    text = "4:memory:/own\n3:cpu,cpuacct:/\n2:pids:/\n1:name=systemd:/\n0::/\n"
    found = {tuple(sorted(one.kinds)): one for one in find_hierarchies(machine(tmp_path, text, mounts))}
    assert found.keys() == {("memory",), ("cpu", "cpuacct"), ("pids",), ("kill",)}
    assert found["memory",].own == tmp_path / "memory" / "own"
    assert {one.version for one in found.values()} == {1, 2}


def test_a_container_that_sees_only_its_own_part(tmp_path: Path) -> None:
    (tmp_path / "memory" / "inner").mkdir(parents=True)
    mounts = [f"/docker/abc {tmp_path}/memory rw - cgroup cgroup rw,memory"]
    (found,) = find_hierarchies(machine(tmp_path, "4:memory:/docker/abc/inner\n", mounts))
    assert found.own == tmp_path / "memory" / "inner"


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (
            1,
            {
                "memory.limit_in_bytes": str(64 * MEBI),
                "memory.memsw.limit_in_bytes": str(64 * MEBI),
                "cpu.cfs_quota_us": "150000",
                "pids.max": "25",
                "devices.deny": "a",
            },
        ),
        (2, {"memory.max": str(64 * MEBI), "memory.swap.max": "0", "cpu.max": "150000 100000", "pids.max": "25"}),
    ],
)
def test_limits_are_written_where_each_generation_wants_them(
    tmp_path: Path, version: int, expected: dict[str, str]
) -> None:
    kinds = frozenset({"memory", "pids", "cpu", "cpuacct", "devices"} - ({"devices"} if version == 2 else set()))
    tree = CgroupTree("name", [Placed(version, kinds, tmp_path)], [])
    tree.create("key", LIMITS)
    written = {file.name: file.read_text() for file in (tmp_path / "key").iterdir() if file.is_file()}
    assert expected.items() <= written.items()
    if version == 2:
        assert written["cgroup.subtree_control"] == "+cpu +memory +pids"


def test_counts_are_read_from_the_files_of_the_second_generation(tmp_path: Path) -> None:
    kinds = frozenset({"memory", "pids", "cpu", "cpuacct", "kill"})
    lane = CgroupTree("name", [Placed(2, kinds, tmp_path)], []).create("key", LIMITS).lane(1)
    own = tmp_path / "key" / "lane1"
    assert (own / "pids.max").read_text() == "22"
    (own / "cpu.stat").write_text("usage_usec 500000\nuser_usec 1\n")
    (own / "memory.events").write_text("low 0\noom_kill 0\n")
    (own / MEMBERS).write_text("")
    lane.begin()
    (own / "cpu.stat").write_text("usage_usec 2000000\nuser_usec 1\n")
    (own / "memory.peak").write_text("4096\n")
    (own / "memory.events").write_text("low 0\noom_kill 1\n")
    counted = lane.counted()
    assert (counted.cpu_seconds, counted.peak_memory, counted.out_of_memory) == (1.5, 4096, True)
    assert lane.is_empty()
