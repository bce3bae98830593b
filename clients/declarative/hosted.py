"""What a host has, and changing it: the ordinary methods, called by their descriptors."""

from collections.abc import Mapping

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from portway.clients.declarative.kinds import Kind
from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import InternalError, NotAvailable
from portway.rpc.status import errors_by_meaning
from portway.v1 import binding_pb2

_SECONDS = 30.0
_PAGE = 200
_MOST_PAGES = 500


class HostedKinds:
    """One host."""

    def __init__(self, channel: PortwayChannel) -> None:
        self._channel = channel

    async def all(self, kind: Kind) -> dict[str, Message]:
        """Everything of the kind, by its id. Raises what the host raises."""
        found: dict[str, Message] = {}
        token = ""
        for _ in range(_MOST_PAGES):
            try:
                answer = await self._ask(kind.listing, page_size=_PAGE, page_token=token)
            except NotAvailable as error:
                raise NotAvailable(f"this host does not serve {kind.name} ({error})") from error
            for message in getattr(answer, kind.field_of(kind.listing).name):
                if not kind.whole or message.managed_by == binding_pb2.MANAGED_BY_API:
                    found[kind.id_of(message)] = message
            token = answer.next_page_token  # type: ignore[attr-defined]
            if not token:
                return found
        raise InternalError(f"{kind.listing.full_name} has no end")

    async def create(self, kind: Kind, message: Message) -> None:
        await self._change(kind, kind.create, message)

    async def update(self, kind: Kind, message: Message, current: Message) -> None:
        """Only if nobody changed it meanwhile."""
        if "revision" in kind.message.DESCRIPTOR.fields_by_name:
            message.revision = current.revision  # type: ignore[attr-defined]
        await self._change(kind, kind.update, message)

    async def delete(self, kind: Kind, current: Message) -> None:
        assert kind.delete is not None
        if kind.whole:
            await self._replace(kind, {kind.id_of(current): None})
            return
        if kind.off:
            setattr(current, kind.off, False)
            await self._change(kind, kind.delete, current)
            return
        await self._ask(kind.delete, **{name: getattr(current, name) for name in kind.key})

    async def _change(self, kind: Kind, method: MethodDescriptor | None, message: Message) -> None:
        assert method is not None, kind.name
        if kind.whole:
            await self._replace(kind, {kind.id_of(message): message})
            return
        request = GetMessageClass(method.input_type)()
        getattr(request, kind.field_of(method).name).CopyFrom(message)
        await self._send(method, request)

    async def _replace(self, kind: Kind, changes: Mapping[str, Message | None]) -> None:
        assert kind.update is not None
        own = {**await self.all(kind), **changes}
        field = kind.field_of(kind.update).name
        await self._ask(kind.update, **{field: [message for message in own.values() if message is not None]})

    async def _ask(self, method: MethodDescriptor, **fields: object) -> Message:
        return await self._send(method, GetMessageClass(method.input_type)(**fields))

    async def _send(self, method: MethodDescriptor, request: Message) -> Message:
        call = self._channel.unary_unary(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        with errors_by_meaning():
            answer: Message = await call(request, timeout=_SECONDS)
        return answer
