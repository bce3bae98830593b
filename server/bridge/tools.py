"""`tools/list` and `tools/call`: the bridge's own tools, and the run's where they are few."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.protobuf import json_format, struct_pb2

from portway.rpc.errors import InvalidInput
from portway.server.approvals.policy import tool_needs
from portway.server.bridge import own_tools
from portway.server.bridge.assets import PAGE, assets
from portway.server.bridge.calls import BridgeCalls
from portway.server.bridge.content import Answer, document, of_result, plain
from portway.server.bridge.names import shown_names
from portway.server.effects.types import Idempotency
from portway.server.runner_calls.scope import RunScope
from portway.server.tools.schema import Schemas
from portway.server.tools.types import ToolSpec
from portway.v1 import run_pull_pb2 as pb

_PARTIAL = 500
_DIRECTIONS = {"backward": pb.PAGE_DIRECTION_BACKWARD, "forward": pb.PAGE_DIRECTION_FORWARD}

Arguments = Mapping[str, Any]
# How far a call is: a line for people, and the fraction that is done where it is known.
Tell = Callable[[str, float | None], Awaitable[None]]


class BridgeTools:
    """Of all runs. `direct`: up to so many tools of a run are listed by themselves."""

    def __init__(self, calls: BridgeCalls, direct: int) -> None:
        self._calls = calls
        self._direct = direct
        self._schemas = Schemas()
        self._own = {tool.name: tool for tool in own_tools.OWN_TOOLS}

    def listed(self, run: RunScope) -> list[dict[str, Any]]:
        granted = run.snapshot.tools
        direct = [_described(shown, granted[name]) for shown, name in self._direct_names(run).items()]
        return [_described(tool.name, tool) for tool in own_tools.OWN_TOOLS] + direct

    def knows(self, run: RunScope, name: str) -> bool:
        return name in self._own or name in self._direct_names(run)

    async def call(self, run: RunScope, name: str, arguments: Arguments, tell: Tell) -> Answer:
        """Raises what the run's calls raise."""
        own = self._own.get(name)
        if own is None:
            return await self._call(run, self._direct_names(run)[name], arguments, "", tell)
        self._schemas.check(own, arguments)
        match name:
            case own_tools.EVENT:
                return await self._event(run, arguments)
            case own_tools.HISTORY:
                return await self._history(run, arguments)
            case own_tools.KNOWLEDGE:
                return await self._knowledge(run, arguments)
            case own_tools.ASSETS:
                return self._assets(run, arguments)
            case own_tools.DETAIL:
                request = pb.RunnerServiceGetToolRequest(name=self._real(run, arguments["name"]))
                return document(plain((await self._calls.one(run, "get_tool", request)).tool))
            case _:
                real, given = self._real(run, arguments["name"]), arguments.get("arguments", {})
                return await self._call(run, real, given, arguments.get("call_id", ""), tell)

    async def _event(self, run: RunScope, arguments: Arguments) -> Answer:
        event_id = arguments.get("event_id", "")
        found = await self._calls.one(run, "get_event", pb.RunnerServiceGetEventRequest(event_id=event_id))
        told: dict[str, Any] = {"event": plain(found.event), "input": plain(found.input)}
        if not event_id or event_id == run.event_id:
            context = run.context
            told["run_id"] = run.run_id
            for part in ("trigger", "actor", "subject", "conversation", "delivery"):
                told[part] = plain(getattr(context, part))
        return document(told)

    async def _history(self, run: RunScope, arguments: Arguments) -> Answer:
        request = pb.PageHistoryRequest(
            before=arguments.get("before", ""),
            after=arguments.get("after", ""),
            limit=arguments.get("limit", 0),
            direction=_DIRECTIONS[arguments.get("direction", "backward")],
            include_artifacts=arguments.get("include_artifacts", False),
        )
        found = await self._calls.one(run, "page_history", request)
        return document(
            {
                "items": [plain(item) for item in found.items],
                "before_cursor": found.before_cursor,
                "after_cursor": found.after_cursor,
                "has_more": found.has_more,
            }
        )

    async def _knowledge(self, run: RunScope, arguments: Arguments) -> Answer:
        bases = [one.knowledge_base_id for one in run.context.resources.knowledge_bases]
        request = pb.RetrieveKnowledgeRequest(
            knowledge_base_ids=arguments.get("knowledge_base_ids", bases[:20]),
            query=arguments["query"],
            top_k=arguments.get("top_k", 0),
            filters=_struct(arguments.get("filters", {})),
        )
        return document(plain(await self._calls.one(run, "retrieve_knowledge", request)))

    def _assets(self, run: RunScope, arguments: Arguments) -> Answer:
        shown = {name: one for one, name in self._direct_names(run).items()}
        page = arguments.get("offset", 0), arguments.get("limit", PAGE)
        return document(assets(run, shown, arguments.get("kind", ""), *page))

    async def _call(self, run: RunScope, name: str, arguments: Arguments, call_id: str, tell: Tell) -> Answer:
        request = pb.RunnerServiceCallToolRequest(name=name, arguments=_struct(arguments), call_id=call_id)
        if tool_needs(run.snapshot.spec, name, str(arguments.get("command", ""))):
            await tell("this call needs a person's approval; it waits until it is there", None)

        async def told(event: pb.RunnerServiceCallToolResponse) -> None:
            if event.HasField("progress"):
                progress = event.progress
                await tell(progress.text, progress.fraction if progress.HasField("fraction") else None)
            elif event.partial_text:
                await tell(event.partial_text[:_PARTIAL], None)

        return await of_result(self._calls, run, await self._calls.tool(run, request, told))

    def _direct_names(self, run: RunScope) -> Mapping[str, str]:
        """Real names by listed ones; none where they are many, or the run may not call them."""
        granted = run.snapshot.tools
        if len(granted) > self._direct or "tools_call" not in run.snapshot.permissions.allowed:
            return {}
        return shown_names(granted, own_tools.NAMES)

    def _real(self, run: RunScope, name: str) -> str:
        """Both names of a tool are its name."""
        return name if name in run.snapshot.tools else self._direct_names(run).get(name, name)


def _described(name: str, tool: ToolSpec) -> dict[str, Any]:
    read_only = tool.idempotency is Idempotency.READ_ONLY
    hints = {"readOnlyHint": read_only, "idempotentHint": read_only or tool.idempotency is Idempotency.IDEMPOTENT}
    schema = {"type": "object", **tool.input_schema}
    return {"name": name, "description": tool.description, "inputSchema": schema, "annotations": hints}


def _struct(arguments: Arguments) -> struct_pb2.Struct:
    try:
        return json_format.ParseDict(dict(arguments), struct_pb2.Struct())
    except (json_format.ParseError, ValueError, RecursionError):
        raise InvalidInput.field("arguments", "hold what no text is, or are nested too deep") from None
