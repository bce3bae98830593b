"""Every method of the host, for every kind of caller: made from the contract, so that no method can be left out."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from google.protobuf.descriptor import MethodDescriptor

from portway.rpc.identity import Role
from tests.probing import Verdict, contract, methods_of, path_of, probe_all, roles_of
from tests.server.authorization.world import World, whole_world

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Served by others: each has a matrix of its own.
RUNTIME = {"RuntimeService"}
BOX = {
    *("BoxService", "FileService", "ImageService", "ProcessService", "SessionService"),
    *("SkillMountService", "SocketService"),
}
WORKER = {"WorkerService"}
ELSEWHERE = RUNTIME | BOX | WORKER
HOST = sorted({method.containing_service.name for method in contract()} - ELSEWHERE)
METHODS = methods_of(*HOST)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder: Path = tmp_path_factory.mktemp("authorization")
    async with whole_world(folder) as made:
        yield made


async def asked(world: World, authorization: str) -> dict[str, Verdict]:
    """What every method says to it."""
    return await probe_all(world.host.address, METHODS, authorization)


async def test_every_method_of_the_contract_is_tried_and_the_host_serves_each(world: World) -> None:
    tried = {path_of(method) for method in METHODS}
    whole = {path_of(method) for method in contract()}
    others = {path_of(method) for method in methods_of(*ELSEWHERE)}
    served = {method.path for service in world.host.host.server.services for method in service.methods}
    assert tried | others == whole and not tried & others
    assert {path for path in served if path.startswith("/portway.")} == tried
    assert len(tried) > 180


async def test_without_a_token_nothing_answers(world: World) -> None:
    for authorization, reason in (("", "TOKEN_MISSING"), ("Basic YTpi", "TOKEN_INVALID")):
        verdicts = await asked(world, authorization)
        assert {verdict.short for verdict in verdicts.values()} == {("UNAUTHENTICATED", reason)}


async def test_a_token_that_is_none_any_more_opens_nothing_and_is_told_why(world: World) -> None:
    for what, (token, code, reason) in world.dead.items():
        verdicts = await asked(world, f"Bearer {token.strip()}")
        assert {verdict.short for verdict in verdicts.values()} == {(code, reason)}, f"a token {what}"
        # One text for all methods: it speaks of the token, not of what was asked for.
        assert len({verdict.message for verdict in verdicts.values()}) == 1


@pytest.mark.parametrize("role", list(Role), ids=lambda role: role.name.lower())
async def test_a_role_calls_what_the_contract_lets_it_call_and_nothing_else(world: World, role: Role) -> None:
    verdicts = await asked(world, f"Bearer {world.roles[role]}")
    expected = {path_of(method): _expected(world, method, role) for method in METHODS}
    assert {path: verdict.short for path, verdict in verdicts.items()} == expected


def _expected(world: World, method: MethodDescriptor, role: Role) -> tuple[str, str]:
    path = path_of(method)
    if role not in roles_of(method):
        return "PERMISSION_DENIED", "ROLE_LACKS_METHOD"
    if path in _not_served(world):
        return "UNIMPLEMENTED", "NOT_AVAILABLE"
    if path in _OF_A_RUN and role is Role.ADMIN:
        # What a run streams is asked for by a run alone: an administrator is let in, and has none.
        return "FAILED_PRECONDITION", "RUN_FINISHED"
    return "INVALID_ARGUMENT", "UNPARSABLE_MESSAGE"


_OF_A_RUN = {
    path_of(method)
    for method in contract()
    if method.containing_service.name == "RunnerService" and method.client_streaming
}


def _not_served(world: World) -> set[str]:
    services = world.host.host.server.services
    return {method.path for service in services for method in service.methods if method.target is None}


async def test_each_role_may_call_something_and_none_but_an_administrator_everything() -> None:
    whole = len(list(contract()))
    counted = {role: sum(role in roles_of(method) for method in contract()) for role in Role}
    assert counted[Role.ADMIN] == whole
    assert all(0 < count < whole for role, count in counted.items() if role is not Role.ADMIN)


async def test_who_only_reads_is_let_into_nothing_that_changes() -> None:
    assert not [path_of(method) for method in contract() if Role.VIEWER in roles_of(method) and _changes(method)]


def _changes(method: MethodDescriptor) -> bool:
    return not any(method.name.startswith(verb) for verb in _reading())


def _reading() -> Iterator[str]:
    yield from ("Get", "List", "Watch", "Read", "Search", "Explain", "Tail", "QueryKnowledge", "Diagnose")
    # A viewer's is a viewer's, for the box: it opens nothing that the one who asks may not.
    yield "IssueBoxToken"
