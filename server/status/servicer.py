"""StatusService on the wire."""

from collections.abc import Collection
from typing import Never

from portway.rpc.call import Call
from portway.rpc.describe import contract_services
from portway.server.runtimes.runner import PROTOCOL_VERSION
from portway.server.status.look import Lookout, Seen
from portway.server.status.types import Part, PartState
from portway.server.storage_engine.clock import Micros, now
from portway.v1 import options_pb2, status_pb2

ADAPTER_PROTOCOL_VERSION = 1

_STATES = {
    PartState.OK: status_pb2.PART_STATE_OK,
    PartState.DEGRADED: status_pb2.PART_STATE_DEGRADED,
    PartState.UNAVAILABLE: status_pb2.PART_STATE_UNAVAILABLE,
    PartState.DISABLED: status_pb2.PART_STATE_DISABLED,
}


class StatusServicer:
    """`served` has the full names of the methods that this host serves, `portway.v1.RunService/GetRun`."""

    def __init__(
        self, lookout: Lookout, *, version: str, name: str, epoch: int, data: str, served: Collection[str]
    ) -> None:
        self._lookout = lookout
        self._version = version
        self._name = name
        self._epoch = epoch
        self._data = data
        self._served = served
        self._started: Micros = now()

    async def GetStatus(
        self, request: status_pb2.GetStatusRequest, call: Call[Never, Never]
    ) -> status_pb2.GetStatusResponse:
        seen = await self._lookout.look(call.caller.workspace_id)
        answer = status_pb2.GetStatusResponse(
            version=self._version, host=self._name, host_epoch=self._epoch, data_directory=self._data
        )
        answer.start_time.FromMicroseconds(self._started)
        answer.parts.extend(part_message(part) for part in seen.parts)
        _fill(answer, seen)
        return answer

    async def GetVersion(
        self, request: status_pb2.GetVersionRequest, call: Call[Never, Never]
    ) -> status_pb2.GetVersionResponse:
        return status_pb2.GetVersionResponse(
            version=self._version,
            runner_protocol_versions=[PROTOCOL_VERSION],
            adapter_protocol_versions=[ADAPTER_PROTOCOL_VERSION],
        )

    async def ListMethods(
        self, request: status_pb2.ListMethodsRequest, call: Call[Never, Never]
    ) -> status_pb2.ListMethodsResponse:
        answer = status_pb2.ListMethodsResponse()
        for service in contract_services():
            for method in service.methods:
                name = f"{service.full_name}/{method.name}"
                roles = method.GetOptions().Extensions[options_pb2.access].roles
                answer.methods.add(name=name, served=name in self._served, roles=roles)
        return answer


def part_message(part: Part) -> status_pb2.PartStatus:
    return status_pb2.PartStatus(name=part.name, state=_STATES[part.state], reason=part.reason, address=part.address)


def _fill(answer: status_pb2.GetStatusResponse, seen: Seen) -> None:
    figures = seen.figures
    answer.queued_run_count = figures.queued_runs
    answer.active_run_count = figures.active_runs
    answer.pending_delivery_count = figures.pending_deliveries
    answer.stuck_delivery_count = figures.stuck_deliveries
    answer.free_disk_bytes = figures.free_disk_bytes
    answer.sql_statement_count = figures.sql_statements
    answer.sql_commit_count = figures.sql_commits
    if seen.box is not None:
        answer.box.CopyFrom(seen.box)
    if seen.runtime is not None:
        answer.runtime.CopyFrom(seen.runtime)
