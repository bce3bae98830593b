"""The examples in Go and TypeScript, built once for each state of their sources and of the contract."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "clients" / "examples"
PROTOS = ROOT / "protos"
_MADE = shutil.ignore_patterns("build", "node_modules", "contract", "worker", "*.pyc")
_BUILD_SECONDS = 280


def built_go() -> Path:
    """The folder of the plugin in Go."""
    _needs("go", "install Go to run the plugin in Go")
    return _built("go")


def built_node() -> Path:
    """The folder of the plugin in TypeScript."""
    _needs("node", "install Node.js to run the plugin in TypeScript")
    _needs("npm", "install npm to build the plugin in TypeScript")
    return _built("node")


def _needs(program: str, advice: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not on the PATH: {advice}")
    if shutil.which("make") is None:
        pytest.skip("make is not on the PATH: install it to build plugins in other languages")


def _built(name: str) -> Path:
    """Several test processes may ask at the same time: the first one builds."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "portway-test-plugins"
    cache.mkdir(parents=True, exist_ok=True)
    digest = _digest(EXAMPLES / name)
    folder = cache / f"{name}-{digest}"
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _build(EXAMPLES / name, folder)
    return folder


def _build(source: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, ignore=_MADE)
    shutil.copytree(PROTOS, folder / "protos", ignore=shutil.ignore_patterns("plugins", "*.binpb"))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["make"],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=_BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"make failed in {folder}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    (folder / "complete").touch()


def _digest(source: Path) -> str:
    made = {"build", "node_modules", "contract", "worker"}
    files = [path for path in source.rglob("*") if path.is_file() and not made & set(path.relative_to(source).parts)]
    files += PROTOS.rglob("*.proto")
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
