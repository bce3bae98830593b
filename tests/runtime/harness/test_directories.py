"""Working directories of the machine are judged by what the kernel finds, never by their names."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from portway.runtime.harness.machine_policy import MachinePolicy, allowed_directory
from portway.runtime.harness.machine_program import start_program
from portway.runtime.sdk import BoxOutput, RunFailure


@pytest.fixture
def allowed(tmp_path: Path) -> Path:
    for name in ("srv/agents/deep/er", "srv/agents2", "srv/other"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path / "srv" / "agents"


def found(directory: object, *roots: Path) -> os.stat_result:
    with allowed_directory(str(directory), MachinePolicy([str(one) for one in roots], 7.0)) as descriptor:
        return os.fstat(descriptor)


def is_same(one: os.stat_result, path: Path) -> bool:
    return (one.st_dev, one.st_ino) == (path.stat().st_dev, path.stat().st_ino)


@pytest.mark.parametrize(
    "name",
    ["", "/", "///", "/.", "/deep", "//deep//er/", "/deep/./er", "/deep/../deep", "/deep/er/../..", "/../agents/deep"],
)
def test_what_lies_beneath_is_allowed_however_it_is_written(allowed: Path, name: str) -> None:
    assert is_same(found(f"{allowed}{name}", allowed), Path(f"{allowed}{name}"))
    # Through the root of the process's own view, which is the same root.
    assert is_same(found(f"/proc/self/root{allowed}{name}", allowed), Path(f"{allowed}{name}"))


@pytest.mark.parametrize(
    "name", ["/..", "/../other", "/deep/../../agents2", "2", "/nothing", "/DEEP", "/deep/er/../../../..", "/deep\0/x"]
)
def test_what_leads_out_is_refused_however_it_is_written(allowed: Path, name: str) -> None:
    for before in ("", "/proc/self/root"):
        with pytest.raises(RunFailure) as refused:
            found(f"{before}{allowed}{name}", allowed)
        assert refused.value.error.code == "harness.no_place"
        assert "working_directories" in refused.value.error.message


def test_links_are_what_they_point_at(allowed: Path) -> None:
    outside, inside = allowed.parent / "other", allowed / "deep"
    (allowed / "out").symlink_to(outside)
    (outside / "in").symlink_to(inside)
    (allowed / "chain").symlink_to(allowed / "out")
    (allowed / "loop").symlink_to(allowed / "loop")
    (allowed / "file").write_text("no directory")
    for name in ("out", "chain", "out/", "loop", "file"):
        with pytest.raises(RunFailure):
            found(allowed / name, allowed)
    with pytest.raises(RunFailure):
        found(f"{allowed}/out/..", allowed)
    assert is_same(found(outside / "in", allowed), inside)
    # A root that is a link allows what it points at; one that is not there allows nothing.
    assert is_same(found(outside, allowed / "out"), outside)
    with pytest.raises(RunFailure):
        found(allowed, allowed / "never")


def test_no_directory_has_a_second_name_by_a_hard_link(allowed: Path) -> None:
    with pytest.raises(PermissionError):
        os.link(allowed.parent / "other", allowed / "hard")


@contextmanager
def swapping(link: Path, *targets: Path) -> Iterator[None]:
    """A name that means another directory at every moment."""
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for number, target in enumerate(targets):
                new = link.with_name(f"{link.name}.{number}")
                new.symlink_to(target)
                new.replace(link)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_name_that_changes_all_the_time_never_leads_out(allowed: Path) -> None:
    link, inside, outside = allowed / "moving", allowed / "deep", allowed.parent / "other"
    link.symlink_to(inside)
    seen = {True: 0, False: 0}
    with swapping(link, outside, inside):
        while min(seen.values()) < 50:
            try:
                assert is_same(found(link, allowed), inside)
                seen[True] += 1
            except RunFailure:
                seen[False] += 1


async def test_what_was_judged_is_where_the_program_starts(allowed: Path, tmp_path: Path) -> None:
    """The name is swapped between the check and the use: nobody looks at it again."""
    link, inside, outside = allowed / "moving", allowed / "deep", allowed.parent / "other"
    link.symlink_to(inside)
    script = "import os; here = os.stat('.'); print(here.st_ino)"
    with allowed_directory(str(link), MachinePolicy([str(allowed)], 7.0)) as descriptor:
        link.unlink()
        link.symlink_to(outside)
        shutil.move(inside, allowed / "renamed")
        tag = f"{tmp_path}/tag"
        argv = [sys.executable, "-c", script]
        async with start_program(argv, {"TMPDIR": tag}, descriptor, tag) as program:
            said = b"".join([one.data async for one in program.output() if isinstance(one, BoxOutput)])
    assert int(said) == (allowed / "renamed").stat().st_ino


_MOUNTS = """
import os, sys
from portway.runtime.harness.machine_policy import MachinePolicy, allowed_directory
from portway.runtime.sdk import RunFailure
policy = MachinePolicy([sys.argv[1]], 7.0)
for name in sys.argv[2:]:
    try:
        with allowed_directory(name, policy) as found:
            print("allowed", os.readlink(f"/proc/self/fd/{found}"))
    except RunFailure:
        print("refused", name)
"""


def test_mounts_that_the_operator_made_count_as_they_lie(allowed: Path) -> None:
    """An allowed directory that is seen elsewhere is the same one; what is mounted beneath it lies beneath it; and what
    is above the place of a mount is what the kernel says."""
    other, seen = allowed.parent / "other", allowed.parent / "seen"
    seen.mkdir()
    (allowed / "mounted").mkdir()
    line = f"mount --bind {allowed} {seen} && mount --bind {other} {allowed}/mounted && exec "
    names = [seen / "deep", allowed / "mounted", f"{allowed}/mounted/..", f"{allowed}/mounted/../..", other]
    command = ["unshare", "-rm", "sh", "-c", line + '"$@"', "sh", sys.executable, "-c", _MOUNTS, str(allowed)]
    done = subprocess.run([*command, *map(str, names)], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        pytest.skip(f"no mounts can be made here: {done.stderr.strip()[-200:]}")
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "allowed",
        "allowed",
        "allowed",
        "refused",
        "refused",
    ]
