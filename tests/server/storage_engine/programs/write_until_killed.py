"""Writes as fast as it can and prints the number of each unit after it was acknowledged, until it is killed.

write_until_killed.py FOLDER FIRST_NUMBER
"""

import asyncio
import os
import sys
from functools import partial

from portway.rpc.errors import Conflict
from portway.server.storage_engine.database import Database, DatabaseOptions, open_database
from portway.server.storage_engine.sequences import allocate
from portway.server.storage_engine.transaction import Transaction

CALLERS = 48


def unit(tx: Transaction, number: int) -> None:
    """Three rows that belong together."""
    sequence = allocate(tx, "default", "killed")
    tx.insert_many("halves", [{"number": number, "half": 0, "sequence": sequence, "body": b"x" * (number % 5000)}])
    if number % 17 == 0:
        raise Conflict("so that groups are rolled back and tried again")
    tx.insert_many("halves", [{"number": number, "half": 1, "sequence": sequence, "body": b""}])


async def caller(database: Database, first: int) -> None:
    number = first
    while True:
        try:
            await database.writer.run(partial(unit, number=number))
        except Conflict:
            pass
        else:
            os.write(1, b"%d\n" % number)
        number += CALLERS


async def main(folder: str, first: int) -> None:
    async with open_database(DatabaseOptions(url=f"sqlite:///{folder}/portway.db")) as database:
        await database.writer.run(
            lambda tx: tx.execute(
                "CREATE TABLE IF NOT EXISTS halves (number INTEGER, half INTEGER, sequence INTEGER, body BLOB, "
                "PRIMARY KEY (number, half))"
            )
        )
        os.write(1, b"ready\n")
        async with asyncio.TaskGroup() as group:
            for offset in range(CALLERS):
                group.create_task(caller(database, first + offset))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
