"""What a sandbox needs to see to run the tests' MCP server: the machine's Python and the library's files."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import mcp

from portway.v1 import session_pb2, tool_pb2
from tests.waiting import text_of

PROGRAM_FOLDER = Path(__file__).resolve().parent
PACKAGES = Path(mcp.__file__).resolve().parents[1]
PYTHON = "/usr/bin/python3"


@cache
def why_not_here() -> str:
    """Why the library of this installation cannot run in a sandbox of this machine; empty where it can."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not Path(PYTHON).exists():
        return f"there is no {PYTHON}"
    asked = subprocess.run(
        [PYTHON, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True, check=False
    )
    if asked.stdout.strip() != version:
        return f"{PYTHON} is Python {asked.stdout.strip() or 'broken'}, and the library is installed for {version}"
    return ""


@dataclass
class BoxedServer:
    """A folder that its session may write to, and what is counted there."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir()
        # The session's user is nobody that the machine knows.
        self.folder.chmod(0o777)
        programs = self.folder.parent / "programs"
        programs.mkdir()
        programs.chmod(0o755)
        for file in PROGRAM_FOLDER.glob("*_program.py"):
            shutil.copy(file, programs)

    @property
    def counted(self) -> list[str]:
        return text_of(self.folder / "count").split()

    def written(self, program: str = "server_program.py", **more: object) -> tool_pb2.McpServer:
        message = tool_pb2.McpServer(
            server_id="tests",
            command=[PYTHON, f"/opt/programs/{program}", "stdio", "/opt/notes/port", "/opt/notes/count"],
            env={"PYTHONPATH": "/opt/packages", "PYTHONDONTWRITEBYTECODE": "1"},
            mounts=[
                session_pb2.Mount(source=str(PACKAGES), target="/opt/packages", mode=session_pb2.MOUNT_MODE_READ_ONLY),
                session_pb2.Mount(
                    source=str(self.folder.parent / "programs"),
                    target="/opt/programs",
                    mode=session_pb2.MOUNT_MODE_READ_ONLY,
                ),
                session_pb2.Mount(source=str(self.folder), target="/opt/notes", mode=session_pb2.MOUNT_MODE_READ_WRITE),
            ],
        )
        message.MergeFrom(tool_pb2.McpServer(**more))  # type: ignore[arg-type]  # fields by name
        return message
