"""The methods of WorkspaceService about kill switches."""

from typing import Never

from portway.rpc.call import Call
from portway.rpc.cursor import CursorCodec
from portway.rpc.errors import InvalidInput
from portway.server.switches.manage import SwitchManager
from portway.server.switches.store import FIRST_PAGE, StoredSwitches
from portway.server.switches.types import KillSwitch, SwitchKind
from portway.v1 import workspace_pb2 as pb

DEFAULT_PAGE = 50
_KINDS = {
    pb.SWITCH_KIND_AGENT: SwitchKind.AGENT,
    pb.SWITCH_KIND_BOT: SwitchKind.BOT,
    pb.SWITCH_KIND_MODEL: SwitchKind.MODEL,
    pb.SWITCH_KIND_TOOL: SwitchKind.TOOL,
}
_NUMBERS = {kind: number for number, kind in _KINDS.items()}
_Call = Call[Never, Never]


class SwitchMethods:
    def __init__(self, manager: SwitchManager, switches: StoredSwitches, cursors: CursorCodec) -> None:
        self._manager = manager
        self._switches = switches
        self._cursors = cursors

    async def set(self, request: pb.SetKillSwitchRequest, call: _Call) -> pb.SetKillSwitchResponse:
        wanted = request.kill_switch
        kind = _KINDS.get(wanted.kind)
        if kind is None:
            raise InvalidInput.field("kill_switch.kind", "must be agent, bot, model or tool")
        switch = await self._manager.set(call.caller, kind, wanted.target_id, on=wanted.on, reason=wanted.reason)
        return pb.SetKillSwitchResponse(kill_switch=_message(switch, wanted.on))

    async def list(self, request: pb.ListKillSwitchesRequest, call: _Call) -> pb.ListKillSwitchesResponse:
        workspace_id, size = call.caller.workspace_id, request.page_size or DEFAULT_PAGE
        listing = f"switches\0{workspace_id}"
        after = FIRST_PAGE
        if request.page_token:
            kind, _, target_id = self._cursors.read_page(request.page_token, listing).partition("\0")
            after = kind, target_id
        found = await self._switches.page(workspace_id, after, size)
        last = f"{found[-1].kind}\0{found[-1].target_id}" if len(found) == size else ""
        return pb.ListKillSwitchesResponse(
            kill_switches=[_message(switch, True) for switch in found],
            next_page_token=self._cursors.write_page(listing, last) if last else "",
        )


def _message(switch: KillSwitch, on: bool) -> pb.KillSwitch:
    message = pb.KillSwitch(kind=_NUMBERS[switch.kind], target_id=switch.target_id, on=on, reason=switch.reason)
    message.update_time.FromMicroseconds(switch.update_time)
    return message
