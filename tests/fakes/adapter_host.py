"""The host's side of adapters on a free port, over a real database, with the echo in place of agents.

`python -m tests.fakes.adapter_host DATA READY` serves it as a process of its own, to be killed by a test.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from portway.rpc.binding import Service
from portway.rpc.cursor import CursorCodec
from portway.rpc.identity import Caller, Role
from portway.rpc.serving import RunningServer, serve
from portway.rpc.tokens import FixedTokens, mint_token
from portway.server.adapters.connection import Connections
from portway.server.adapters.gateway import Gateway
from portway.server.adapters.servicer import AdapterServicer
from portway.server.adapters.store import StoredAdapters
from portway.server.deliveries.ledger import DeliveryLedger
from portway.server.deliveries.outbox import Outbox
from portway.server.deliveries.servicer import DeliveryServicer
from portway.server.deliveries.store import StoredDeliveries
from portway.server.deliveries.typing_signs import TypingSigns
from portway.server.storage_engine.database import Database, DatabaseOptions, open_database
from portway.v1 import adapter_pb2, delivery_pb2
from tests.fakes.engine import EchoAcceptor, KnownRuns, ScriptedFeeds

CURSORS = CursorCodec(b"a key for the cursors of tests")


@dataclass(frozen=True, slots=True)
class Tokens:
    """One text for each kind of caller. `bound` is the adapter `web_chat` alone, `other` elsewhere."""

    adapter: str
    second: str
    bound: str
    operator: str
    other: str


@dataclass(frozen=True, slots=True)
class AdapterHost:
    database: Database
    outbox: Outbox
    acceptor: EchoAcceptor
    feeds: ScriptedFeeds
    runs: KnownRuns
    connections: Connections
    server: RunningServer
    tokens: Tokens

    @property
    def address(self) -> str:
        return self.server.address


@asynccontextmanager
async def adapter_host(folder: Path, address: str = "127.0.0.1:0", grace: float = 8.0) -> AsyncIterator[AdapterHost]:
    """Serves while the block runs. The same folder again finds the same data."""
    tokens, authenticator = _tokens()
    async with open_database(DatabaseOptions(url=f"sqlite:///{folder}/portway.db")) as database:
        deliveries, adapters = StoredDeliveries(database.reader), StoredAdapters(database.reader)
        outbox = Outbox(database.writer, deliveries)
        acceptor, feeds, runs = EchoAcceptor(database, outbox), ScriptedFeeds(), KnownRuns()
        connections = Connections()
        gateway = Gateway(
            connections,
            adapters,
            acceptor=acceptor,
            outbox=outbox,
            signs=TypingSigns(),
            feeds=feeds,
            runs=runs,
            writer=database.writer,
        )
        services = [
            Service(
                adapter_pb2.DESCRIPTOR.services_by_name["AdapterService"],
                AdapterServicer(gateway, connections, adapters, CURSORS, "0.0.test"),
            ),
            Service(
                delivery_pb2.DESCRIPTOR.services_by_name["DeliveryService"],
                DeliveryServicer(DeliveryLedger(deliveries, outbox), outbox, CURSORS, database.epoch),
            ),
        ]
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(outbox.run())
            async with serve(services, address=address, authenticator=authenticator, grace=grace) as server:
                yield AdapterHost(database, outbox, acceptor, feeds, runs, connections, server, tokens)
            running.cancel()


def _tokens() -> tuple[Tokens, FixedTokens]:
    known: list[tuple[str, Caller]] = []

    def a_token(role: Role, workspace_id: str = "default", subject: str = "") -> str:
        minted = mint_token("test")
        known.append((minted.text, Caller(role, workspace_id, minted.token_id, subject)))
        return minted.text

    tokens = Tokens(
        adapter=a_token(Role.ADAPTER),
        second=a_token(Role.ADAPTER),
        bound=a_token(Role.ADAPTER, subject="web_chat"),
        operator=a_token(Role.OPERATOR),
        other=a_token(Role.ADAPTER, workspace_id="elsewhere"),
    )
    return tokens, FixedTokens(known)


async def _serve_until_killed(folder: Path, ready: Path) -> None:
    async with adapter_host(folder) as host:
        unfinished = ready.with_suffix(".part")
        unfinished.write_text(json.dumps({"address": host.address, "token": host.tokens.adapter}))
        unfinished.rename(ready)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve_until_killed(Path(sys.argv[1]), Path(sys.argv[2])))
