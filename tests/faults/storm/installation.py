"""What the storm rages in: `portway up`, a platform with its adapter, a network that breaks, and perhaps PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

from portway.clients.host import Portway
from portway.clients.runtime import Runtime
from portway.rpc.errors import PortwayError
from portway.rpc.status import errors_by_meaning
from portway.v1 import options_pb2, token_pb2
from tests.e2e.stack import Stack, started
from tests.fakes.cutting_proxy import CuttingProxy, cutting_proxy
from tests.postgres import PostgresServer, free_port, postgres_server

CONFIG = """
runtime: {{plugins: [{plugins}], grants: {{tests/deeds: [STORM_MARKS]}}}}
models: {{default: demo}}
agents:
- &deeds
  agent_id: deeds
  runner_id: plugin:tests/deeds/default
  on_interrupted: INTERRUPTED_POLICY_RETRY
  retry_policy: {{max_attempts: 4}}
  timeout: 120s
  resource_policy: {{model_ids: [demo], tools: ["plugin:tests/deeds/*"]}}
  box_policy: {{tools: [exec]}}
- <<: *deeds
  agent_id: careful
  resource_policy: {{tools: ["plugin:tests/deeds/*"], approved_tools: ["*"]}}
- {{agent_id: calm, runner_id: "plugin:tests/calm/default", on_interrupted: INTERRUPTED_POLICY_RETRY}}
bindings:
- {{binding_id: all, scope: BINDING_SCOPE_WORKSPACE, agent_id: deeds}}
schedules:
- {{schedule_id: first, cron: "* * * * *", agent_id: deeds, overlap: OVERLAP_POLICY_ALLOW,
   catch_up: CATCH_UP_POLICY_ALL, catch_up_limit: 100}}
- {{schedule_id: second, cron: "* * * * *", agent_id: calm, overlap: OVERLAP_POLICY_QUEUE,
   catch_up: CATCH_UP_POLICY_ALL, catch_up_limit: 100}}
"""
PLUGINS = Path(__file__).parent / "plugins"
ADAPTER = "adapter"
CALLERS = "callers"
DATABASE = "database"


class Installation:
    """Everything by name. `networks` are proxies: callers and the adapter come in through them."""

    def __init__(self, folder: Path, stack: Stack, networks: Mapping[str, CuttingProxy]) -> None:
        self.folder = folder
        self.stack = stack
        self.networks = networks
        self.marks = folder / "marks"
        self.server: PostgresServer | None = None
        self.database = ""
        self.adapter_pid = 0
        self._adapter: asyncio.subprocess.Process | None = None
        self._adapter_stopped = False
        self._token = ""

    @property
    def token(self) -> str:
        # The file of the supervisor is away while a part is; the token stays the same.
        if not self._token:
            self._token = self.stack.token
        return self._token

    def client(self, network: str = "") -> Portway:
        """Straight to the host, or through a network that may break."""
        address = f"127.0.0.1:{self.networks[network].port}" if network else self.stack.host_address
        return Portway(address, token=self.token)

    def pid(self, part: str) -> int:
        """Raises FileNotFoundError or KeyError while it has none."""
        if part == ADAPTER:
            return self.adapter_pid
        return self.stack.pid(part)

    async def plugin_pid(self, plugin_id: str) -> int:
        """0 while it does not run, or nobody can tell."""
        try:
            address = str(self.stack.ready["runtime"])
            async with asyncio.timeout(3), Runtime(address, token=self.token) as runtime:
                found = await runtime.list_plugins()
        except (PortwayError, OSError, ValueError, KeyError, TimeoutError):
            return 0
        return next((int(one.pid) for one in found.plugins if one.plugin_id == plugin_id), 0)

    async def keep_adapter(self, token: str) -> None:
        """What an operator's supervisor does: it starts it again whenever it ends."""
        token_file = self.folder / "adapter.token"
        token_file.write_text(token)
        host = f"127.0.0.1:{self.networks[ADAPTER].port}"
        arguments = ["--host", host, "--token", str(token_file), "--folder", str(self.folder)]
        with (self.folder / "adapter.log").open("ab") as log:
            while not self._adapter_stopped:
                self._adapter = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "tests.faults.storm.platform", *arguments),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
                self.adapter_pid = self._adapter.pid
                await self._adapter.wait()

    async def stop_adapter(self) -> None:
        self._adapter_stopped = True
        if self._adapter is not None and self._adapter.returncode is None:
            self._adapter.kill()
            await self._adapter.wait()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What the database says: past the host, so that what the host says of itself can be compared."""
        if self.server is not None:
            return self.server.run(sql, self.database)
        file = self.stack.data / "host" / "portway.db"
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(sql).fetchall()


@asynccontextmanager
async def installation(folder: Path, kind: str, **more: str) -> AsyncIterator[Installation]:
    """Serves, with the adapter connected. `more` are settings as in the environment, without `PORTWAY__`."""
    port = free_port()
    config = CONFIG.format(plugins=PLUGINS)
    os.environ["STORM_MARKS"] = str(folder / "marks")
    with ExitStack() as use:
        networks = {network: use.enter_context(cutting_proxy(port)) for network in (ADAPTER, CALLERS)}
        server, name, settings = None, "", more
        if kind == "postgresql":
            server = use.enter_context(postgres_server(durable=True))
            name = server.new_database()
            networks[DATABASE] = use.enter_context(cutting_proxy(server.port))
            url = server.tcp_url(name, port=networks[DATABASE].port) + "?sslmode=disable"
            settings["HOST__DATABASE"] = url
        async with started(folder, "--port", str(port), config=config, **settings) as stack:
            found = Installation(folder, stack, networks)
            found.server, found.database = server, name
            request = token_pb2.CreateTokenRequest(name="storm", role=options_pb2.ROLE_ADAPTER)
            async with found.client() as host:
                with errors_by_meaning():
                    made = await host.tokens.CreateToken(request, timeout=10)
            keeping = asyncio.create_task(found.keep_adapter(made.secret))
            try:
                yield found
            finally:
                await found.stop_adapter()
                await keeping
                wake_up(found)


def wake_up(found: Installation) -> None:
    """Nothing may stay frozen: it could not even end."""
    for part in ("host", "runtime", "box", "web", ADAPTER):
        with suppress(OSError, KeyError, ValueError):
            os.kill(found.pid(part), signal.SIGCONT)
