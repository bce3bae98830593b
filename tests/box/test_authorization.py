"""Every method of the box, for every kind of caller that it can have, and sessions of another workspace."""

import asyncio

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.text_format import Parse

from portway.rpc.identity import Role
from portway.rpc.tokens import mint_token
from tests.box.box_process import BoxProcess
from tests.box.inside import Inside
from tests.probing import Verdict, methods_of, path_of, probe, probe_all, roles_of

METHODS = methods_of(
    "BoxService",
    "FileService",
    "ImageService",
    "ProcessService",
    "SessionService",
    "SkillMountService",
    "SocketService",
)
CALLERS = {"admin": Role.ADMIN, "service": Role.BOX, "viewer": Role.VIEWER, "member": Role.MEMBER}
CALLERS["foreign"] = Role.OPERATOR
NOT_SERVED = ("UNIMPLEMENTED", "NOT_AVAILABLE")
INVALID = ("UNAUTHENTICATED", "TOKEN_INVALID")

# A request of every method that names a session.
REQUESTS = {
    "ReadFile": 'file {{ {session} path: "/workspace/a" }}',
    "WriteFile": 'start {{ file {{ {session} path: "/workspace/a" }} }}',
    "EditFile": 'file {{ {session} path: "/workspace/a" }} old_text: "a" new_text: "b"',
    "Glob": 'directory {{ {session} path: "/workspace" }} pattern: "*"',
    "Grep": 'root {{ {session} path: "/workspace" }} pattern: "a"',
    "ListDirectory": 'directory {{ {session} path: "/workspace" }}',
    "Stat": 'file {{ {session} path: "/workspace" }}',
    "Remove": 'file {{ {session} path: "/workspace/a" }}',
    "Upload": 'start {{ directory {{ {session} path: "/workspace" }} }}',
    "Download": 'file {{ {session} path: "/workspace" }}',
    "Exec": 'start {{ {session} command {{ shell: "true" }} }}',
    "ExecOnce": '{session} command {{ shell: "true" }} request_id: "r"',
    "StartProcess": '{session} process_id: "p" command {{ shell: "true" }}',
    "GetProcess": '{session} process_id: "p"',
    "ListProcesses": "{session}",
    "StopProcess": '{session} process_id: "p"',
    "AttachProcess": 'attach {{ {session} process_id: "p" }}',
    "ServeSocket": 'listen {{ {session} name: "models" }}',
    "ListSockets": "{session}",
    "CreateSession": "{session}",
    "GetSession": "{session}",
    "DeleteSession": "{session}",
    "ListHeld": "{session}",
    "SetSessionSkills": "{session}",
    "PrepareSkill": '{session} name: "s"',
}


@pytest.mark.parametrize("name", CALLERS)
async def test_a_role_calls_what_the_contract_lets_it_call_and_nothing_else(box: BoxProcess, name: str) -> None:
    verdicts = await probe_all(box.address, METHODS, f"Bearer {box.tokens[name].text}")
    for method in METHODS:
        found = verdicts[path_of(method)]
        if CALLERS[name] not in roles_of(method):
            assert found.short == ("PERMISSION_DENIED", "ROLE_LACKS_METHOD"), (path_of(method), found)
        else:
            assert found.short in (("INVALID_ARGUMENT", "UNPARSABLE_MESSAGE"), NOT_SERVED), (path_of(method), found)


async def test_without_a_token_that_it_knows_nothing_answers(box: BoxProcess) -> None:
    wrong = box.tokens["admin"].text.rpartition("_")[0] + "_" + "0" * 64
    for header, expected in (
        ("", ("UNAUTHENTICATED", "TOKEN_MISSING")),
        ("Basic YTpi", INVALID),
        ("Bearer garbage", INVALID),
        (f"Bearer {mint_token('admin').text}", INVALID),
        (f"Bearer {wrong}", INVALID),
    ):
        found = await probe_all(box.address, METHODS, header)
        assert {verdict.short for verdict in found.values()} == {expected}


async def test_a_session_of_another_workspace_is_told_from_a_missing_one_by_nothing(
    box: BoxProcess, inside: Inside
) -> None:
    # Errors are only sought by the name of a session.
    named = {method.name for method in METHODS if _names_a_session(method)} - {"ListErrors"}
    assert named == set(REQUESTS)
    async with grpc.aio.insecure_channel(box.address) as channel:

        async def told(method_name: str, session_id: str, workspace: str) -> Verdict:
            method = next(one for one in METHODS if one.name == method_name)
            session = f'session_id: "{session_id}" workspace_id: "{workspace}"'
            request = Parse(REQUESTS[method_name].format(session=session), GetMessageClass(method.input_type)())
            given = request.SerializeToString()
            verdict = await probe(channel, path_of(method), f"Bearer {box.tokens['foreign'].text}", given)
            return Verdict(verdict.code, verdict.reason, verdict.message.replace(session_id, "…"))

        for name in REQUESTS:
            # Without a name a session of the caller's own workspace would be made.
            for workspace in ("default",) if name == "CreateSession" else ("default", ""):
                foreign, missing = await asyncio.gather(
                    told(name, inside.session_id, workspace), told(name, "ses-nobody", workspace)
                )
                assert foreign == missing, name
                assert foreign.short == ("NOT_FOUND", "NOT_FOUND"), (name, foreign)
    assert (await inside.sh("echo here")).stdout == "here\n"


def _names_a_session(method: MethodDescriptor) -> bool:
    fields = list(method.input_type.fields)
    inner = [deep for one in fields if one.message_type for deep in one.message_type.fields]
    deeper = [deep for one in inner if one.message_type for deep in one.message_type.fields]
    return any(field.name == "session_id" for field in [*fields, *inner, *deeper])
