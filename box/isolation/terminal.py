"""The size of a terminal."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TerminalSize:
    rows: int
    columns: int
