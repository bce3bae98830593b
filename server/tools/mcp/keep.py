"""Writing an MCP server down: its secrets apart, encrypted, in the same transaction."""

from collections.abc import Iterable

from portway.rpc.errors import InvalidInput, NotFound
from portway.server.agents.config_secrets import MASK
from portway.server.secrets.store import Secrets, put_secret, remove_secret
from portway.server.storage_engine.keyring import Keyring
from portway.server.storage_engine.transaction import Transaction
from portway.server.tools.mcp.checks import field_of
from portway.server.tools.mcp.types import McpServer, McpSpec, Opened
from portway.server.tools.mcp.wire import Draft


class McpSecrets:
    """Values of headers and variables, by the server they belong to."""

    def __init__(self, secrets: Secrets, keyring: Keyring) -> None:
        self._secrets = secrets
        self._keyring = keyring

    def keep(self, tx: Transaction, workspace_id: str, draft: Draft, before: McpSpec | None) -> None:
        """In the unit that writes the server. Raises InvalidInput for a mask where there is nothing to leave."""
        known = set(places_of(before)) if before is not None else set()
        for place, value in draft.values.items():
            if value != MASK:
                put_secret(tx, self._keyring, workspace_id, _secret_id(draft.server_id, place), value)
            elif place not in known:
                raise InvalidInput.field(
                    f"mcp_server.{field_of(place)}", "is masked, and there is no secret to leave as it was"
                )
        self.drop(tx, workspace_id, draft.server_id, known - draft.values.keys())

    def drop(self, tx: Transaction, workspace_id: str, server_id: str, places: Iterable[str]) -> None:
        for place in places:
            remove_secret(tx, workspace_id, _secret_id(server_id, place))

    async def open(self, server: McpServer) -> Opened:
        """For whoever connects. Raises NotFound where a secret is gone."""
        found = {place: await self._value(server, place) for place in places_of(server.spec)}
        return Opened(
            headers={name: found[f"header/{name}"] for name in server.spec.headers},
            env={name: found[f"env/{name}"] for name in server.spec.secret_env},
        )

    async def _value(self, server: McpServer, place: str) -> str:
        try:
            return (await self._secrets.secret(server.workspace_id, _secret_id(server.server_id, place))).value
        except NotFound:
            raise NotFound(
                f"the secret {place} of the MCP server {server.server_id!r} is gone; write it again"
            ) from None


def places_of(spec: McpSpec) -> list[str]:
    """Where a server has secrets."""
    return [f"header/{name}" for name in spec.headers] + [f"env/{name}" for name in spec.secret_env]


def _secret_id(server_id: str, place: str) -> str:
    return f"mcp/{server_id}/{place}"
