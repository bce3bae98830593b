"""Calling any method of the contract: each request message belongs to exactly one method."""

from collections.abc import AsyncIterator
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

import portway.v1
from portway.rpc.channel import PortwayChannel
from portway.rpc.status import errors_by_meaning


@cache
def _methods() -> dict[str, MethodDescriptor]:
    found: dict[str, MethodDescriptor] = {}
    for module in iter_modules(portway.v1.__path__):
        if module.name.endswith("_pb2"):
            file = import_module(f"portway.v1.{module.name}").DESCRIPTOR
            for service in file.services_by_name.values():
                found.update({method.input_type.full_name: method for method in service.methods})
    return found


def _path(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


async def ask(channel: PortwayChannel, request: Message) -> Any:
    """The answer of a unary method. Raises by meaning."""
    method = _methods()[request.DESCRIPTOR.full_name]
    call = channel.unary_unary(
        _path(method),
        request_serializer=type(request).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    with errors_by_meaning():
        return await call(request)


async def stream(channel: PortwayChannel, request: Message) -> AsyncIterator[Any]:
    """The answers of a method that streams them. Raises by meaning."""
    method = _methods()[request.DESCRIPTOR.full_name]
    call = channel.unary_stream(
        _path(method),
        request_serializer=type(request).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )(request)
    try:
        with errors_by_meaning():
            while (response := await call.read()) is not grpc.aio.EOF:
                yield response
    finally:
        call.cancel()


async def upload(channel: PortwayChannel, *requests: Message) -> Any:
    """The answer of a method that takes a stream. Raises by meaning."""
    method = _methods()[requests[0].DESCRIPTOR.full_name]
    call = channel.stream_unary(
        _path(method),
        request_serializer=type(requests[0]).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )(iter(requests))
    with errors_by_meaning():
        return await call
