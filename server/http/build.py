"""What the host serves over HTTP to the programs of runs: their models, and their MCP bridge."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from socket import socket

from portway.server.bridge import build as bridge
from portway.server.config import HostConfig
from portway.server.gateway.app import gateway_application
from portway.server.http.listener import HttpLimits, RunningHttp, serve_http
from portway.server.parts import Parts

GATEWAY = "/gateway"


@dataclass(frozen=True, slots=True)
class ProgramUrls:
    """Where programs of runs find them; '' where they are not served."""

    gateway: str = ""
    bridge: str = ""


def program_urls(host: HostConfig, http: tuple[socket, str] | None) -> ProgramUrls:
    if http is None:
        return ProgramUrls()
    base = host.http_url.rstrip("/") or http[1]
    return ProgramUrls(f"{base}{GATEWAY}", f"{base}{bridge.MOUNT}{bridge.PATH}")


def serve_programs(parts: Parts, listening: socket, url: str) -> AbstractAsyncContextManager[RunningHttp]:
    """Serve while the block runs."""
    host = parts.config.host
    applications = {
        GATEWAY: gateway_application(parts.calls.models, parts.run_tokens, parts.live, host.gateway),
        bridge.MOUNT: parts.bridge,
    }
    return serve_http(listening, url, applications, host.tls, HttpLimits())
