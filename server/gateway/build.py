"""The gateway on its listener."""

from contextlib import AbstractAsyncContextManager
from socket import socket

from portway.server.config import HostConfig
from portway.server.gateway.app import gateway_application
from portway.server.http.listener import HttpLimits, RunningHttp, serve_http
from portway.server.parts import Parts

PATH = "/gateway"


def gateway_url(host: HostConfig, http: tuple[socket, str] | None) -> str:
    """Where programs of runs find the gateway; '' where it is not served."""
    return f"{host.http_url.rstrip('/') or http[1]}{PATH}" if http is not None else ""


def serve_gateway(parts: Parts, listening: socket, url: str) -> AbstractAsyncContextManager[RunningHttp]:
    """Serve while the block runs."""
    host = parts.config.host
    application = gateway_application(parts.calls.models, parts.run_tokens, parts.live, host.gateway)
    return serve_http(listening, url, {PATH: application}, host.tls, HttpLimits())
