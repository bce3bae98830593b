"""What happens to every call: authenticate, check the role, parse, check, call, serialise, map errors, log one line.

Handlers work on raw bytes, because a deserializer that fails inside the library answers UNKNOWN with the exception's
text. A method with a single request is registered as one that streams requests: it is then this module that reads the
request, so that the token is looked at first and a call without any message gets an answer.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, NoReturn

import grpc
import structlog

from portway.rpc.binding import BoundMethod, BoundService
from portway.rpc.call import Call
from portway.rpc.certificates import Certificates, TokenPolicy, certificate_of
from portway.rpc.errors import (
    Cancelled,
    DeadlineExceeded,
    InternalError,
    InvalidInput,
    NotAuthenticated,
    NotAvailable,
    NotPermitted,
    PortwayError,
    RateLimited,
    Reason,
    Unavailable,
)
from portway.rpc.identity import AUTHORIZATION, BEARER, Authenticator, Caller
from portway.rpc.ids import new_id
from portway.rpc.limits import Limits, Slots, TokenBuckets
from portway.rpc.metrics.calls import CallCounts
from portway.rpc.status import to_wire
from portway.rpc.streams import OpenStreams, Standing
from portway.rpc.telemetry import current_trace
from portway.rpc.traces.span import OpenSpan
from portway.rpc.traces.types import Kind, Recorder
from portway.rpc.validation import check, parse

Context = grpc.aio.ServicerContext[Any, Any]
Refused = Callable[[Call[Any, Any], PortwayError], None]
Answered = Mapping[str, Callable[[Call[Any, Any], Any], None]]
Handler = Callable[[Any, Context], Awaitable[Any]]
_HEAR_OUT_SECONDS = 0.2
_AT_ONCE = (RateLimited, Unavailable)
"""Too many callers, or a server that ends: nobody is heard out."""


class Gate:
    """What all calls of one server go through."""

    def __init__(
        self,
        authenticator: Authenticator,
        limits: Limits,
        streams: OpenStreams | None = None,
        refused: Refused | None = None,
        certificates: Certificates | None = None,
        standing: Standing | None = None,
        counts: CallCounts | None = None,
        answered: Answered | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """`refused` is told of every call that is refused; `answered`, by path, of those with one request that went
        well, with the request."""
        self._counts = counts
        self.answered = answered or {}
        self._recorder = recorder
        self.draining = asyncio.Event()
        self._limits = limits
        self._slots = Slots(limits.concurrent_calls)
        self._stream_slots = Slots(limits.concurrent_streams, "streams")
        self._streams = OpenStreams() if streams is None else streams
        self._refused = refused
        self._certificates = certificates
        self._standing = standing
        self._authenticator = authenticator
        self._buckets = TokenBuckets(limits.rate, limits.burst) if limits.rate else None
        self._message_bytes = limits.message_bytes
        self._log = structlog.get_logger("portway.rpc").bind()

    def open(self, method: BoundMethod, context: Context) -> Call[Any, Any]:
        call: Call[Any, Any] = Call(method, context, self.draining, self._message_bytes)
        if self._recorder is not None:
            trace = call.trace
            trace.recorder = self._recorder
            # Calls that nobody's trace leads to are told by metrics and logs.
            if trace.is_recorded and trace.is_joined:
                call.span = OpenSpan(trace, method.path.lstrip("/"), Kind.SERVER)
                call.trace = call.span.trace
        current_trace.set(call.trace)
        return call

    def enter(self, method: BoundMethod) -> None:
        # What answers while the server drains must neither keep it from ending nor fail for want of a slot.
        if not method.while_draining:
            self._slots_of(method).enter()
        if self._counts is not None:
            self._counts.begun(method.streams)

    def leave(self, method: BoundMethod, call: Call[Any, Any]) -> None:
        if self._counts is not None:
            self._counts.ended(method.streams)
        if method.streams:
            self._streams.leave(call)
        if not method.while_draining:
            self._slots_of(method).leave()

    def _slots_of(self, method: BoundMethod) -> Slots:
        return self._stream_slots if method.streams else self._slots

    async def until_idle(self) -> None:
        await self._slots.until_empty()
        await self._stream_slots.until_empty()

    async def admit(self, call: Call[Any, Any]) -> None:
        """Raises what keeps the caller out; in the order in which less is told to those who may know less."""
        method = call.method
        if self.draining.is_set() and not method.while_draining:
            raise Unavailable("the server is shutting down; retry", reason=Reason.SHUTTING_DOWN, retry_after=1.0)
        if method.access.needs_token:
            call.caller = caller = await self._identify(call)
            if caller.role not in method.access.roles:
                role = caller.role.name.lower()
                raise NotPermitted(
                    f"a token with the role {role} may not call {method.path}", reason=Reason.ROLE_LACKS_METHOD
                )
            if self._buckets is not None:
                self._buckets.take(caller.principal)
            if method.streams:
                limits = self._limits
                self._streams.enter(call, limits.streams_per_principal, limits.connections_per_principal)
        if method.target is None:
            raise NotAvailable("not available in this version")

    async def _identify(self, call: Call[Any, Any]) -> Caller:
        """Who calls, by the token, the certificate of the connection, or both, as the server asks for it."""
        rules = self._certificates
        if rules is None or (rules.tokens is TokenPolicy.ALLOWED and call.header(AUTHORIZATION) is not None):
            return await self._authenticator.authenticate(_bearer_token(call), call.peer)
        by_certificate = rules.caller(certificate_of(call.connection), call.peer.address)
        if rules.tokens is TokenPolicy.REQUIRED:
            by_token = await self._authenticator.authenticate(_bearer_token(call), call.peer)
            rules.check_fit(by_certificate, by_token)
            return by_token
        if call.header(AUTHORIZATION) is not None:
            raise NotAuthenticated("this server knows callers by their certificates and takes no tokens")
        if self._standing is not None:
            await self._standing(by_certificate)
        return by_certificate

    def finish(self, call: Call[Any, Any], started: float, code: str = "OK", **fields: object) -> None:
        seconds, method = time.perf_counter() - started, call.method
        if self._counts is not None:
            self._counts.add(method.path, code, seconds, method.streams)
        if call.span is not None:
            if code != "OK":
                call.span.fail(code)
            call.span.end()
        if method.quiet and code == "OK":
            return
        self._log.info("rpc", code=code, ms=round(seconds * 1000, 2), **dict(call.log_fields()), **fields)

    async def fail(self, call: Call[Any, Any], started: float, context: Context, error: BaseException) -> NoReturn:
        """Ends the call with the status of `error`. Always raises, as the library wants it."""
        if call.cut_off is not None and (task := asyncio.current_task()) is not None:
            # The server has cancelled it: the caller is there and is told why.
            task.uncancel()
            error = call.cut_off
        if isinstance(error, asyncio.CancelledError) and _is_being_cancelled():
            late = call.time_remaining() == 0
            self.finish(call, started, "DEADLINE_EXCEEDED" if late else "CANCELLED")
            raise error
        meaning = self._meaning_of(call, error)
        wire = to_wire(meaning)
        facts = {"facts": dict(meaning.facts)} if meaning.facts else {}
        self.finish(call, started, wire.code.name, reason=str(meaning.reason), **facts)
        if self._refused is not None:
            self._refused(call, meaning)
        if not isinstance(meaning, _AT_ONCE):
            # Also where the method takes one request: a client may send it as a stream, and then more than one.
            await call.hear_out(_HEAR_OUT_SECONDS)
        try:
            await context.abort(wire.code, wire.message, wire.trailers)
        except grpc.aio.AbortError:
            raise
        except grpc.aio.BaseError:
            raise asyncio.CancelledError("the caller is gone and needs no status") from None

    def _meaning_of(self, call: Call[Any, Any], error: BaseException) -> PortwayError:
        causes = list(_leaves(error))
        meanings = [cause for cause in causes if isinstance(cause, PortwayError)]
        if len(meanings) == len(causes):
            # Of several, the caller's going away is the least telling.
            return next((one for one in meanings if not isinstance(one, Cancelled)), meanings[0])
        if all(isinstance(cause, TimeoutError | PortwayError) for cause in causes) and call.time_remaining() == 0:
            return DeadlineExceeded("the deadline of the call is over")
        if isinstance(error, asyncio.CancelledError):
            return Unavailable("the server stopped working on this call; retry", retry_after=1.0)
        error_id = new_id("err")
        self._log.error("bug in a handler", error_id=error_id, method=call.method.path, exc_info=error)
        return InternalError(
            f"an internal error happened; the server's log has it as {error_id}", facts={"error_id": error_id}
        )


def _bearer_token(call: Call[Any, Any]) -> str:
    header = call.header(AUTHORIZATION)
    if not isinstance(header, str):
        raise NotAuthenticated("the call carries no token; send `authorization: Bearer …`", reason=Reason.TOKEN_MISSING)
    if not header.startswith(BEARER):
        raise NotAuthenticated("the authorization is not of the form `Bearer …`", reason=Reason.TOKEN_INVALID)
    return header[len(BEARER) :]


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions inside nested groups, as a TaskGroup raises them."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


def _only_request(call: Call[Any, Any], raw: bytes | None) -> Any:
    if raw is None:
        raise InvalidInput("the call carries no request message", reason=Reason.MISSING_MESSAGE)
    if call.method.raw:
        return raw
    request = parse(call.method.request_class, raw)
    check(request)
    return request


def _serialise(call: Call[Any, Any], response: Any) -> bytes:
    if not call.method.raw:
        if not isinstance(response, call.method.response_class):
            raise TypeError(f"{call.method.path} returned {type(response).__name__}")
        response = response.SerializeToString()
    call.check_size(response, "response")
    return bytes(response)


def handlers_of(service: BoundService, gate: Gate) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
    """The library's handlers by method name."""
    return {method.path.rpartition("/")[2]: _handler(method, gate) for method in service.methods}


def _handler(method: BoundMethod, gate: Gate) -> "grpc.RpcMethodHandler[Any, Any]":
    target = method.target or _never
    told = gate.answered.get(method.path)

    # One function from start to end: what a call costs is nearly all in the number of steps here.
    async def answer(_requests: object, context: Context) -> bytes:
        started = time.perf_counter()
        call = gate.open(method, context)
        try:
            gate.enter(method)
            try:
                await gate.admit(call)
                arguments = (call,) if method.request_streams else (_only_request(call, await call.read_bytes()), call)
                response = await target(*arguments)
                raw = b"" if method.response_streams else _serialise(call, response)
            finally:
                gate.leave(method, call)
        except (Exception, asyncio.CancelledError, BaseExceptionGroup) as error:  # noqa: BLE001 - all become a status
            await gate.fail(call, started, context, error)
        if told is not None:
            told(call, arguments[0])
        gate.finish(call, started)
        return raw

    if method.response_streams:
        return grpc.stream_stream_rpc_method_handler(answer)
    return grpc.stream_unary_rpc_method_handler(answer)


async def _never(*_arguments: Any) -> Any:
    raise AssertionError("the gate refuses methods without a target")
