"""What lasts beyond a run: `host.state` for JSON values, `host.storage` for bytes. A plugin keeps nothing itself."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from portway.rpc.errors import NotFound
from portway.runtime.sdk.session.calls import Calls
from portway.runtime.sdk.types.context import STATE_VALUE, StateValue
from portway.runtime.sdk.types.convert import read
from portway.runtime.sdk.types.pulled import StorageArea, StorageEntry
from portway.runtime.sdk.types.results import StateScope
from portway.v1 import run_pull_pb2 as pb

PIECE_BYTES = 512 * 1024


class State:
    """JSON values of at most 256 KiB by scope and key. Needs `state`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def get(self, scope: StateScope, key: str) -> StateValue | None:
        """The value with its version, None where there is none."""
        try:
            answer = await self._calls.ask("get_state", pb.GetStateRequest(scope=scope.value, key=key))
        except NotFound:
            return None
        value: StateValue = STATE_VALUE.read(answer.value)
        return value

    async def set(self, scope: StateScope, key: str, value: Any, *, expected_version: int | None = None) -> int:
        """Writes a value and returns its version. With `expected_version` (0: there is none yet) a value that somebody
        else changed raises `Stale` and stays."""
        message = pb.SetStateRequest(
            scope=scope.value, key=key, value_json=json.dumps(value), expected_version=expected_version
        )
        version: int = (await self._calls.ask("set_state", message)).version
        return version

    async def delete(self, scope: StateScope, key: str, *, expected_version: int | None = None) -> None:
        message = pb.DeleteStateRequest(scope=scope.value, key=key, expected_version=expected_version)
        await self._calls.ask("delete_state", message)

    async def list(self, scope: StateScope, prefix: str = "") -> Mapping[str, StateValue]:
        """All values whose keys begin with `prefix`."""
        values: dict[str, StateValue] = {}
        after, more = "", True
        while more:
            message = pb.ListStateRequest(scope=scope.value, prefix=prefix, after_key=after)
            answer = await self._calls.ask("list_state", message)
            values |= {key: STATE_VALUE.read(value) for key, value in answer.values.items()}
            after, more = max(answer.values, default=""), answer.has_more and bool(answer.values)
        return values


class Storage:
    """Bytes of at most 64 MiB by area and key. Needs `storage.*`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def get(self, area: StorageArea, key: str) -> bytes | None:
        """The bytes, None where there are none."""
        pieces = []
        try:
            async for answer in self._calls.stream("get_storage", pb.GetStorageRequest(key=_key(area, key))):
                pieces.append(answer.data)
        except NotFound:
            return None
        return b"".join(pieces)

    async def set(self, area: StorageArea, key: str, data: bytes) -> None:
        async def pieces() -> AsyncIterator[pb.SetStorageRequest]:
            yield pb.SetStorageRequest(key=_key(area, key), data=data[:PIECE_BYTES])
            for start in range(PIECE_BYTES, len(data), PIECE_BYTES):
                yield pb.SetStorageRequest(data=data[start : start + PIECE_BYTES])

        await self._calls.upload("set_storage", pieces())

    async def delete(self, area: StorageArea, key: str) -> None:
        await self._calls.ask("delete_storage", pb.DeleteStorageRequest(key=_key(area, key)))

    async def list(self, area: StorageArea, prefix: str = "") -> tuple[StorageEntry, ...]:
        """All entries whose keys begin with `prefix`, in order."""
        entries: list[StorageEntry] = []
        more = True
        while more:
            after = entries[-1].key if entries else ""
            message = pb.ListStorageRequest(area=area.value, prefix=prefix, after_key=after)
            answer = await self._calls.ask("list_storage", message)
            entries += [read(StorageEntry, entry) for entry in answer.entries]
            more = answer.has_more and bool(answer.entries)
        return tuple(entries)


def _key(area: StorageArea, key: str) -> pb.StorageKey:
    return pb.StorageKey(area=area.value, key=key)
