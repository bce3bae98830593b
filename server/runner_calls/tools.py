"""Tools of a run. What may not happen twice is in the effect ledger before it happens."""

import asyncio
import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Never

from portway.rpc.errors import (
    Conflict,
    DeadlineExceeded,
    NotFound,
    PortwayError,
    Reason,
    Unavailable,
    WrongState,
)
from portway.rpc.ids import new_id
from portway.rpc.traces.span import spanning
from portway.server.approvals.gate import ApprovalGate, Wanted
from portway.server.approvals.policy import COMMAND_TOOL, tool_needs
from portway.server.effects.store import finish_effect, plan_effect
from portway.server.effects.types import Effect, EffectState, Idempotency, NewEffect
from portway.server.runner_calls.backing import RunBacking
from portway.server.runner_calls.box import session_of
from portway.server.runner_calls.emit import Emit
from portway.server.runner_calls.holdings import Held
from portway.server.runner_calls.paying import ONE_CALL, paid
from portway.server.runner_calls.scope import RunScope
from portway.server.runner_calls.tool_results import ResultKeeper
from portway.server.storage_engine.writer import Writer
from portway.server.switches.directory import KillSwitches
from portway.server.switches.types import SwitchKind
from portway.server.tools.registry import ToolRegistry
from portway.server.tools.schema import Schemas
from portway.server.tools.types import ToolCall, ToolResult, ToolScope, ToolSpec, ToolType
from portway.server.tools.wire import dict_of, event_to_wire, resource_to_wire
from portway.v1 import run_pull_pb2 as pb

