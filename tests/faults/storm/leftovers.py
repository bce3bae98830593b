"""What an installation leaves in the machine, found by its folder."""

from contextlib import suppress
from pathlib import Path

from tests.e2e.stack import alive


def processes_of(folder: Path) -> list[str]:
    """Processes that name the folder in their arguments, stand in it or have it in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            said = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            there = str(folder).encode() in said or str((entry / "cwd").resolve()).startswith(str(folder))
            if there and alive(int(entry.name)):
                found.append(f"{entry.name} {said.split(bytes(2))[0][:200].decode(errors='replace')}")
    return found
