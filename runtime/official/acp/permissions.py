"""Who answers an agent that asks for permission: the operator once and for all, or a person each time."""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from acp.schema import PermissionOption, ToolCallUpdate

from portway.rpc.errors import PortwayError
from portway.runtime.official.acp.talk import Decide
from portway.runtime.sdk import HostApi, RunContext, WantedApproval

CHOICES = ("reject", "allow", "ask")
# What people are shown of one value; the digest stands for the whole.
_SHOWN = 8_000
_SHOWN_VALUES = 24

Clock = Callable[[], AbstractContextManager[None]]


def by_configuration(choice: str) -> Decide:
    """The same answer to everything."""

    async def decide(call: ToolCallUpdate, option: PermissionOption) -> tuple[bool, str]:
        return choice == "allow", f"config.permissions is {choice}"

    return decide


def by_people(ctx: RunContext, host: HostApi, standing_still: Clock) -> Decide:
    """An approval of the host for each request; the program's time stands still while somebody decides."""
    asked = 0

    async def decide(call: ToolCallUpdate, option: PermissionOption) -> tuple[bool, str]:
        nonlocal asked
        asked += 1
        if not ctx.permissions.allow("approvals_request"):
            return False, "nobody may approve in this run: see approval_policy of the agent"
        try:
            with standing_still():
                await host.approvals.request(wanted(call, option, asked))
        except PortwayError as error:
            return False, error.message
        return True, "a person approved it"

    return decide


def wanted(call: ToolCallUpdate, option: PermissionOption, number: int) -> WantedApproval:
    """What people are asked: everything that the agent says of it, long values shortened."""
    said = call.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"field_meta"})
    whole = json.dumps([said, option.name, option.kind], sort_keys=True, ensure_ascii=False)
    details = {
        "arguments": shortened(said.get("rawInput", {})),
        "locations": [str(one.get("path", ""))[:1000] for one in said.get("locations", ())][:_SHOWN_VALUES],
        "changes": shortened(said.get("content", [])),
        "answer": f"{option.name} ({option.kind})"[:200],
    }
    return WantedApproval(
        request_id=f"{number}-{call.tool_call_id}"[:128],
        subject=str(call.kind or "tool")[:128],
        title=" ".join((call.title or call.tool_call_id or "something").split())[:500] or "something",
        details={name: value for name, value in details.items() if value},
        content_digest=hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest(),
    )


def shortened(value: Any, depth: int = 6) -> Any:
    """JSON that people can be shown: what is left out is said."""
    if isinstance(value, str):
        return value if len(value) <= _SHOWN else f"{value[:_SHOWN]}… ({len(value)} characters in all)"
    if isinstance(value, Mapping | list) and not depth:
        return "…"
    if isinstance(value, Mapping):
        kept = {str(name)[:200]: shortened(one, depth - 1) for name, one in list(value.items())[:_SHOWN_VALUES]}
        return kept if len(value) <= _SHOWN_VALUES else kept | {"…": f"{len(value)} values in all"}
    if isinstance(value, list):
        kept_list = [shortened(one, depth - 1) for one in value[:_SHOWN_VALUES]]
        return kept_list if len(value) <= _SHOWN_VALUES else [*kept_list, f"… ({len(value)} in all)"]
    return value
