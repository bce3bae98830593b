"""The state of the contract as a page: every method of every service, who may call it and which server serves it."""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

import portway.v1
from portway.rpc.binding import BoundService
from portway.rpc.identity import Role
from portway.v1 import options_pb2

NOT_AVAILABLE = "not available in this version"


def contract_services() -> list[ServiceDescriptor]:
    """All services of the contract, by name."""
    found: dict[str, ServiceDescriptor] = {}
    for module in pkgutil.iter_modules(portway.v1.__path__):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(f"portway.v1.{module.name}").DESCRIPTOR
            found |= {service.full_name: service for service in file.services_by_name.values()}
    return [found[name] for name in sorted(found)]


def describe(servers: Mapping[str, Iterable[BoundService]]) -> str:
    """The page in Markdown. `servers` has what each server (`host`, `runtime`, `box`) has bound."""
    served: dict[str, list[str]] = {}
    for server, services in servers.items():
        for method in (method for service in services for method in service.methods if method.target is not None):
            served.setdefault(method.path, []).append(server)
    contract = contract_services()
    methods = [_path(service, method) for service in contract for method in service.methods]
    lines = [
        "# What this version serves",
        "",
        "Generated from the contract and the servers by `make docs`; do not edit. A method that no server serves",
        f"answers `UNIMPLEMENTED` with the text “{NOT_AVAILABLE}”. `admin` may call every method and is not listed.",
        "",
        f"{sum(path in served for path in methods)} of {len(methods)} methods in {len(contract)} services are served.",
    ]
    for service in contract:
        lines += ["", *_table(service, served)]
    return "\n".join(lines) + "\n"


def _table(service: ServiceDescriptor, served: Mapping[str, Sequence[str]]) -> Iterator[str]:
    yield f"## {service.name}"
    yield ""
    yield "| method | streams | roles | served by |"
    yield "| --- | --- | --- | --- |"
    for method in service.methods:
        by = ", ".join(served.get(_path(service, method), ())) or NOT_AVAILABLE
        yield f"| {method.name} | {_streams(method)} | {', '.join(_roles(method)) or 'admin only'} | {by} |"


def _path(service: ServiceDescriptor, method: MethodDescriptor) -> str:
    return f"/{service.full_name}/{method.name}"


def _streams(method: MethodDescriptor) -> str:
    sides = {(False, False): "", (False, True): "responses", (True, False): "requests", (True, True): "both"}
    return sides[method.client_streaming, method.server_streaming]


def _roles(method: MethodDescriptor) -> list[str]:
    roles = [Role(number) for number in method.GetOptions().Extensions[options_pb2.access].roles]
    return [role.name.lower() for role in roles if role is not Role.ADMIN]
