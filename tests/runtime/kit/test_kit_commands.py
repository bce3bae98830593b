"""`portway plugin new`, `run`, `test` and `pack`, as an author types them."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from portway.runtime.plugins.plugin_manifest import read_plugin

EXAMPLE = Path(__file__).parents[3] / "clients" / "examples" / "echo_plugin"
SECONDS = 200


def portway(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "portway.clients.cli.main", "plugin", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def made(folder: Path, *options: str) -> Path:
    done = portway("new", "mine", "--author", "somebody", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "mine"


@pytest.mark.parametrize("kind", ["runner", "tool", "knowledge", "parser", "listener"])
def test_a_new_plugin_has_the_authors_names_and_no_problem(tmp_path: Path, kind: str) -> None:
    plugin = read_plugin(made(tmp_path, "--kind", kind), bundled=False)
    assert plugin.id == "somebody/mine"
    assert not plugin.problems


@pytest.mark.parametrize("template", ["go", "node"])
def test_a_new_plugin_of_another_language_has_the_contract_beside_it(tmp_path: Path, template: str) -> None:
    folder = made(tmp_path, "--template", template)
    assert "author: somebody\nname: mine\n" in (folder / "manifest.yaml").read_text()
    assert "clients/examples" not in (folder / "README.md").read_text()
    assert (folder / "protos" / "portway" / "v1" / "worker.proto").exists()
    assert (folder / "protos" / "buf" / "validate" / "validate.proto").exists()
    assert not (folder / "protos" / "portway" / "v1" / "box.proto").exists()


@pytest.mark.heavy
@pytest.mark.parametrize(("template", "program", "count"), [("go", "go", 44), ("node", "npm", 26)])
def test_a_new_plugin_of_another_language_is_built_and_passes(
    tmp_path: Path, template: str, program: str, count: int
) -> None:
    if shutil.which(program) is None or shutil.which("make") is None:
        pytest.skip(f"{program} or make is not on the PATH: install it to build a plugin with the template {template}")
    folder = made(tmp_path, "--template", template)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(["make"], cwd=folder, env={**os.environ, "PATH": path}, timeout=SECONDS, check=True)
    done = portway("test", str(folder), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("  pass  ") == count
    assert portway("pack", str(folder), cwd=tmp_path).stdout == "somebody-mine-1.0.0.zip\n"


def test_a_run_shows_what_the_plugin_says_and_prints(tmp_path: Path) -> None:
    done = portway("run", str(made(tmp_path)), "hello there", "--config", "prefix='>'", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "message: > hello there (1)\ncompleted\n" in done.stdout


def test_the_suite_tells_each_behaviour(tmp_path: Path) -> None:
    done = portway("test", str(made(tmp_path)), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "plugin:somebody/mine/default"
    assert len([line for line in lines if line.startswith("  pass  ")]) == 6
    assert lines[-2].startswith("not tried: 14 behaviours")
    assert lines[-1] == "all passed"


def test_the_suite_fails_a_plugin_that_does_not_start_and_says_why(tmp_path: Path) -> None:
    folder = made(tmp_path)
    (folder / "echo.py").write_text("import no_such_module\n")
    done = portway("test", str(folder), cwd=tmp_path)
    assert done.returncode == 1
    assert "FAIL  ends a run with one terminal result" in done.stdout
    assert "no_such_module" in done.stdout


def test_the_same_files_are_packed_as_the_same_bytes_and_come_back_whole(tmp_path: Path) -> None:
    folder = made(tmp_path)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "echo.pyc").write_text("left by a run")
    (folder / "tool").write_text("#!/bin/sh\n")
    (folder / "tool").chmod(0o750)
    first, second = tmp_path / "first.zip", tmp_path / "second.zip"
    assert portway("pack", str(folder), "-o", str(first), cwd=tmp_path).returncode == 0
    for path in folder.rglob("*"):
        path.touch()
    assert portway("pack", "mine", "-o", str(second), cwd=tmp_path).returncode == 0
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert archive.namelist() == sorted(archive.namelist())
        assert not [name for name in archive.namelist() if "pycache" in name]
        assert archive.getinfo("tool").external_attr >> 16 == 0o100755
        archive.extractall(tmp_path / "unpacked")
    assert read_plugin(tmp_path / "unpacked", bundled=False).id == "somebody/mine"


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "manifest.yaml").write_text("author: somebody\n"), "manifest.yaml: name"),
        (lambda folder: (folder / "components" / "default.yaml").write_text("kind: Nothing\n"), "default.yaml"),
        (lambda folder: (folder / "link").symlink_to("/etc/passwd"), "is a link"),
    ],
)
def test_what_could_not_be_installed_is_not_packed(tmp_path: Path, spoil: object, told: str) -> None:
    folder = made(tmp_path)
    assert callable(spoil)
    spoil(folder)
    done = portway("pack", str(folder), cwd=tmp_path)
    assert done.returncode == 1
    assert told in done.stderr
    assert not list(tmp_path.glob("*.zip")) and not list(tmp_path.glob(".*.zip*"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("new", "mine"), "is there already"),
        (("new", "Not A Name"), "is no name"),
        (("run", "nowhere", "hello"), "is no folder"),
        (("run", "mine", "hello", "--runner", "other"), "has no runner 'other'"),
        (("run", "mine", "hello", "--config", "prefix"), "write NAME=VALUE"),
        (("pack", "mine", "-o", "/no/such/folder/mine.zip"), "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    made(tmp_path)
    done = portway(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
