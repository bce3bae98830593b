"""What every call of a component knows: for whom it works, until when, and what its plugin keeps."""

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from portway.rpc.errors import InvalidInput, NotPermitted, Reason, WrongState
from portway.runtime.sdk.host.kept import Storage
from portway.runtime.sdk.types.pulled import StorageArea, StorageEntry

DATA = "PORTWAY_DATA"

Report = Callable[[str, float | None], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Caller:
    """For whom a component works, as the host says. All but the workspace are empty outside runs."""

    workspace_id: str = ""
    run_id: str = ""
    runner_id: str = ""
    agent_id: str = ""
    conversation_id: str = ""


class PluginStorage:
    """Bytes of at most 64 MiB by key, kept by the host for this plugin in this workspace."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def get(self, key: str) -> bytes | None:
        """The bytes, None where there are none."""
        return await self._storage.get(StorageArea.PLUGIN, key)

    async def set(self, key: str, data: bytes) -> None:
        await self._storage.set(StorageArea.PLUGIN, key, data)

    async def delete(self, key: str) -> None:
        """Raises `NotFound`."""
        await self._storage.delete(StorageArea.PLUGIN, key)

    async def list(self, prefix: str = "") -> Sequence[StorageEntry]:
        """All entries whose keys begin with `prefix`, in order."""
        return await self._storage.list(StorageArea.PLUGIN, prefix)


class ComponentCall:
    """One call of a component. Who waits no more cancels it: it sees `asyncio.CancelledError` and should end soon."""

    def __init__(
        self,
        caller: Caller,
        deadline: datetime | None,
        report: Report | None = None,
        storage: PluginStorage | None = None,
    ) -> None:
        self.caller = caller
        self.deadline = deadline
        self._report = report
        self._storage = storage

    @property
    def time_left(self) -> float | None:
        """Seconds until its time is over, 0 at least; None where there is no end."""
        if self.deadline is None:
            return None
        return max(0.0, (self.deadline - datetime.now(UTC)).total_seconds())

    async def progress(self, text: str, fraction: float | None = None) -> None:
        """Shows a short line about how far it is; `fraction` is 0 to 1 where it is known."""
        if self._report is not None:
            await self._report(text[:1000], fraction)

    @property
    def storage(self) -> PluginStorage:
        """What the host keeps for the plugin. Raises `NotPermitted` where its manifest does not ask for it."""
        if self._storage is None:
            raise NotPermitted("the component has no storage: write `permissions: {storage: [plugin]}` in its manifest")
        return self._storage

    def secret(self, name: str) -> str:
        """A variable that the manifest asks for and the operator granted. Raises `WrongState`."""
        value = os.environ.get(name)
        if value is None:
            raise WrongState(
                f"{name} is not there: the manifest names it under `environment`, the operator under `runtime.grants`",
                reason=Reason.NOT_CONFIGURED,
            )
        return value

    @property
    def folder(self) -> Path:
        """A folder for this workspace that outlives the process and upgrades of the plugin. It may be lost: only what
        can be made again belongs there. Raises `WrongState` where there is none: plugins with a knowledge engine have
        one."""
        root = os.environ.get(DATA)
        if not root:
            raise WrongState("the plugin has no folder for what it keeps", reason=Reason.NOT_CONFIGURED)
        name = self.caller.workspace_id
        if not name or "/" in name or name.startswith("."):
            raise InvalidInput.field("caller.workspace_id", "is no name of a workspace")
        folder = Path(root) / name
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder
