"""The bridge of all runs, on the host's listener and in sessions."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from portway.server.bridge.app import Bridge, Ledger, bridge_application
from portway.server.bridge.calls import BridgeCalls
from portway.server.bridge.config import BridgeLimits
from portway.server.bridge.door import BridgeDoor, BridgeTokens
from portway.server.bridge.protocol import Protocol
from portway.server.bridge.resources import BridgeResources
from portway.server.bridge.tools import BridgeTools
from portway.server.config import HostConfig
from portway.server.http.listener import Application
from portway.server.runner_calls.operations import Operation

MOUNT, PATH = "/bridge", "/mcp"
# Base64 and what JSON adds to it.
_ENCODED = 3 / 5


def build_bridge(
    host: HostConfig, operations: Mapping[str, Operation], tokens: BridgeTokens, ledger: Ledger, version: str
) -> Application:
    """One application for every way in."""
    limits: BridgeLimits = host.bridge
    calls = BridgeCalls(operations)
    tools = BridgeTools(calls, limits.direct_tools)
    resources = BridgeResources(calls, int(limits.answer_bytes * _ENCODED))
    door = BridgeDoor(tokens, limits, _names(host))
    return bridge_application(Bridge(door, Protocol(tools, resources, limits, version), ledger, limits), PATH)


def _names(host: HostConfig) -> frozenset[str]:
    """What programs may call this host, besides the names of loopback."""
    urls = (host.http_url, f"//{host.http_listen}" if host.serves_http else "")
    return frozenset(name.lower() for url in urls if url and (name := urlsplit(url).hostname))
