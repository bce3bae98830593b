"""Sessions of an earlier life of the box: what is done once when one is opened again, before anything runs in it."""

from collections.abc import Awaitable, Callable

from portway.box.backends.interface import Sandbox
from portway.box.sessions.types import SessionRef, SessionSpec
from portway.box.tasks import to_its_end


class Returning:
    """Knows which have not been opened yet."""

    def __init__(self) -> None:
        self._refs: set[SessionRef] = set()
        self._tidy: Callable[[SessionRef, Sandbox], Awaitable[None]] | None = None

    def tidied_by(self, tidy: Callable[[SessionRef, Sandbox], Awaitable[None]]) -> None:
        """Has `tidy` waited for. Where it fails the sandbox is taken down again."""
        self._tidy = tidy

    def add(self, ref: SessionRef) -> None:
        self._refs.add(ref)

    async def opened(self, ref: SessionRef, spec: SessionSpec, sandbox: Sandbox) -> None:
        """A sandbox of a session came up."""
        back = ref in self._refs
        self._refs.discard(ref)
        # What an operator's own directory holds is the operator's.
        if not back or spec.workspace_source or self._tidy is None:
            return
        try:
            await self._tidy(ref, sandbox)
        except BaseException:
            await to_its_end(sandbox.delete(keep_workspace=True))
            raise
