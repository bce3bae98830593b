"""Between the frames of an adapter's stream and their messages."""

from dataclasses import replace
from typing import assert_never

from google.protobuf.json_format import MessageToJson, Parse

from portway.rpc.call import Call
from portway.rpc.errors import (
    DeadlineExceeded,
    FieldViolation,
    InternalError,
    InvalidInput,
    LimitExceeded,
    PayloadTooLarge,
    PortwayError,
    Reason,
    Stale,
    Unavailable,
)
from portway.rpc.telemetry import TRACE_HEADER, Trace
from portway.rpc.validation import check
from portway.server.adapters.frames import (
    CursorAnswered,
    CursorSaved,
    Draining,
    EventAnswered,
    EventSubmitted,
    Hello,
    Incoming,
    Outgoing,
    ReplacedBy,
    ResultTold,
    RunUpdated,
    ToDeliver,
    TypingShown,
    WatchAsked,
    Welcome,
)
from portway.server.adapters.types import AdapterRecord, Introduction, SurfaceRecord
from portway.server.deliveries.settle import Answer, Result
from portway.server.deliveries.types import DeliveryState
from portway.server.deliveries.wire import delivery_message
from portway.server.events.types import Accepted
from portway.server.events.wire import submit_response, submitted
from portway.server.runs.frames import field, repeated
from portway.v1 import adapter_pb2, run_result_pb2

DEFAULT_CREDIT = 16

_ANSWERS = {
    adapter_pb2.DELIVERY_OUTCOME_ACKNOWLEDGED: Answer.ACKNOWLEDGED,
    adapter_pb2.DELIVERY_OUTCOME_RETRYABLE: Answer.RETRYABLE,
    adapter_pb2.DELIVERY_OUTCOME_FAILED: Answer.FAILED,
    adapter_pb2.DELIVERY_OUTCOME_UNKNOWN: Answer.UNKNOWN,
    adapter_pb2.DELIVERY_OUTCOME_SENT: Answer.SENT,
}
_UPDATE_RUN_ID = adapter_pb2.RunUpdate.RUN_ID_FIELD_NUMBER
_UPDATE_CONVERSATION_ID = adapter_pb2.RunUpdate.CONVERSATION_ID_FIELD_NUMBER
_UPDATE_EVENTS = adapter_pb2.RunUpdate.EVENTS_FIELD_NUMBER
_RESPONSE_UPDATE = adapter_pb2.ConnectResponse.UPDATE_FIELD_NUMBER

ConnectCall = Call[adapter_pb2.ConnectRequest, adapter_pb2.ConnectResponse]


class AdapterStream:
    """A call of Connect, as frames."""

    def __init__(self, call: ConnectCall, host_version: str) -> None:
        self._call = call
        self._host_version = host_version
        self._source = ""

    async def read_hello(self) -> Hello:
        """The first frame. Raises InvalidInput for any other."""
        first = await self._call.read()
        if first is None or not first.HasField("hello"):
            raise _unexpected("the first frame must be `hello`")
        hello = _hello(first.hello)
        # Who submits is known from the connection, whatever an event says.
        self._source = hello.introduction.adapter_id
        return hello

    async def read(self) -> Incoming | None:
        while (request := await self._call.read()) is not None:
            frame = self._incoming(request)
            if frame is not None:
                return frame
        return None

    async def write(self, frame: Outgoing) -> None:
        if isinstance(frame, RunUpdated) and frame.error is None:
            # Its events are serialized already, once for all who watch.
            await self._call.write_bytes(_update_bytes(frame))
        else:
            await self._call.write(self._outgoing(frame))

    def _incoming(self, request: adapter_pb2.ConnectRequest) -> Incoming | None:
        """Nothing for a kind that a newer adapter may have."""
        match request.WhichOneof("kind"):
            case "event":
                return self._event(request.event)
            case "result":
                check(request.result)
                return ResultTold(_result(request.result))
            case "cursor":
                check(request.cursor)
                return CursorSaved(request.cursor.ref, request.cursor.name, request.cursor.value)
            case "watch":
                check(request.watch)
                return WatchAsked(request.watch.run_id, request.watch.after_sequence, request.watch.stop)
            case "hello":
                raise _unexpected("`hello` comes once, as the first frame")
            case _:
                return None

    def _event(self, event: adapter_pb2.AdapterEvent) -> EventSubmitted:
        """A broken event is answered, not a reason to end the stream."""
        try:
            check(event.submit)
            event.submit.event.source = self._source
            # The stream lives for days: each event has a trace of its own, the adapter's where it names one.
            trace = Trace([(TRACE_HEADER, event.traceparent)])
            submit = submitted(event.submit, self._call.caller.workspace_id, trace)
        except InvalidInput as error:
            return EventSubmitted(event.ref, error)
        return EventSubmitted(event.ref, submit)

    def _outgoing(self, frame: Outgoing) -> adapter_pb2.ConnectResponse:
        response = adapter_pb2.ConnectResponse()
        match frame:
            case Welcome():
                response.welcome.host_version = self._host_version
                response.welcome.generation = frame.generation
                response.welcome.cursors.update(frame.cursors)
            case EventAnswered():
                _put_answer(response.ack, frame)
            case CursorAnswered():
                _put_cursor_answer(response.cursor_ack, frame)
            case ToDeliver():
                response.delivery.CopyFrom(delivery_message(replace(frame.delivery, state=DeliveryState.SENDING)))
            case RunUpdated():
                response.update.run_id = frame.run_id
                response.update.conversation_id = frame.conversation_id
                if frame.error is not None:
                    response.update.error.CopyFrom(error_message(frame.error))
            case TypingShown():
                response.typing.target.ParseFromString(frame.target)
                response.typing.on = frame.on
            case Draining():
                response.drain.reason = frame.reason
                response.drain.retry_after.FromMilliseconds(round(frame.retry_after * 1000))
            case ReplacedBy():
                response.replaced.generation = frame.generation
            case _:
                assert_never(frame)
        return response


def error_message(error: PortwayError) -> run_result_pb2.RunError:
    """An error as a frame carries it."""
    return run_result_pb2.RunError(code=str(error.reason), message=error.message, retryable=_is_passing(error))


def adapter_message(record: AdapterRecord, connected: bool, held_count: int) -> adapter_pb2.Adapter:
    """An adapter as operators see it."""
    message = adapter_pb2.Adapter(
        adapter_id=record.adapter_id,
        platform=record.platform,
        version=record.version,
        connected=connected,
        generation=record.generation,
        unacknowledged_count=held_count,
    )
    for one in record.surfaces:
        surface = message.surfaces.add(surface=one.surface, bot_ids=one.bot_ids)
        Parse(one.capabilities_json, surface.capabilities, ignore_unknown_fields=True)
    message.change_time.FromMicroseconds(record.change_time)
    return message


def _hello(message: adapter_pb2.AdapterHello) -> Hello:
    return Hello(
        introduction=Introduction(
            adapter_id=message.adapter_id,
            platform=message.platform,
            version=message.version,
            surfaces=tuple(_surface(one) for one in message.surfaces),
        ),
        protocol_version=message.protocol_version,
        credit=message.max_unacknowledged or DEFAULT_CREDIT,
        recent=tuple(_result(one) for one in message.recent_results),
        live_updates=message.live_updates,
    )


def _surface(message: adapter_pb2.AdapterSurface) -> SurfaceRecord:
    return SurfaceRecord(
        surface=message.surface,
        bot_ids=tuple(message.bot_ids),
        capabilities_json=MessageToJson(message.capabilities, preserving_proto_field_name=True, indent=None),
    )


def _result(message: adapter_pb2.DeliveryResult) -> Result:
    answer = _ANSWERS.get(message.outcome)
    if answer is None:
        raise InvalidInput.field("result.outcome", f"{message.outcome} is not an outcome of this version")
    return Result(
        delivery_id=message.delivery_id,
        answer=answer,
        provider_message_id=message.provider_message_id,
        error_code=message.error.code,
        error_message=message.error.message,
        retry_after=message.retry_after.ToMilliseconds() / 1000,
    )


def _put_answer(ack: adapter_pb2.AdapterEventAck, frame: EventAnswered) -> None:
    ack.ref = frame.ref
    if isinstance(frame.answer, Accepted):
        ack.accepted.CopyFrom(submit_response(frame.answer))
        return
    ack.error.CopyFrom(error_message(frame.answer))
    if frame.answer.retry_after is not None:
        ack.retry_after.FromMilliseconds(round(frame.answer.retry_after * 1000))


def _put_cursor_answer(ack: adapter_pb2.AdapterCursorAck, frame: CursorAnswered) -> None:
    ack.ref = frame.ref
    if frame.error is not None:
        ack.error.CopyFrom(error_message(frame.error))


def _update_bytes(frame: RunUpdated) -> bytes:
    update = (
        field(_UPDATE_RUN_ID, frame.run_id.encode())
        + field(_UPDATE_CONVERSATION_ID, frame.conversation_id.encode())
        + repeated(_UPDATE_EVENTS, frame.payloads)
    )
    return field(_RESPONSE_UPDATE, update)


def _is_passing(error: PortwayError) -> bool:
    """The same request may succeed later."""
    if isinstance(error, PayloadTooLarge):
        return False
    passing = Unavailable | LimitExceeded | DeadlineExceeded | InternalError | Stale
    return error.retry_after is not None or isinstance(error, passing)


def _unexpected(description: str) -> InvalidInput:
    return InvalidInput(
        f"The stream is out of order: {description}.",
        reason=Reason.UNEXPECTED_FRAME,
        fields=[FieldViolation("kind", description)],
    )
