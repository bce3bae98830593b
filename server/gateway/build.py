"""The gateway on its listener."""

from contextlib import AbstractAsyncContextManager
from socket import socket

from portway.server.config import HostConfig
from portway.server.gateway.app import gateway_application
from portway.server.gateway.door import RunTokens
from portway.server.gateway.visit import Ledger
from portway.server.http.listener import HttpLimits, RunningHttp, serve_http
from portway.server.runner_calls.models import ModelCalls

PATH = "/gateway"


def gateway_url(host: HostConfig, http: tuple[socket, str] | None) -> str:
    """Where programs of runs find the gateway; '' where it is not served."""
    return f"{host.http_url.rstrip('/') or http[1]}{PATH}" if http is not None else ""


def serve_gateway(
    host: HostConfig, models: ModelCalls, tokens: RunTokens, ledger: Ledger, listening: socket, url: str
) -> AbstractAsyncContextManager[RunningHttp]:
    """Serve while the block runs."""
    application = gateway_application(models, tokens, ledger, host.gateway)
    return serve_http(listening, url, {PATH: application}, host.tls, HttpLimits())
