"""Results: a table for people, and rows for whoever runs several benchmarks."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Goal:
    """What was wanted, and whether it was reached."""

    text: str
    met: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One result. `floor` is what was measured beside it, in the same unit; None where there is nothing to compare."""

    what: str
    measured: float
    unit: str
    floor: float | None = None
    goal: Goal | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.measured / self.floor if self.floor else None


@dataclass(frozen=True, slots=True)
class Options:
    """What every benchmark is asked: to measure for a short or a long time, and to write its results to `rows`."""

    quick: bool = False
    full: bool = False
    rows: Path | None = None

    def pick(self, quick: int, usual: int, full: int = 0) -> int:
        return quick if self.quick else full if self.full and full else usual


def at_most(row_value: float, limit: float, unit: str) -> Goal:
    return Goal(f"≤ {number(limit)} {unit}", row_value <= limit)


def at_least(row_value: float, limit: float, unit: str) -> Goal:
    return Goal(f"≥ {number(limit)} {unit}", row_value >= limit)


def of_floor(row_value: float, floor: float, share: float) -> Goal:
    """For rates: at least so much of the floor."""
    return Goal(f"≥ {share:.0%} of floor", row_value >= share * floor)


def times_floor(row_value: float, floor: float, factor: float) -> Goal:
    """For times: at most so many floors."""
    return Goal(f"≤ {factor:g} × floor", row_value <= factor * floor)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="measure for a short time")
    parser.add_argument("--full", action="store_true", help="measure for as long as it takes")
    parser.add_argument("--rows", type=Path, help="write the results there as JSON")


def options_of(given: argparse.Namespace) -> Options:
    return Options(given.quick, given.full, given.rows)


def read_options(description: str | None) -> Options:
    """For benchmarks without arguments of their own."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    return options_of(parser.parse_args())


def number(value: float) -> str:
    """Three digits that say something, whatever the size."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def table(rows: Sequence[Row]) -> str:
    """As people read it."""
    cells: list[tuple[str, ...]] = [("what", "measured", "floor", "ratio", "goal", "met")]
    cells += [_cells(row) for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(6)]
    lines = ["  ".join(_aligned(line, widths)).rstrip() for line in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def tell(rows: Sequence[Row], options: Options) -> None:
    """Print the results, and write them where that was asked."""
    print(table(rows))
    for row in rows:
        if row.note:
            print(f"{row.what}: {row.note}")
    sys.stdout.flush()
    if options.rows is not None:
        write_rows(rows, options.rows)


def write_rows(rows: Sequence[Row], path: Path) -> None:
    content = json.dumps([asdict(row) | {"ratio": row.ratio} for row in rows], ensure_ascii=False, indent=1)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(content + "\n", encoding="utf-8")
    temporary.rename(path)


def read_rows(path: Path) -> list[Row]:
    """What `write_rows` wrote."""
    rows = []
    for one in json.loads(path.read_text(encoding="utf-8")):
        goal = Goal(**one["goal"]) if one["goal"] else None
        rows.append(Row(one["what"], one["measured"], one["unit"], one["floor"], goal, one["note"]))
    return rows


def _cells(row: Row) -> tuple[str, ...]:
    floor = f"{number(row.floor)} {row.unit}" if row.floor is not None else ""
    ratio = "" if row.ratio is None else f"{row.ratio:.0%}" if row.ratio < 2 else f"{row.ratio:.1f} ×"
    goal, met = (row.goal.text, "yes" if row.goal.met else "NO") if row.goal else ("", "")
    return row.what, f"{number(row.measured)} {row.unit}", floor, ratio, goal, met


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *middle = line[:4]
    numbers = [text.rjust(width) for text, width in zip(middle, widths[1:4], strict=True)]
    return [first.ljust(widths[0]), *numbers, line[4].ljust(widths[4]), line[5]]
