"""Every cursor and page token of every method, found by the contract's own description: one that was made by hand,
given out for another list, or for another workspace is refused alike, and nobody gets a page from it."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

import portway.v1
from portway.rpc.cursor import Cursor, CursorCodec
from portway.rpc.errors import InvalidInput, NotAvailable, PortwayError, Reason
from portway.rpc.status import errors_by_meaning
from tests.server.hosting import WORKSPACE, Hosted

FIELDS = ("page_token", "after_cursor", "after", "before")
# Asked by others than the host's administrator: adapters, runs, the runtime and the box have tests of their own.
ELSEWHERE = ("AdapterService", "RunnerService", "RuntimeService", "WorkerService")
# The list is of something that has to be there first.
OF_SOMETHING = ("SkillService/ListSkillFiles",)


def methods() -> Iterator[tuple[MethodDescriptor, FieldDescriptor]]:
    """Every method whose request goes on from somewhere, and the field that says from where."""
    for module in pkgutil.iter_modules(portway.v1.__path__):
        if not module.name.endswith("_pb2"):
            continue
        file = importlib.import_module(f"portway.v1.{module.name}").DESCRIPTOR
        for service in file.services_by_name.values():
            for method in service.methods:
                for name in FIELDS:
                    field = method.input_type.fields_by_name.get(name)
                    if field is not None and field.type == FieldDescriptor.TYPE_STRING:
                        yield method, field


class Asking:
    """Calls of any method, with what its request needs to be valid."""

    def __init__(self, host: Hosted, ids: dict[str, str]) -> None:
        self._host = host
        self._ids = ids

    async def refusal(self, method: MethodDescriptor, field: FieldDescriptor, token: str) -> PortwayError | None:
        """What the method answers to the token; nothing where it takes it."""
        request: Any = GetMessageClass(method.input_type)()
        for other in method.input_type.fields:
            if other.name in self._ids and other.type == FieldDescriptor.TYPE_STRING and not other.is_repeated:
                setattr(request, other.name, self._ids[other.name])
        setattr(request, field.name, token)
        path = f"/{method.containing_service.full_name}/{method.name}"
        answers: Any = GetMessageClass(method.output_type)
        shape = self._host.channel.unary_stream if method.server_streaming else self._host.channel.unary_unary
        call: Any = shape(
            path, request_serializer=lambda one: one.SerializeToString(), response_deserializer=answers.FromString
        )
        try:
            with errors_by_meaning():
                running = call(request, timeout=5.0)
                answer = await running.read() if method.server_streaming else await running
                if method.server_streaming:
                    running.cancel()
                    assert answer is not grpc.aio.EOF
        except PortwayError as error:
            return error
        return None


async def test_no_method_takes_a_token_that_was_not_given_out_for_it(host: Hosted) -> None:
    run = await host.asked("hi")
    other = await host.asked("ho", chat="other")
    asking = Asking(host, {"run_id": run.run_id, "conversation_id": run.conversation_id, "agent_id": "assistant"})
    cursors: CursorCodec = host.parts.stores.cursors
    tokens = {
        "forged": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "not even base64": "%%%",
        "another codec's": CursorCodec(b"x" * 32).write(f"events/{WORKSPACE}", Cursor(1, 1)),
        "another run's": other.cursor,
        "another workspace's events": cursors.write("events/other", Cursor(1, 1)),
        "another workspace's audit": cursors.write("audit/other", Cursor(1, 1)),
        "another workspace's deliveries": cursors.write("deliveries/other", Cursor(1, 1)),
        "another list's page": cursors.write_page("events/other/", "1"),
    }
    problems: list[str] = []
    looked: set[str] = set()
    for method, field in methods():
        service = method.containing_service.name
        if service in ELSEWHERE or f"{service}/{method.name}" in OF_SOMETHING:
            continue
        for name, token in tokens.items():
            error = await asking.refusal(method, field, token)
            if isinstance(error, NotAvailable):
                break
            looked.add(f"{service}/{method.name}")
            if not isinstance(error, InvalidInput) or error.reason != Reason.INVALID_CURSOR:
                problems.append(f"{service}/{method.name}.{field.name}, {name}: {error!r}")
    assert not problems, "\n".join(problems)
    assert {name for name in looked if "/Watch" in name} >= {
        "EventService/WatchEvents",
        "RunService/WatchRun",
        "DeliveryService/WatchDeliveries",
        "AuditService/WatchAudit",
    }
    assert len(looked) > 20, sorted(looked)
