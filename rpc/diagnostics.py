"""Reflection for any valid token, and channelz for operators, on the same terms as every other service."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_channelz.v1 import channelz, channelz_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from portway.rpc.binding import ANY_ROLE, OPERATORS, Service
from portway.rpc.call import Call
from portway.rpc.errors import InvalidInput, NotFound

_REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
_CHANNELZ = channelz_pb2.DESCRIPTOR.services_by_name["Channelz"]
# The two versions differ in nothing but their name; the package knows only the older one.
_REFLECTION_NAMES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


class Reflection:
    def __init__(self, names: list[str]) -> None:
        self._servicer = reflection.aio.ReflectionServicer(names)

    async def ServerReflectionInfo(self, call: Call[Any, Any]) -> None:
        async for answer in self._servicer.ServerReflectionInfo(_requests(call), None):
            await call.write(answer)


async def _requests(call: Call[Any, Any]) -> AsyncIterator[Any]:
    while (request := await call.read()) is not None:
        if request.HasField("file_containing_symbol"):
            request.file_containing_symbol = _findable(request.file_containing_symbol)
        yield request


def _findable(symbol: str) -> str:
    """The service of a method and the message of a field stand for it: the library finds only what stands by itself."""
    parent, _, name = symbol.rpartition(".")
    pool = descriptor_pool.Default()
    with suppress(KeyError):
        if name in pool.FindServiceByName(parent).methods_by_name:
            return parent
    with suppress(KeyError):
        if name in pool.FindMessageTypeByName(parent).fields_by_name:
            return parent
    return symbol


class Channelz:
    """The library's channelz: one method for each of the service, all made alike."""

    def __init__(self) -> None:
        for method in _CHANNELZ.methods:
            setattr(self, method.name, _asking(getattr(channelz.aio.ChannelzServicer, method.name)))


def _asking(ask: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Call[Any, Any]], Awaitable[Any]]:
    async def answer(request: Any, call: Call[Any, Any]) -> Any:
        told = _Told()
        response = await ask(request, told)
        if told.code is grpc.StatusCode.NOT_FOUND:
            raise NotFound("no such channel, server or socket")
        if told.code is not None:
            raise InvalidInput("channelz cannot answer this request")
        return response

    return answer


class _Told:
    """Takes the place of a context and keeps what the library says of an error."""

    def __init__(self) -> None:
        self.code: grpc.StatusCode | None = None

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        """The library's details are an exception's text, which callers do not get."""


def services(names: list[str]) -> list[Service]:
    """Reflection over `names` (and over itself), and channelz."""
    # Of the newer version no file can be given, so it is not listed: who lists everything asks for the file of each.
    servicer = Reflection([*names, _REFLECTION.full_name, _CHANNELZ.full_name])
    quiet = frozenset({"ServerReflectionInfo"})
    return [
        *(
            Service(_REFLECTION, servicer, quiet_methods=quiet, access=ANY_ROLE, name=name)
            for name in _REFLECTION_NAMES
        ),
        Service(_CHANNELZ, Channelz(), access=OPERATORS),
    ]
