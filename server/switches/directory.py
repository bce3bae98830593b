"""The kill switches that are on, in memory: asked for every event and every call of a run."""

from collections.abc import Iterable

from portway.rpc.errors import Reason, WrongState
from portway.server.switches.store import StoredSwitches
from portway.server.switches.types import EVERY, KillSwitch, SwitchKind

_AT_ONCE = 500
_Key = tuple[str, SwitchKind, str]


class KillSwitches:
    """Answers from memory; whoever changes a switch says so after the commit."""

    def __init__(self) -> None:
        self._on: dict[_Key, KillSwitch] = {}

    async def load(self, stored: StoredSwitches) -> None:
        """Read them all."""
        after = ("", "", "")
        found: dict[_Key, KillSwitch] = {}
        while page := await stored.every(after, _AT_ONCE):
            found.update((_key(switch), switch) for switch in page)
            after = (page[-1].workspace_id, page[-1].kind, page[-1].target_id)
        self._on = found

    def turned_on(self, switch: KillSwitch) -> None:
        self._on[_key(switch)] = switch

    def turned_off(self, workspace_id: str, kind: SwitchKind, target_id: str) -> None:
        self._on.pop((workspace_id, kind, target_id), None)

    def drop(self, workspace_id: str) -> None:
        """The workspace is gone."""
        self._on = {key: switch for key, switch in self._on.items() if key[0] != workspace_id}

    def refusal(self, workspace_id: str, kind: SwitchKind, target_id: str) -> str:
        """Why it is stopped; '' where it is not."""
        if not self._on:
            return ""
        found = self._on.get((workspace_id, kind, target_id)) or self._on.get((workspace_id, kind, EVERY))
        if found is None:
            return ""
        why = f": {found.reason}" if found.reason else ""
        return f"the {kind} {target_id!r} is stopped by a kill switch{why}"

    def check(self, workspace_id: str, kind: SwitchKind, target_id: str) -> None:
        """Raises WrongState (KILL_SWITCH)."""
        why = self.refusal(workspace_id, kind, target_id)
        if why:
            raise stopped(why)

    def first_allowed(self, workspace_id: str, kind: SwitchKind, names: Iterable[str]) -> list[str]:
        """Those that are not stopped, in their order."""
        return [name for name in names if not self.refusal(workspace_id, kind, name)]


def stopped(why: str, code: str = "") -> WrongState:
    """The refusal as an error; `code` is what a run that may not begin fails with."""
    return WrongState(
        f"{why[:1].upper()}{why[1:]}. `portway switch list` shows what is stopped; an operator takes it off with "
        "`portway switch off`.",
        reason=Reason.KILL_SWITCH,
        facts={"code": code} if code else None,
    )


def _key(switch: KillSwitch) -> _Key:
    return switch.workspace_id, switch.kind, switch.target_id
