"""Runs as messages."""

from portway.rpc.cursor import Cursor, CursorCodec
from portway.server.runs.journal import CURSOR_EPOCH, run_stream
from portway.server.runs.types import Run, RunState, Usage
from portway.v1 import run_pb2, run_result_pb2, usage_pb2

_STATES = {
    RunState.QUEUED: run_pb2.RUN_STATE_QUEUED,
    RunState.RUNNING: run_pb2.RUN_STATE_RUNNING,
    RunState.WAITING: run_pb2.RUN_STATE_WAITING,
    RunState.COMPLETED: run_pb2.RUN_STATE_COMPLETED,
    RunState.FAILED: run_pb2.RUN_STATE_FAILED,
    RunState.CANCELLED: run_pb2.RUN_STATE_CANCELLED,
}
_STATE_OF = {number: state for state, number in _STATES.items()} | {run_pb2.RUN_STATE_CANCELLING: RunState.RUNNING}
_COUNTS = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "cost_micros")


def states_of(numbers: "list[run_pb2.RunState.ValueType]") -> tuple[RunState, ...]:
    """States to filter by; unknown ones match nothing and are left out."""
    return tuple(dict.fromkeys(_STATE_OF[number] for number in numbers if number in _STATE_OF))


def run_message(run: Run, cursors: CursorCodec) -> run_pb2.Run:
    """A run as a caller sees it."""
    message = run_pb2.Run(
        run_id=run.run_id,
        event_id=run.event_id,
        conversation_id=run.conversation_id,
        agent_id=run.agent_id,
        binding_id=run.binding_id,
        runner_id=run.runner_id,
        state=run_pb2.RUN_STATE_CANCELLING if run.cancelling else _STATES[run.state],
        attempt=run.attempt,
        last_sequence=run.last_sequence,
        trace_id=run.trace_id,
        parent_run_id=run.parent_run_id,
        cursor=cursors.write(run_stream(run.workspace_id, run.run_id), Cursor(CURSOR_EPOCH, run.last_sequence)),
    )
    failure = run.failure
    if failure.code:
        message.error.CopyFrom(
            run_result_pb2.RunError(code=failure.code, message=failure.message, retryable=failure.retryable)
        )
    if run.finish_reason:
        message.finish_reason = run_result_pb2.FinishReason.Value("FINISH_REASON_" + run.finish_reason.upper())
    if run.usage != Usage():
        message.usage.CopyFrom(usage_message(run.usage))
    for name in ("create_time", "start_time", "end_time"):
        value = getattr(run, name)
        if value:
            getattr(message, name).FromMicroseconds(value)
    return message


def usage_message(usage: Usage) -> usage_pb2.Usage:
    """A count that is unknown stays unset."""
    message = usage_pb2.Usage(model_id=usage.model_id, currency=usage.currency, price_version=usage.price_version)
    for name in _COUNTS:
        value = getattr(usage, name)
        if value is not None:
            setattr(message, name, value)
    return message
