"""What the sessions of runs show of their agent's skills, and the files that a box gets of them."""

import tarfile
from collections.abc import AsyncIterator

from portway.rpc.errors import NotFound
from portway.server.skills.store import Skills
from portway.server.skills.types import MAX_FILES
from portway.server.storage_engine.blobs import Blobs
from portway.server.tools.box import ShownSkill
from portway.server.tools.types import BoxSession

MAX_SHOWN = 100
"""Skills of one session; the active ones come first."""
_PIECE = 1024 * 1024


class SkillProjection:
    """Implements `SkillsOfSessions`."""

    def __init__(self, skills: Skills, blobs: Blobs) -> None:
        self._skills = skills
        self._blobs = blobs

    async def shown(self, session: BoxSession) -> tuple[ShownSkill, ...]:
        """The skills that the session's agent was given and that are there now, by name."""
        found = await self._skills.offered(session.workspace_id, session.skills, session.conversation_id)
        first = sorted(found, key=lambda one: (not one.active, one.name))[:MAX_SHOWN]
        shown = [
            ShownSkill(one.name, one.digest, one.active and one.writable and not session.read_only) for one in first
        ]
        return tuple(sorted(shown, key=lambda one: one.name))

    async def archive(self, workspace_id: str, name: str) -> AsyncIterator[bytes]:
        """Its files as they are now, as a tar archive. Raises NotFound."""
        files = await self._skills.files(workspace_id, name, "", MAX_FILES)
        if not files:
            raise NotFound.of("skill", name)
        for file in files:
            header = tarfile.TarInfo(file.path)
            header.size, header.mode = file.size, 0o755 if file.executable else 0o644
            yield header.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")
            async for piece in self._blobs.stream(workspace_id, file.sha256, 0, file.size, _PIECE):
                yield piece
            yield bytes(-file.size % tarfile.BLOCKSIZE)
        yield bytes(2 * tarfile.BLOCKSIZE)
