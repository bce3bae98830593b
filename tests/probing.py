"""Any method of the contract as somebody calls it who knows only its name: bytes in, a status out."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor

import portway.v1
from portway.rpc.identity import Role
from portway.rpc.status import error_from_rpc
from portway.v1 import options_pb2
from tests.waiting import PATIENCE

# No message has it: the first byte names a field of a kind that there is not.
NO_MESSAGE = b"\xff\xff\xff"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a call. `OK` also for a stream that answers and goes on."""

    code: str
    reason: str = ""
    message: str = ""
    response: bytes = b""

    @property
    def short(self) -> tuple[str, str]:
        return self.code, self.reason


def contract() -> Iterator[MethodDescriptor]:
    """Every method of every service."""
    for module in iter_modules(portway.v1.__path__):
        if module.name.endswith("_pb2"):
            for service in import_module(f"portway.v1.{module.name}").DESCRIPTOR.services_by_name.values():
                yield from service.methods


def methods_of(*services: str) -> list[MethodDescriptor]:
    """Of the services with these names."""
    return [method for method in contract() if method.containing_service.name in services]


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def roles_of(method: MethodDescriptor) -> set[Role]:
    """Who may call it, as the contract says."""
    named = method.GetOptions().Extensions[options_pb2.access].roles
    return {Role(number) for number in named} | {Role.ADMIN}


async def probe(
    channel: grpc.aio.Channel,
    path: str,
    authorization: str = "",
    *payload: bytes,
    timeout: float = PATIENCE,  # noqa: ASYNC109 - the deadline of the call itself
) -> Verdict:
    """The first thing that a call with these requests comes to; with none given, one that is no message."""
    metadata = (("authorization", authorization),) if authorization else ()
    method: Any = channel.stream_stream(path)
    call = method(iter(payload or (NO_MESSAGE,)), metadata=metadata, timeout=timeout)
    try:
        first = await call.read()
        # A stream that goes on is let go.
        return Verdict("OK", response=b"" if first is grpc.aio.EOF else first)
    except grpc.aio.AioRpcError as error:
        meaning = error_from_rpc(error)
        return Verdict(error.code().name, str(meaning.reason), meaning.message)
    finally:
        call.cancel()


async def probe_all(
    address: str, methods: Sequence[MethodDescriptor], authorization: str = "", at_once: int = 32
) -> dict[str, Verdict]:
    """What each method says to somebody who sends no message."""
    slots = asyncio.Semaphore(at_once)
    async with grpc.aio.insecure_channel(address) as channel:

        async def one(method: MethodDescriptor) -> Verdict:
            async with slots:
                return await probe(channel, path_of(method), authorization)

        found = await asyncio.gather(*map(one, methods))
    return dict(zip(map(path_of, methods), found, strict=True))
