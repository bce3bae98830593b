"""Generate gen/ from protos/ and leave nothing else there (`make gen`); --check only says whether it is up to date.

Everything is generated in a temporary folder first, so that a contract which does not compile leaves gen/ as it was and
a process that imports gen/ meanwhile never sees half of it. Afterwards:

* the module of buf.validate moves under portway.vendored, because a top-level package `buf` is not ours to install;
* gRPC modules of files without a service, which hold nothing, are left out;
* `py.typed` marks what type checkers may read.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENDORED = "portway.vendored.buf"
IMPORTS_OF_BUF = re.compile(r"^(from|import) buf\.", re.MULTILINE)
NAMES_OF_BUF = re.compile(r"(?<![\w.])buf\.validate\b(?=\.validate_pb2)")
TYPED_FOLDERS = ("portway/v1", "portway/vendored", "stubs")


def generate_into(out: Path) -> None:
    # The plugins are found beside the interpreter: the virtual environment need not be activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = ["buf", "generate", "-o", str(out)]
    # What plugins say of their progress is noise; what they say of a mistake comes with the exit code.
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path}, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        print(done.stderr, file=sys.stderr)
    done.check_returncode()


def move_vendored(out: Path) -> None:
    (out / "portway" / "vendored").mkdir(parents=True)
    (out / "buf").rename(out / "portway" / "vendored" / "buf")
    for path in [*out.glob("portway/**/*.py"), *out.glob("portway/**/*.pyi")]:
        text = path.read_text(encoding="utf-8")
        moved = NAMES_OF_BUF.sub(f"{VENDORED}.validate", IMPORTS_OF_BUF.sub(rf"\1 {VENDORED}.", text))
        if moved != text:
            path.write_text(moved, encoding="utf-8")


def drop_empty_services(out: Path) -> None:
    for path in out.glob("portway/**/*_pb2_grpc.py"):
        if "Servicer" not in path.read_text(encoding="utf-8"):
            path.unlink()
            path.with_suffix(".pyi").unlink()


def mark_typed(out: Path) -> None:
    for folder in TYPED_FOLDERS:
        (out / folder / "py.typed").touch()


def differences(made: Path, kept: Path) -> tuple[dict[Path, bytes], list[Path]]:
    """What is to be written to `kept`, by relative path, and which of its files are no longer made."""
    wanted = {path.relative_to(made): path.read_bytes() for path in made.rglob("*") if path.is_file()}
    there = {path.relative_to(kept) for path in kept.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    written = {
        name: content for name, content in wanted.items() if name not in there or (kept / name).read_bytes() != content
    }
    return written, sorted(there - wanted.keys())


def bring_up_to_date(kept: Path, written: dict[Path, bytes], deleted: list[Path]) -> None:
    for name, content in written.items():
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        (kept / name).write_bytes(content)
    for name in deleted:
        (kept / name).unlink()
    for folder in sorted((path for path in kept.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def main() -> int:
    checking = "--check" in sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="portway-gen-") as folder:
        out = Path(folder)
        try:
            generate_into(out)
        except subprocess.CalledProcessError as error:
            print(f"make gen: buf stopped with exit code {error.returncode}; gen/ is unchanged", file=sys.stderr)
            return 1
        move_vendored(out)
        drop_empty_services(out)
        mark_typed(out)
        written, deleted = differences(out, ROOT / "gen")
        if checking and (written or deleted):
            names = ", ".join(str(name) for name in [*written, *deleted][:5])
            print(f"gen/ is not what protos/ makes ({names}, …): run `make gen` and commit it", file=sys.stderr)
            return 1
        bring_up_to_date(ROOT / "gen", written, deleted)
    print(f"make gen: {len(written)} files written, {len(deleted)} deleted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
