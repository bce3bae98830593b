"""Ids of another workspace, in every field that names something: what is told of them is what is told of nothing."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template

import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.text_format import Parse

from portway.rpc.identity import Role
from portway.rpc.ids import new_id
from tests.probing import Verdict, methods_of, path_of, probe, roles_of
from tests.server.authorization.others import Others, other_workspace
from tests.server.authorization.requests import DEEPER, KINDS, NO_ID, REQUESTS, TOLD
from tests.server.authorization.test_callers import HOST
from tests.server.authorization.world import World, whole_world

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Not served yet: they answer UNIMPLEMENTED to everybody, which the matrix of callers tries.
LATER = {
    *("ChannelService", "ConnectorService", "DirectChatService", "KnowledgeService"),
    *("NodeService", "ShellService", "TaskService"),
}
# An adapter says on its stream what happened on its platform, with the platform's ids.
STREAMS = {"AdapterService.Connect", "RunnerService.OpenSession"}
METHODS = methods_of(*(set(HOST) - LATER))
SILENT_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Case:
    """One field of one method that names something."""

    method: MethodDescriptor
    field: str
    kind: str

    @property
    def name(self) -> str:
        return f"{name_of(self.method)}:{self.field}"


def name_of(method: MethodDescriptor) -> str:
    return f"{method.containing_service.name}.{method.name}"


def named(message: Descriptor, depth: int = 1, path: str = "") -> Iterator[str]:
    """Every field of text that is called an id, or the name of what has no other id."""
    for field in message.fields:
        inner = field.message_type
        if inner is not None and inner.full_name.startswith("portway.") and depth and not field.is_repeated:
            yield from named(inner, depth - 1, f"{path}{field.name}.")
        elif field.type == FieldDescriptor.TYPE_STRING and _is_id(message, field):
            yield f"{path}{field.name}"


def _is_id(message: Descriptor, field: FieldDescriptor) -> bool:
    if field.name == "name":
        return any(word in message.name for word in ("Skill", "GetTool", "CallTool"))
    return field.name == "id" or field.name.endswith(("_id", "_ids"))


def fields_of(method: MethodDescriptor) -> list[str]:
    return [*named(method.input_type), *DEEPER.get(name_of(method), ())]


def kind_of(method: MethodDescriptor, field: str) -> str:
    """What the field names; '' where it is no id of anything that the host keeps."""
    for key in (f"{name_of(method)}:{field}", field, field.rpartition(".")[2]):
        if key in NO_ID:
            return ""
        if key in KINDS:
            return KINDS[key]
    raise AssertionError(f"{name_of(method)} has a field {field}: say in requests.py what it names")


CASES = [
    Case(method, field, kind)
    for method in METHODS
    if name_of(method) not in STREAMS
    for field in fields_of(method)
    if (kind := kind_of(method, field))
]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder: Path = tmp_path_factory.mktemp("ids")
    async with whole_world(folder) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def others(world: World) -> Others:
    return await other_workspace(world)


def request_with(world: World, case: Case, value: str) -> bytes:
    """A request that lacks nothing, with the value in the field."""
    message: Message = GetMessageClass(case.method.input_type)()
    text = REQUESTS.get(case.name) or REQUESTS.get(name_of(case.method), "")
    Parse(Template(text).substitute(world.own, key=new_id("key")), message)
    target = message
    *way, last = case.field.split(".")
    for step in way:
        inner = getattr(target, step)
        target = (inner[0] if len(inner) else inner.add()) if hasattr(inner, "add") else inner
    if isinstance(getattr(target, last), str):
        setattr(target, last, value)
    else:
        getattr(target, last)[:] = [value]
    return message.SerializeToString()


def expected(case: Case) -> tuple[str, str]:
    return TOLD.get(case.name) or TOLD.get(name_of(case.method)) or ("NOT_FOUND", "NOT_FOUND")


async def told(world: World, case: Case, token: str, value: str) -> Verdict:
    seconds = SILENT_SECONDS if expected(case)[0] == "DEADLINE_EXCEEDED" else 20.0
    async with grpc.aio.insecure_channel(world.host.address) as channel:
        given = request_with(world, case, value)
        return await probe(channel, path_of(case.method), f"Bearer {token}", given, timeout=seconds)


def without(verdict: Verdict, value: str) -> Verdict:
    """With the id that was asked for taken out: it is all that may differ."""
    return Verdict(verdict.code, verdict.reason, verdict.message.replace(value, "…"))


def caller_of(world: World, method: MethodDescriptor) -> str:
    """One of our own workspace who may call it, with no more rights than that takes."""
    order = (Role.RUNNER, Role.MEMBER, Role.OPERATOR, Role.ADAPTER, Role.ADMIN)
    return world.roles[next(role for role in order if role in roles_of(method))]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_an_id_of_another_workspace_is_told_from_a_missing_one_by_nothing(
    world: World, others: Others, case: Case
) -> None:
    token, foreign, missing = caller_of(world, case.method), others.real[case.kind], others.missing(case.kind)
    of_foreign, of_missing = await asyncio.gather(told(world, case, token, foreign), told(world, case, token, missing))
    assert without(of_foreign, foreign) == without(of_missing, missing)
    assert of_foreign.short == expected(case), of_foreign
    # Some repeat what they were asked for.
    assert (foreign.encode() in of_foreign.response) == (missing.encode() in of_missing.response)


async def test_what_is_not_found_by_others_is_found_by_its_own(world: World, others: Others) -> None:
    getters = [case for case in CASES if case.method.name.startswith("Get") and Role.OPERATOR in roles_of(case.method)]
    assert len(getters) > 12
    for case in getters:
        if case.kind not in ("tool",):
            verdict = await told(world, case, others.token, others.real[case.kind])
            assert verdict.code == "OK", (case.name, verdict)


async def test_every_method_that_names_something_is_tried() -> None:
    assert {case.kind for case in CASES} == set(KINDS.values())
    assert not set(REQUESTS) - {case.name for case in CASES} - set(map(name_of, METHODS))
    assert not set(TOLD) - {case.name for case in CASES} - set(map(name_of, METHODS))
