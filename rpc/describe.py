"""The state of the contract as a page: every method of every service, who may call it and which server serves it."""

import importlib
import pkgutil
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

import portway.v1
from portway.rpc.errors import Unavailable
from portway.rpc.identity import Role
from portway.v1 import options_pb2

NOT_AVAILABLE = "not available in this version"
PROBE_SECONDS = 10


def contract_services() -> list[ServiceDescriptor]:
    """All services of the contract, by name."""
    found: dict[str, ServiceDescriptor] = {}
    for module in pkgutil.iter_modules(portway.v1.__path__):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(f"portway.v1.{module.name}").DESCRIPTOR
            found |= {service.full_name: service for service in file.services_by_name.values()}
    return [found[name] for name in sorted(found)]


async def served_methods(channel: grpc.aio.Channel) -> frozenset[str]:
    """The paths of the contract's methods that the server behind `channel`, dialled as admin, really serves.

    Asks each one with a call that carries no message: a method that is not served says so before it reads, and one that
    is served refuses the missing request.
    """
    paths = [_path(service, method) for service in contract_services() for method in service.methods]
    return frozenset([path for path in paths if await _is_served(channel, path)])


async def _is_served(channel: grpc.aio.Channel, path: str) -> bool:
    call: Any = channel.stream_stream(path)(timeout=PROBE_SECONDS)
    await call.done_writing()
    code = await call.code()
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAVAILABLE):
        raise Unavailable(f"{path} cannot be asked: {code.name}: {await call.details()}")
    return code is not grpc.StatusCode.UNIMPLEMENTED


def describe(servers: Mapping[str, Collection[str]]) -> str:
    """The page in Markdown. `servers` has the paths that each server (`host`, `runtime`, `box`) serves."""
    contract = contract_services()
    methods = [_path(service, method) for service in contract for method in service.methods]
    served = {path: [server for server, paths in servers.items() if path in paths] for path in methods}
    lines = [
        "# What this version serves",
        "",
        "Generated from the contract and the servers by `make docs`; do not edit. A method that no server serves",
        f"answers `UNIMPLEMENTED` with the text “{NOT_AVAILABLE}”. `admin` may call every method and is not listed.",
        "",
        f"{sum(bool(by) for by in served.values())} of {len(methods)} methods in {len(contract)} services are served.",
    ]
    for service in contract:
        lines += ["", *_table(service, served)]
    return "\n".join(lines) + "\n"


def _table(service: ServiceDescriptor, served: Mapping[str, Collection[str]]) -> Iterator[str]:
    yield f"## {service.name}"
    yield ""
    yield "| method | streams | roles | served by |"
    yield "| --- | --- | --- | --- |"
    for method in service.methods:
        by = ", ".join(served[_path(service, method)]) or NOT_AVAILABLE
        yield f"| {method.name} | {_streams(method)} | {', '.join(_roles(method)) or 'admin only'} | {by} |"


def _path(service: ServiceDescriptor, method: MethodDescriptor) -> str:
    return f"/{service.full_name}/{method.name}"


def _streams(method: MethodDescriptor) -> str:
    sides = {(False, False): "", (False, True): "responses", (True, False): "requests", (True, True): "both"}
    return sides[method.client_streaming, method.server_streaming]


def _roles(method: MethodDescriptor) -> list[str]:
    roles = [Role(number) for number in method.GetOptions().Extensions[options_pb2.access].roles]
    return [role.name.lower() for role in roles if role is not Role.ADMIN]
