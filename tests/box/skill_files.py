"""Skills for tests of the box: files, the digest that a host gives them, and how they come in."""

import hashlib
from collections.abc import AsyncIterator, Mapping

from portway.rpc.channel import PortwayChannel
from portway.rpc.status import errors_by_meaning
from portway.v1 import session_pb2, skill_mount_pb2, skill_mount_pb2_grpc
from tests.box.archives import Member, archive

Files = Mapping[str, bytes]
COUNTING: Files = {
    "SKILL.md": b"---\nname: counting\n---\n",
    "lib/data.txt": b"1 2 3\n",
    "run.sh": b"#!/bin/sh\necho 3\n",
}


def mode_of(path: str) -> int:
    return 0o755 if path.endswith(".sh") else 0o644


def digest_of(files: Files) -> str:
    whole = hashlib.sha256()
    for path, content in sorted(files.items()):
        executable = int(mode_of(path) == 0o755)
        whole.update(f"{path}\0{executable}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return whole.hexdigest()


def packed(files: Files) -> bytes:
    return archive(*(Member(path.encode(), content, mode=mode_of(path)) for path, content in files.items()))


async def send(
    channel: PortwayChannel, data: bytes, digest: str, workspace_id: str = ""
) -> skill_mount_pb2.PutSkillResponse:
    async def frames() -> AsyncIterator[skill_mount_pb2.PutSkillRequest]:
        start = skill_mount_pb2.PutSkillStart(digest=digest, workspace_id=workspace_id)
        yield skill_mount_pb2.PutSkillRequest(start=start)
        for at in range(0, len(data), 300_000):
            yield skill_mount_pb2.PutSkillRequest(data=data[at : at + 300_000])

    with errors_by_meaning():
        return await skill_mount_pb2_grpc.SkillMountServiceStub(channel).PutSkill(frames())


async def put(channel: PortwayChannel, files: Files, workspace_id: str = "") -> str:
    """Its digest."""
    digest = digest_of(files)
    await send(channel, packed(files), digest, workspace_id)
    return digest


def showing(name: str, digest: str, writable: bool = False) -> session_pb2.SessionSkill:
    return session_pb2.SessionSkill(name=name, digest=digest, writable=writable)
