"""The keeper's own files: the interpreter that the box runs on, with just those libraries and modules that it loads.

An image may hold no interpreter, an old one, or one that lies. The kit is copied once for each version of its sources
into the box's folder and shown to every container read-only, in a place where only the keeper may enter.
"""

import hashlib
import json
import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from portway.box.isolation.seccomp import program_files
from portway.rpc.errors import Unavailable

INSIDE = "/.portway/kit"
# Where every loader looks for libraries to load first. The image's, if it has one, is not for the keeper: until that
# has begun an empty file of the kit is over it.
PRELOAD, NOTHING = "/etc/ld.so.preload", "nothing"
_SECONDS = 30
_ENTRY = "keeper.py"
_START = "import sys; sys.path.insert(0, {code!r}); from portway.box.backends.engine.keeper import main; main()"
# Loads what the keeper loads, and tells the files behind it: modules, and what the loader mapped.
_LOOK = """
import sys, json
sys.path[:] = json.loads(sys.argv[1])
import portway.box.backends.engine.keeper, encodings.ascii, encodings.latin_1, encodings.utf_8
modules = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
maps = sorted({line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if line.count("/")})
print(json.dumps([{name: file for name, file in modules.items() if file}, maps]))
"""


@dataclass(frozen=True, slots=True)
class Kit:
    """A kit on the disk, and how the keeper is started from it inside."""

    folder: Path
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Parts:
    modules: dict[str, str]
    mapped: tuple[str, ...]

    @property
    def libraries(self) -> list[str]:
        return [path for path in self.mapped if ".so" in Path(path).name and "/lib-dynload/" not in path]

    @property
    def loader(self) -> str | None:
        return next((path for path in self.libraries if Path(path).name.startswith(("ld-", "ld.", "ld64"))), None)


def make_kit(folder: Path) -> Kit:
    """The kit of this installation's interpreter and sources, made where it is not there yet. Raises `Unavailable`."""
    parts = _look()
    name = _digest(parts)
    ready = folder / name
    if not ready.is_dir():
        making = folder / f"{name}.{os.getpid()}.new"
        shutil.rmtree(making, ignore_errors=True)
        _fill(making, parts)
        for old in folder.iterdir():
            if old != making:
                shutil.rmtree(old, ignore_errors=True)
        making.rename(ready)
    return Kit(ready, _command(parts))


def _interpreter() -> str:
    """The real one behind a virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _look() -> _Parts:
    paths = json.dumps([path for path in sys.path if path])
    done = subprocess.run(
        [_interpreter(), "-I", "-S", "-c", _LOOK, paths], capture_output=True, timeout=_SECONDS, env={}, cwd="/"
    )
    if done.returncode != 0:
        raise Unavailable(f"the keeper's files cannot be looked up: {done.stderr.decode(errors='replace')[-300:]}")
    modules, maps = json.loads(done.stdout)
    return _Parts(modules, tuple(path for path in maps if os.path.isfile(path)))


def _digest(parts: _Parts) -> str:
    digest = hashlib.sha256(NOTHING.encode())
    for path in sorted({*parts.modules.values(), *parts.mapped, *map(str, program_files())}):
        info = os.stat(path)
        digest.update(f"{path}\0{info.st_size}\0{info.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:20]


def _standard() -> tuple[Path, str]:
    """Where the standard library is, and its name below the prefix, such as `lib/python3.11`."""
    library = Path(os.path.realpath(sysconfig.get_path("stdlib")))
    return library, f"{sys.platlibdir}/python{sysconfig.get_python_version()}"


def _fill(kit: Path, parts: _Parts) -> None:
    kit.mkdir(parents=True, mode=0o755)
    library, below = _standard()
    for name in ("bin", "lib", "code", f"{below}/lib-dynload"):
        (kit / name).mkdir(parents=True, exist_ok=True)
    _copy(Path(_interpreter()), kit / "bin" / "python")
    for path in parts.libraries:
        for name in _names_of(Path(path)):
            _copy(Path(path), kit / "lib" / name)
    for name, file in parts.modules.items():
        source = Path(os.path.realpath(file))
        if name.partition(".")[0] == "portway":
            _copy(source, kit / "code" / _place(name, source))
        elif source.is_relative_to(library):
            _copy(source, kit / below / source.relative_to(library))
        else:  # a module in a shared object, wherever the system keeps those
            _copy(source, kit / below / "lib-dynload" / source.name)
    # The landmark by which the interpreter finds its library.
    _copy(library / "os.py", kit / below / "os.py")
    for name, program in zip(("calls.bpf", "ioctl.bpf"), program_files(), strict=True):
        _copy(program, kit / name)
    (kit / NOTHING).touch()
    (kit / _ENTRY).write_text(_START.format(code=f"{INSIDE}/code"))
    for source in kit.rglob("*.py"):
        py_compile.compile(str(source), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    for made in (kit, *kit.rglob("*")):
        made.chmod(0o755 if made.is_dir() or made.parent.name in ("bin", "lib") else 0o644)


def _place(name: str, source: Path) -> str:
    """A module's file below the folder of its topmost package."""
    stem = name.replace(".", "/")
    return f"{stem}/__init__.py" if source.name == "__init__.py" else f"{stem}{source.suffix}"


def _names_of(library: Path) -> set[str]:
    """A library's own name and those of the links to it: programs ask for it by one of these."""
    links = {link.name for link in library.parent.glob("*.so*") if link.is_symlink() and link.resolve() == library}
    return {library.name, *links}


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copyfile(source, target)


def _command(parts: _Parts) -> tuple[str, ...]:
    program = (f"{INSIDE}/bin/python", "-I", "-S", "-B", f"{INSIDE}/{_ENTRY}")
    if parts.loader is None:
        return program
    # By name: the image's loader, if it has one, is another.
    return (f"{INSIDE}/lib/{Path(parts.loader).name}", "--library-path", f"{INSIDE}/lib", *program)
