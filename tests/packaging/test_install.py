"""What is installed is `portway` alone, however it is installed, and it can be imported from anywhere."""

import json
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "node_modules", "__pycache__", "build", "*.egg-info", ".*_cache")
LEFT_OUT_AT_THE_ROOT = {"data", "dist", "test-results"}
PARTS = ("server", "runtime", "box", "adapters", "clients", "rpc", "v1", "stubs", "vendored")
NOT_AT_TOP_LEVEL = (*PARTS, "gen", "protos", "tests", "bench", "buf")
IMPORTS = (
    "portway.server",
    "portway.box",
    "portway.rpc.serving",
    "portway.v1.run_pb2_grpc",
    "portway.stubs.portway.v1",
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy to build in: building leaves its traces beside the code, and other tests run meanwhile."""

    def left_out(folder: str, names: list[str]) -> set[str]:
        return LEFT_OUT(folder, names) | (LEFT_OUT_AT_THE_ROOT if Path(folder) == ROOT else set())

    return shutil.copytree(ROOT, tmp_path / "source", symlinks=True, ignore=left_out)


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """An empty virtual environment that sees the packages of this one, but not how this one installed Portway."""
    run(sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv"))
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    # A path named in a .pth file is searched for packages; .pth files found there are not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return tmp_path / "venv"


def run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


def pip(*arguments: str, cwd: Path | None = None) -> str:
    return run(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments, cwd=cwd)


def build_wheel(of: Path, into: Path) -> Path:
    pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(into), str(of))
    (wheel,) = into.glob("portway-*.whl")
    return wheel


def build_sdist(source: Path, into: Path) -> Path:
    into.mkdir()
    run(sys.executable, "-c", f"from setuptools import build_meta; build_meta.build_sdist({str(into)!r})", cwd=source)
    (sdist,) = into.glob("portway-*.tar.gz")
    return sdist


def install(environment: Path, *what: str) -> None:
    python = str(environment / "bin" / "python")
    pip("--python", python, "install", "--no-deps", "--no-index", "--no-build-isolation", *what)


def modules_of(source: Path) -> set[str]:
    """What must be in a wheel: all code, its types, and the files that packages carry in `data` folders."""
    found = set()
    for part in PARTS:
        folder = (source / "src/portway" / part).resolve()
        paths = [path for pattern in ("*.py", "*.pyi", "py.typed", "data/**/*") for path in folder.rglob(pattern)]
        found |= {f"portway/{part}/{path.relative_to(folder).as_posix()}" for path in paths if path.is_file()}
    return found


def what_is_there(environment: Path) -> dict[str, dict[str, str | None]]:
    """Where modules come from, seen from a folder that has nothing to do with the project."""
    program = f"""
import importlib, importlib.util, json, sys
here = {{name: importlib.import_module(name).__spec__.origin for name in {IMPORTS!r}}}
sys.path[:] = [path for path in sys.path if path != {sysconfig.get_path("purelib")!r}]
sys.path_importer_cache.clear()
top = {{name: str(importlib.util.find_spec(name)) for name in {NOT_AT_TOP_LEVEL!r} if importlib.util.find_spec(name)}}
print(json.dumps({{"imported": here, "top": top}}))
"""
    found: dict[str, dict[str, str | None]] = json.loads(
        run(str(environment / "bin" / "python"), "-I", "-c", program, cwd=Path("/"))
    )
    return found


def files_of(plugin: Path) -> set[str]:
    """Without what building leaves, and what only git reads."""
    built = {"build", "node_modules", "contract", "worker", ".gitignore", "__pycache__"}
    names = [path.relative_to(plugin) for path in plugin.rglob("*") if path.is_file()]
    return {name.as_posix() for name in names if not built & set(name.parts)}


def test_the_wheel_installs_portway_alone_and_whole(source: Path, environment: Path, tmp_path: Path) -> None:
    wheel = build_wheel(source, tmp_path / "wheels")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"portway"}
    assert modules_of(source) <= names
    install(environment, str(wheel))
    found = what_is_there(environment)
    assert found["top"] == {}
    assert all(origin is None or origin.startswith(str(environment)) for origin in found["imported"].values())
    for template, example in (("python", "echo_plugin"), ("tool", "tool_plugin"), ("go", "go"), ("node", "node")):
        new = ("-I", "-m", "portway.runtime.kit", "new", example.replace("_", "-"), "--template", template)
        run(str(environment / "bin" / "python"), *new, cwd=tmp_path)
        made = files_of(tmp_path / example.replace("_", "-"))
        assert files_of(source / "clients" / "examples" / example) <= made
        assert ("protos/portway/v1/worker.proto" in made) == (template in ("go", "node"))


def test_a_wheel_made_from_the_source_distribution_is_the_same(source: Path, tmp_path: Path) -> None:
    sdist = build_sdist(source, tmp_path / "sdist")
    from_sdist = zipfile.ZipFile(build_wheel(sdist, tmp_path / "from_sdist"))
    from_source = zipfile.ZipFile(build_wheel(source, tmp_path / "from_source"))
    assert set(from_sdist.namelist()) == set(from_source.namelist())


def test_an_editable_install_imports_the_folders_at_the_root(source: Path, environment: Path) -> None:
    install(environment, "--editable", str(source))
    found = what_is_there(environment)
    assert found["top"] == {}
    assert found["imported"]["portway.rpc.serving"] == str(source / "src/portway/rpc/serving.py")
