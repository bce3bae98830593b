"""Runs the benchmarks of this folder, one after the other, each in a process of its own (`make bench`).

    .venv/bin/python -m bench [--quick | --full] [NAME …]

Each measures its floor in the same run. None is a test: nothing fails for being slow. The results are kept as JSON in
bench/results/latest.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from bench.kit.machine import describe
from bench.kit.rows import Row, read_rows, table

HERE = Path(__file__).parent
LATEST = HERE / "results" / "latest.json"


def main() -> int:
    names = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(names)}; all if none is given")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="measure for a short time")
    length.add_argument("--full", action="store_true", help="measure for as long as it takes")
    given = parser.parse_args()
    if unknown := set(given.names) - set(names):
        parser.error(f"no benchmark called {', '.join(sorted(unknown))}; there are: {', '.join(names)}")
    begun = time.perf_counter()
    machine = describe(HERE)
    for name, value in machine.items():
        print(f"{name:10} {value}", flush=True)
    options = ["--quick"] if given.quick else ["--full"] if given.full else []
    rows: list[Row] = []
    failed: list[str] = []
    for name in given.names or names:
        print(f"\n== {name}", flush=True)
        found = run(name, options)
        if found is None:
            failed.append(name)
        else:
            rows += found
    print(f"\n== all, {time.perf_counter() - begun:.0f} s\n{table(rows)}", flush=True)
    keep(machine, rows)
    if failed:
        print(f"did not finish: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def run(name: str, options: list[str]) -> list[Row] | None:
    """Its results; None where it did not come to its end."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        command = [sys.executable, "-m", f"bench.{name}", *options, "--rows", str(rows)]
        if subprocess.run(command, cwd=HERE.parent, check=False).returncode:
            return None
        return read_rows(rows)


def keep(machine: dict[str, str], rows: list[Row]) -> None:
    LATEST.parent.mkdir(exist_ok=True)
    content = {"machine": machine, "rows": [asdict(row) | {"ratio": row.ratio} for row in rows]}
    LATEST.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
