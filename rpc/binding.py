"""Binds a servicer to a service of the contract. Everything that can be wrong about a servicer is said at start."""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from portway.rpc.identity import Role
from portway.v1 import options_pb2

CONTRACT_PACKAGE = "portway."


class RegistrationError(Exception):
    """A servicer does not fit its service. A mistake of the programmer, never of a caller."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call a method: callers with one of these roles, or anybody without even a token."""

    roles: frozenset[Role] = frozenset()
    needs_token: bool = True


OPEN = Access(needs_token=False)
ANY_ROLE = Access(frozenset(Role))
OPERATORS = Access(frozenset({Role.ADMIN, Role.OPERATOR}))


@dataclass(frozen=True, slots=True)
class Service:
    """A service to serve.

    `servicer` has an async method for each RPC that this version serves (None: for none of them). Requests and
    responses of `raw_methods` stay bytes. Calls of `quiet_methods` are logged only when they fail. `access` and `name`
    are for services from outside the contract, which carry no access option. A server that drains refuses new calls,
    but not those of services with `while_draining`.
    """

    descriptor: ServiceDescriptor
    servicer: object | None
    raw_methods: frozenset[str] = frozenset()
    quiet_methods: frozenset[str] = frozenset()
    while_draining: bool = False
    access: Access | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class BoundMethod:
    """One RPC as a server handles it. `target` is None where this version does not serve it."""

    path: str
    access: Access
    target: Callable[..., Awaitable[Any]] | None
    request_class: type[Message]
    response_class: type[Message]
    request_streams: bool
    response_streams: bool
    raw: bool
    quiet: bool
    while_draining: bool

    @property
    def streams(self) -> bool:
        """Whether a call of it may go on for as long as its caller likes."""
        return self.request_streams or self.response_streams


@dataclass(frozen=True, slots=True)
class BoundService:
    name: str
    methods: tuple[BoundMethod, ...]


def bind(service: Service) -> BoundService:
    """Raises `RegistrationError` for a servicer that does not fit its service."""
    descriptor, name = service.descriptor, service.name or service.descriptor.full_name
    if service.access is not None and descriptor.full_name.startswith(CONTRACT_PACKAGE):
        raise RegistrationError(f"{name}: access to services of the contract is decided in the contract")
    known = {method.name for method in descriptor.methods}
    for kind, names in (
        ("method on the servicer", _rpc_names(service.servicer)),
        ("raw method", service.raw_methods),
        ("quiet method", service.quiet_methods),
    ):
        if unknown := sorted(names - known):
            raise RegistrationError(f"{name} has no {', '.join(unknown)} ({kind})")
    return BoundService(name, tuple(_bind_method(service, name, method) for method in descriptor.methods))


def _rpc_names(servicer: object | None) -> set[str]:
    """RPCs are the only names in PascalCase; everything else on a servicer is its own business."""
    if servicer is None:
        return set()
    return {name for name in dir(servicer) if name[0].isupper() and callable(getattr(servicer, name))}


def _bind_method(service: Service, service_name: str, method: MethodDescriptor) -> BoundMethod:
    path = f"/{service_name}/{method.name}"
    target = getattr(service.servicer, method.name, None)
    if target is not None:
        _check_target(path, target, arguments=1 if method.client_streaming else 2)
    return BoundMethod(
        path=path,
        access=service.access or _access_of(path, method),
        target=target,
        request_class=GetMessageClass(method.input_type),
        response_class=GetMessageClass(method.output_type),
        request_streams=method.client_streaming,
        response_streams=method.server_streaming,
        raw=method.name in service.raw_methods,
        quiet=method.name in service.quiet_methods,
        while_draining=service.while_draining,
    )


def _check_target(path: str, target: Callable[..., Any], arguments: int) -> None:
    if not inspect.iscoroutinefunction(target):
        raise RegistrationError(f"{path}: the servicer's method is not an async function that returns")
    try:
        inspect.signature(target).bind(*range(arguments))
    except TypeError:
        wanted = "(call)" if arguments == 1 else "(request, call)"
        raise RegistrationError(f"{path}: the servicer's method must take {wanted}") from None


def _access_of(path: str, method: MethodDescriptor) -> Access:
    options = method.GetOptions()
    if not options.HasExtension(options_pb2.access):
        raise RegistrationError(f"{path} has no (portway.v1.access) option, so nobody can be allowed to call it")
    roles = {Role(number) for number in options.Extensions[options_pb2.access].roles}
    return Access(frozenset(roles | {Role.ADMIN}))
