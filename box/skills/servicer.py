"""SkillMountService on the wire."""

import asyncio
from typing import Never

from portway.box.files.operations import MAX_FRAME_BYTES
from portway.box.sessions.directory import SessionDirectory
from portway.box.sessions.servicer import session_ref
from portway.box.sessions.wire import skill_to, skills_from
from portway.box.skills.environments import SkillEnvironments
from portway.box.skills.store import SkillKey, SkillStore, Taken
from portway.box.workspaces import workspace_of
from portway.rpc.call import Call
from portway.rpc.errors import DeadlineExceeded, InvalidInput, Reason
from portway.v1 import skill_mount_pb2 as pb

AT_ONCE = 4
PUT_SECONDS = 120.0
Unary = Call[Never, Never]


class SkillMountServicer:
    """Translates."""

    def __init__(self, store: SkillStore, sessions: SessionDirectory, environments: SkillEnvironments) -> None:
        self._store = store
        self._sessions = sessions
        self._environments = environments
        # What is being put is on disk before it counts for the bound.
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def FindSkills(self, request: pb.FindSkillsRequest, call: Unary) -> pb.FindSkillsResponse:
        workspace_id = workspace_of(call.caller, request.workspace_id)
        keys = [SkillKey(workspace_id, digest) for digest in dict.fromkeys(request.digests)]
        missing = await asyncio.to_thread(lambda: [key.digest for key in keys if not self._store.has(key)])
        return pb.FindSkillsResponse(missing=missing)

    async def PutSkill(self, call: Call[pb.PutSkillRequest, None]) -> pb.PutSkillResponse:
        first = await call.read()
        if first is None or not first.HasField("start"):
            raise InvalidInput("the first frame of a skill is `start`", reason=Reason.UNEXPECTED_FRAME)
        workspace_id = workspace_of(call.caller, first.start.workspace_id)
        try:
            async with asyncio.timeout(PUT_SECONDS), self._turns:
                taken = await self._receive(call, SkillKey(workspace_id, first.start.digest))
        except TimeoutError:
            raise DeadlineExceeded(f"the skill did not arrive within {PUT_SECONDS:g} s") from None
        return pb.PutSkillResponse(file_count=taken.files, byte_count=taken.bytes, existed=taken.existed)

    async def _receive(self, call: Call[pb.PutSkillRequest, None], key: SkillKey) -> Taken:
        incoming = self._store.receive(key)
        try:
            while (frame := await call.read()) is not None:
                await asyncio.to_thread(incoming.feed, _data(frame))
            return await asyncio.to_thread(incoming.commit)
        finally:
            await asyncio.to_thread(incoming.close)

    async def SetSessionSkills(self, request: pb.SetSessionSkillsRequest, call: Unary) -> pb.SetSessionSkillsResponse:
        ref = session_ref(call.caller, request.workspace_id, request.session_id)
        wanted = skills_from(request.skills, "skills")
        killed = await self._sessions.set_skills(ref, wanted)
        return pb.SetSessionSkillsResponse(skills=[skill_to(one) for one in wanted], killed_process_count=killed)

    async def PrepareSkill(self, request: pb.PrepareSkillRequest, call: Unary) -> pb.PrepareSkillResponse:
        ref = session_ref(call.caller, request.workspace_id, request.session_id)
        made = await self._environments.prepare(ref, request.name)
        return pb.PrepareSkillResponse(environment=made.path, existed=made.existed)


def _data(frame: pb.PutSkillRequest) -> bytes:
    if frame.WhichOneof("kind") != "data":
        raise InvalidInput("after `start` only `data` follows", reason=Reason.UNEXPECTED_FRAME)
    if len(frame.data) > MAX_FRAME_BYTES:
        raise InvalidInput.field("data", f"has more than {MAX_FRAME_BYTES} bytes in one frame")
    return frame.data
