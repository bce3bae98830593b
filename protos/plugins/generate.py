"""Generate gen/ from protos/ and leave nothing else there (`make gen`).

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
    subprocess.run(["buf", "generate", "-o", str(out)], cwd=ROOT, env={**os.environ, "PATH": path}, check=True)


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


def bring_up_to_date(made: Path, kept: Path) -> tuple[int, int]:
    """Copy what differs and delete what is no longer made; returns how many files were written and deleted."""
    wanted = {path.relative_to(made): path.read_bytes() for path in made.rglob("*") if path.is_file()}
    written = deleted = 0
    for name, content in wanted.items():
        target = kept / name
        if not target.is_file() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            written += 1
    for path in sorted(kept.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        elif path.is_file() and path.suffix != ".pyc" and path.relative_to(kept) not in wanted:
            path.unlink()
            deleted += 1
    return written, deleted


def main() -> int:
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
        written, deleted = bring_up_to_date(out, ROOT / "gen")
    print(f"make gen: {written} files written, {deleted} deleted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
