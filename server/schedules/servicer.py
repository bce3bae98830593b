"""ScheduleService on the wire."""

from typing import Never

from portway.rpc.call import Call
from portway.rpc.cursor import CursorCodec
from portway.server.schedules.manage import ScheduleManager
from portway.server.schedules.store import Schedules
from portway.server.schedules.wire import draft_of, schedule_message
from portway.v1 import schedule_pb2 as pb

DEFAULT_PAGE = 50

_Call = Call[Never, Never]


class ScheduleServicer:
    """Keeps schedules."""

    def __init__(self, manager: ScheduleManager, schedules: Schedules, cursors: CursorCodec) -> None:
        self._manager = manager
        self._schedules = schedules
        self._cursors = cursors

    async def CreateSchedule(self, request: pb.CreateScheduleRequest, call: _Call) -> pb.CreateScheduleResponse:
        schedule = await self._manager.create(call.caller, draft_of(request.schedule), request.request_id)
        return pb.CreateScheduleResponse(schedule=schedule_message(schedule))

    async def GetSchedule(self, request: pb.GetScheduleRequest, call: _Call) -> pb.GetScheduleResponse:
        schedule = await self._schedules.schedule(call.caller.workspace_id, request.schedule_id)
        return pb.GetScheduleResponse(schedule=schedule_message(schedule))

    async def ListSchedules(self, request: pb.ListSchedulesRequest, call: _Call) -> pb.ListSchedulesResponse:
        workspace_id, size = call.caller.workspace_id, request.page_size or DEFAULT_PAGE
        listing = f"schedules/{workspace_id}"
        after = self._cursors.read_page(request.page_token, listing) if request.page_token else ""
        found = await self._schedules.page(workspace_id, after, size + 1)
        response = pb.ListSchedulesResponse(schedules=[schedule_message(one) for one in found[:size]])
        if len(found) > size:
            response.next_page_token = self._cursors.write_page(listing, found[size - 1].schedule_id)
        return response

    async def UpdateSchedule(self, request: pb.UpdateScheduleRequest, call: _Call) -> pb.UpdateScheduleResponse:
        schedule = await self._manager.update(call.caller, draft_of(request.schedule))
        return pb.UpdateScheduleResponse(schedule=schedule_message(schedule))

    async def DeleteSchedule(self, request: pb.DeleteScheduleRequest, call: _Call) -> pb.DeleteScheduleResponse:
        await self._manager.delete(call.caller, request.schedule_id)
        return pb.DeleteScheduleResponse()

    async def TriggerSchedule(self, request: pb.TriggerScheduleRequest, call: _Call) -> pb.TriggerScheduleResponse:
        accepted = await self._manager.trigger(call.caller, request.schedule_id, request.request_id)
        return pb.TriggerScheduleResponse(event_id=accepted.event_id, run_id=accepted.run_id)