# Seconds in which the source of a tool is asked what became of a call whose answer did not come.
RECONCILE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class _Prepared:
    spec: ToolSpec
    scope: ToolScope
    call_id: str
    arguments: Mapping[str, object]
    timeout: float | None

    def seconds(self, run: RunScope) -> float:
        """What it may take from now on."""
        left = run.time_left()
        return left if self.timeout is None else min(left, self.timeout)

    def call(self, run: RunScope, effect_id: str) -> ToolCall:
        return ToolCall(self.spec.name, self.arguments, effect_id, self.seconds(run))

    @property
    def digest(self) -> bytes:
        text = json.dumps(self.arguments, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(f"{self.spec.name}\0{text}".encode()).digest()


class ToolCalls:
    """GetTool and CallTool."""

    def __init__(
        self,
        writer: Writer,
        tools: ToolRegistry,
        switches: KillSwitches,
        gate: ApprovalGate,
        results: ResultKeeper,
    ) -> None:
        self._switches = switches
        self._writer = writer
        self._tools = tools
        self._gate = gate
        self._results = results
        self._schemas = Schemas()

    async def get_tool(self, run: RunScope, request: pb.RunnerServiceGetToolRequest) -> pb.RunnerServiceGetToolResponse:
        run.allow("tools_detail", "GetTool")
        spec = run.snapshot.tools.get(request.name)
        if spec is None:
            raise run.missing("GetTool", "tool", request.name)
        return pb.RunnerServiceGetToolResponse(tool=resource_to_wire(spec))

    async def call_tool(self, run: RunScope, request: pb.RunnerServiceCallToolRequest, emit: Emit) -> None:
        run.allow("tools_call", "CallTool")
        if request.name not in run.snapshot.tools:
            raise run.missing("CallTool", "tool", request.name)
        self._refuse_stopped(run, request.name)
        run.count_tool_call()
        began, outcome = time.monotonic(), "failed"
        kind = run.snapshot.tools[request.name].type
        try:
            with spanning("tool call") as span:
                if span is not None:
                    span.set(tool=request.name, kind=str(kind))
                result = await self._paid(run, request, emit)
                outcome = "error" if result.is_error else "replayed" if result.replayed else "ok"
                if span is not None:
                    span.set(outcome=outcome)
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            run.counts.tool_called(str(kind), outcome, time.monotonic() - began)
        response = pb.RunnerServiceCallToolResponse(result=result)
        response.result.duration.FromMilliseconds(round((time.monotonic() - began) * 1000))
        await emit(response, True)

    async def _paid(self, run: RunScope, request: pb.RunnerServiceCallToolRequest, emit: Emit) -> pb.ToolResult:
        async with paid(run, ONE_CALL):
            prepared = self._prepare(run, request)
            # Another's tool is told that nobody waits any more; whether it stops nobody says.
            remote = prepared.spec.type in (ToolType.PLUGIN, ToolType.MCP)
            held = Held("tool_call", prepared.call_id, remote=remote)
            return await self._held(run, prepared, held, emit)

    async def _held(self, run: RunScope, prepared: _Prepared, held: Held, emit: Emit) -> pb.ToolResult:
        with run.held.holding(held):
            if prepared.spec.needs_ledger:
                return await self._once(run, prepared, emit)
            await self._approved(run, prepared)
            return await self._keep(run, prepared, await self._make(run, prepared, new_id("eff"), emit))

    def _refuse_stopped(self, run: RunScope, tool: str) -> None:
        """Raises WrongState (KILL_SWITCH)."""
        if self._switches.refusal(run.workspace_id, SwitchKind.TOOL, tool):
            run.refuse("CallTool", f"tool {tool}", Reason.KILL_SWITCH)
            self._switches.check(run.workspace_id, SwitchKind.TOOL, tool)

    def _prepare(self, run: RunScope, request: pb.RunnerServiceCallToolRequest) -> _Prepared:
        try:
            # How careful to be is what the tool's source says now.
            spec = self._tools.get(request.name, run.workspace_id).spec
        except NotFound as error:
            raise WrongState(
                f"the tool {request.name!r} is not there any more", reason=Reason.TOOL_UNAVAILABLE
            ) from error
        arguments = dict_of(request.arguments)
        self._check(run.snapshot.tools[request.name], spec, arguments)
        timeout = request.timeout.ToMilliseconds() / 1000 if request.HasField("timeout") else None
        session = session_of(run.snapshot, run.workspace_id, run.conversation_id) if run.snapshot.session_id else None
        scope = ToolScope(
            workspace_id=run.workspace_id,
            run_id=run.run_id,
            session=session,
            agent_id=run.snapshot.agent_id,
            conversation_id=run.conversation_id,
            skills=run.snapshot.skills,
            runner_id=run.snapshot.runner.runner_id,
            backing=RunBacking(run),
        )
        return _Prepared(spec, scope, request.call_id or new_id("call"), arguments, timeout)

    async def _once(self, run: RunScope, prepared: _Prepared, emit: Emit) -> pb.ToolResult:
        """A call that may not happen twice: not by a second request with its id, and not by a later attempt."""
        under_way = run.tool_calls.get(prepared.call_id)
        if under_way is not None:
            digest, answer = under_way
            if digest != prepared.digest:
                raise _other_call(prepared.call_id)
            return await asyncio.shield(answer)
        answer = asyncio.get_running_loop().create_future()
        run.tool_calls[prepared.call_id] = (prepared.digest, answer)
        try:
            result = await self._ledgered(run, prepared, emit)
        except BaseException as error:
            # Whoever asked for the same call meanwhile gets the same answer; nobody may have.
            answer.set_exception(error if isinstance(error, PortwayError) else _lost(prepared.spec.name))
            answer.exception()
            raise
        finally:
            del run.tool_calls[prepared.call_id]
        answer.set_result(result)
        return result

    def _check(self, granted: ToolSpec, now: ToolSpec, arguments: Mapping[str, object]) -> None:
        """The host's own tools check theirs. A schema that changed after the run began loosens nothing."""
        if now.type is ToolType.NATIVE:
            return
        self._schemas.check(now, arguments)
        if granted.input_schema != now.input_schema:
            self._schemas.check(granted, arguments)

    async def _keep(self, run: RunScope, prepared: _Prepared, result: ToolResult) -> pb.ToolResult:
        return await self._results.keep(run, prepared.spec.name, prepared.call_id, result)

    async def _ledgered(self, run: RunScope, prepared: _Prepared, emit: Emit) -> pb.ToolResult:
        await self._approved(run, prepared)
        if run.effect_lost:
            raise _lost(prepared.spec.name)
        effect = NewEffect(
            effect_id=new_id("eff"),
            call_id=prepared.call_id,
            tool=prepared.spec.name,
            idempotency=prepared.spec.idempotency,
            digest=prepared.digest,
        )
        earlier = run.claim_earlier(effect.digest, effect.call_id)
        if earlier is None and any(one.state is EffectState.PLANNED for one in run.earlier_effects):
            # An earlier attempt made another call whose end nobody knows: going on could do the same in other words.
            run.effect_lost = True
            raise _lost(prepared.spec.name)
        if earlier is None or earlier.call_id == effect.call_id:
            earlier = await self._writer.run(lambda tx: plan_effect(tx, run.fence, effect))
        if earlier is not None:
            return await self._again(run, prepared, earlier)
        run.open_effects.add(effect.effect_id)
        try:
            made = await self._make(run, prepared, effect.effect_id, emit)
        except (Unavailable, DeadlineExceeded, TimeoutError):
            # It may have happened: its source is asked, and the call is not made again.
            return await self._find_out(run, prepared, effect.effect_id)
        except PortwayError as error:
            if error.reason == Reason.EFFECT_UNKNOWN:
                self._lose(run, prepared, effect.effect_id)
            await self._finish(run, effect.effect_id, EffectState.FAILED, error.message.encode())
            raise
        # A call that is cancelled stays planned: whoever makes it again asks its source what became of it.
        result = await self._keep(run, prepared, made)
        await self._finish(run, effect.effect_id, EffectState.DONE, result.SerializeToString())
        return result

    async def _approved(self, run: RunScope, prepared: _Prepared) -> None:
        """Wait for a person, where the agent's policies say so. Before the effect: what nobody allowed never begins."""
        name, command = prepared.spec.name, str(prepared.arguments.get("command", ""))
        if not tool_needs(run.snapshot.spec, name, command):
            return
        what = f"Run the command: {command}" if name == COMMAND_TOOL else f"Call the tool {name}"
        await self._gate.ask(
            run,
            Wanted(kind="tool", name=name, call_id=prepared.call_id, title=what[:500], arguments=prepared.arguments),
        )

    async def _again(self, run: RunScope, prepared: _Prepared, earlier: Effect) -> pb.ToolResult:
        match earlier.state:
            case EffectState.DONE:
                return _replayed(earlier.result)
            case EffectState.FAILED:
                raise WrongState(
                    f"the same call of {prepared.spec.name!r} failed before: {earlier.result.decode()}",
                    reason=Reason.TOOL_UNAVAILABLE,
                )
            case EffectState.UNKNOWN:
                run.effect_lost = True
                raise _lost(prepared.spec.name)
            case EffectState.PLANNED:
                return await self._find_out(run, prepared, earlier.effect_id)

    async def _find_out(self, run: RunScope, prepared: _Prepared, effect_id: str) -> pb.ToolResult:
        try:
            async with asyncio.timeout(RECONCILE_SECONDS):
                found = await self._tools.reconcile(prepared.scope, prepared.call(run, effect_id))
        except (PortwayError, TimeoutError):
            self._lose(run, prepared, effect_id)
        result = await self._keep(run, prepared, found)
        await self._finish(run, effect_id, EffectState.DONE, result.SerializeToString())
        return result

    def _lose(self, run: RunScope, prepared: _Prepared, effect_id: str) -> Never:
        run.effect_lost = True
        self._finish_later(run, effect_id, EffectState.UNKNOWN)
        raise _lost(prepared.spec.name)

    async def _make(self, run: RunScope, prepared: _Prepared, effect_id: str, emit: Emit) -> ToolResult:
        call = prepared.call(run, effect_id)
        made = self._made(prepared, call)
        if made is not None:
            run.held.add(made)
        seen = True
        try:
            return await self._told(prepared, call, emit)
        except (asyncio.CancelledError, Unavailable, DeadlineExceeded, TimeoutError):
            # It may go on: whoever stops the run asks for it.
            seen = False
            raise
        finally:
            if made is not None and seen:
                run.held.drop(made.kind, made.part_id)

    def _made(self, prepared: _Prepared, call: ToolCall) -> Held | None:
        """What a call of a tool that can tell has begun: a command in the box, or work of a plugin."""
        if prepared.spec.idempotency is not Idempotency.RECONCILABLE:
            return None
        native = prepared.spec.type is ToolType.NATIVE
        under = prepared.call_id if native else ""
        kind, part_id = ("process", call.effect_id) if native else ("tool_call", prepared.call_id)
        return Held(kind, part_id, under, lambda: self._tools.reconcile(prepared.scope, call))

    async def _told(self, prepared: _Prepared, call: ToolCall, emit: Emit) -> ToolResult:
        async with asyncio.timeout(call.timeout_seconds), aclosing(self._tools.call(prepared.scope, call)) as events:
            async for event in events:
                if isinstance(event, ToolResult):
                    return event
                await emit(event_to_wire(event))
        raise Unavailable(f"the tool {prepared.spec.name!r} ended without a result")

    async def _finish(self, run: RunScope, effect_id: str, state: EffectState, result: bytes) -> None:
        await self._writer.run(lambda tx: finish_effect(tx, run.workspace_id, effect_id, state, result))
        run.open_effects.discard(effect_id)

    def _finish_later(self, run: RunScope, effect_id: str, state: EffectState) -> None:
        done = self._writer.submit(lambda tx: finish_effect(tx, run.workspace_id, effect_id, state))
        # Where it cannot be written it stays planned, and the next attempt asks what became of it.
        done.add_done_callback(lambda future: future.cancelled() or future.exception())


def _replayed(kept: bytes) -> pb.ToolResult:
    message = pb.ToolResult.FromString(kept)
    message.replayed = True
    return message


def _lost(tool: str) -> WrongState:
    return WrongState(
        f"the tool {tool!r} was called and its result is lost; it may have acted, so it is not called again",
        reason=Reason.EFFECT_UNKNOWN,
    )


def _other_call(call_id: str) -> Conflict:
    return Conflict(
        f"the call id {call_id!r} stands for another call of this run; use a new one",
        reason=Reason.SAME_KEY_OTHER_BODY,
    )
