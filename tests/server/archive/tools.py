"""The tools as a person starts them, and a host with something to lose."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portway.server.storage_engine.database import Database, DatabaseOptions, open_database


@dataclass(frozen=True, slots=True)
class Done:
    """How a tool ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


async def begin(*arguments: str | Path) -> asyncio.subprocess.Process:
    """Start a tool."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "portway.server.archive", *map(str, arguments)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("PORTWAY")},
    )


async def tool(*arguments: str | Path) -> Done:
    """Run a tool to its end."""
    process = await begin(*arguments)
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


def opened(folder: Path) -> Any:
    """The database of a host's folder."""
    return open_database(DatabaseOptions(url=f"sqlite:///{folder / 'portway.db'}"))


async def rows(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    """What a query finds in a host's folder."""
    async with opened(folder) as database:
        return await asked(database, sql)


async def asked(database: Database, sql: str) -> list[tuple[Any, ...]]:
    return await database.reader.run(lambda tx: tx.all(sql))
