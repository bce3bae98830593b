"""The methods of MCP that the bridge answers, whatever way they came."""

from collections.abc import Mapping
from typing import Any

from portway.rpc.errors import LimitExceeded, NotFound, PortwayError, Reason
from portway.server.bridge import jsonrpc
from portway.server.bridge.config import BridgeLimits
from portway.server.bridge.content import failure
from portway.server.bridge.jsonrpc import Request, RpcError
from portway.server.bridge.resources import BridgeResources
from portway.server.bridge.sessions import Session
from portway.server.bridge.tools import BridgeTools, Tell
from portway.server.runner_calls.pipeline import meaning_of
from portway.server.runner_calls.scope import RunScope

VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
BATCHES = VERSIONS[:2]
LATEST = VERSIONS[-1]
INITIALIZE = "initialize"
TOOLS_CALL = "tools/call"
_INSTRUCTIONS = (
    "What the chat that you answer gives you: `event` is what you answer, `history_page` what was said before, "
    "`list_assets` what you may use. Tools are called by `tool_call`, after `tool_detail`, or by their own names."
)


class Protocol:
    """Answers requests of sessions."""

    def __init__(self, tools: BridgeTools, resources: BridgeResources, limits: BridgeLimits, version: str) -> None:
        self._tools = tools
        self._resources = resources
        self._limits = limits
        self._version = version

    def begin(self, run: RunScope, params: Mapping[str, Any]) -> tuple[Session, Mapping[str, Any]]:
        """A session, and the answer to `initialize`: the version that was asked for, or the latest one.

        Raises RpcError; LimitExceeded where all sessions are busy.
        """
        asked = params.get("protocolVersion")
        if not isinstance(asked, str):
            raise RpcError(jsonrpc.INVALID_PARAMS, "protocolVersion is a text")
        version = asked if asked in VERSIONS else LATEST
        session = run.bridge.open(version, self._limits.sessions_per_run)
        if session is None:
            raise LimitExceeded("all sessions of this run's bridge are busy; wait for one", reason=Reason.OVERLOADED)
        return session, {
            "protocolVersion": version,
            "capabilities": {"tools": {"listChanged": False}, "resources": {"subscribe": False, "listChanged": False}},
            "serverInfo": {"name": "portway", "title": "Portway", "version": self._version},
            "instructions": _INSTRUCTIONS,
        }

    async def answer(self, run: RunScope, session: Session, request: Request, tell: Tell) -> Mapping[str, Any]:
        """The result of one request. Raises RpcError."""
        params = request.params
        match request.method:
            case "ping":
                return {}
            case "tools/list":
                _first_page(params)
                return {"tools": self._tools.listed(run)}
            case "tools/call":
                return await self._call(run, session, params, tell)
            case "resources/list":
                _first_page(params)
                return {"resources": self._resources.listed(run)}
            case "resources/templates/list":
                _first_page(params)
                return {"resourceTemplates": self._resources.templates()}
            case "resources/read":
                return await self._read(run, params)
            case method:
                raise RpcError(jsonrpc.METHOD_NOT_FOUND, f"the bridge has no method {method[:100]!r}")

    async def _call(self, run: RunScope, session: Session, params: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
        name, arguments = params.get("name"), params.get("arguments", {})
        if not isinstance(name, str) or not isinstance(arguments, dict):
            raise RpcError(jsonrpc.INVALID_PARAMS, "a call has a name and, as an object, arguments")
        if not self._tools.knows(run, name):
            raise RpcError(jsonrpc.INVALID_PARAMS, f"Unknown tool: {name[:100]!r}; tools/list has those of this run")
        most = self._limits.answer_bytes
        try:
            return (await self._tools.call(run, name, arguments, tell)).body(session.version, most)
        except (PortwayError, TimeoutError, ExceptionGroup) as error:
            return failure(meaning_of(error, TOOLS_CALL)).body(session.version, most)

    async def _read(self, run: RunScope, params: Mapping[str, Any]) -> Mapping[str, Any]:
        uri = params.get("uri")
        if not isinstance(uri, str):
            raise RpcError(jsonrpc.INVALID_PARAMS, "uri is a text")
        try:
            return {"contents": [await self._resources.read(run, uri)]}
        except (PortwayError, TimeoutError) as error:
            meaning = meaning_of(error, "resources/read")
            code = jsonrpc.RESOURCE_NOT_FOUND if isinstance(meaning, NotFound) else jsonrpc.REFUSED
            raise RpcError(code, meaning.message, {"reason": str(meaning.reason), "uri": uri[:1000]}) from None


def _first_page(params: Mapping[str, Any]) -> None:
    """Lists have one page, so nobody was given a cursor."""
    if params.get("cursor") is not None:
        raise RpcError(jsonrpc.INVALID_PARAMS, "the cursor is not of this server: its lists have one page")
