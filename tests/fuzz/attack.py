"""Calls every method of a server with what the generator makes, and writes down whatever a server must never do."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, EncodeError, Message
from google.protobuf.message_factory import GetMessageClass

from portway.rpc.client_stream import send
from portway.rpc.errors import InvalidInput, Reason, Unavailable
from portway.rpc.status import error_from_rpc
from portway.v1 import run_call_pb2
from tests.fuzz.known import Known
from tests.fuzz.messages import Messages
from tests.fuzz.wire_bytes import mutated

DEADLINE = 60.0
"""Seconds that any call may take; none comes near it, so a call that does hangs."""
# Answered once people have decided, which nobody does here.
_WAITS = {"RequestApproval"}
_LANES = 8
_MOST_READ = 40
_QUIET = 0.05
"""Seconds of silence after which a stream without an end of its own is left."""
_WITHOUT_FIELDS = frozenset(map(str, (Reason.UNPARSABLE_MESSAGE, Reason.MISSING_MESSAGE, Reason.UNEXPECTED_FRAME)))
# Secrets are shown once; and another lane may have taken away what was made, or the right to make it.
_SAID_AGAIN = (
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
)
_NEVER = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS)


USUAL_SEED = 20261121


def seed() -> int:
    """Of this run: from the environment, or the usual one, so that everyday tests try the same each time and looking
    for new failures (`make fuzz`) is a thing of its own. Whoever takes it prints it."""
    return int(os.environ.get("PORTWAY_FUZZ_SEED") or USUAL_SEED)


def seconds(usual: float) -> float:
    """How long to go on: `usual` in everyday tests, more where the environment says so."""
    return float(os.environ.get("PORTWAY_FUZZ_SECONDS") or usual)


def nothing_spared(_method: MethodDescriptor, _request: Message) -> bool:
    return False


@dataclass
class Target:
    """A server under attack. `token_of` says with which token to call a method. A request that `spared` is true of is
    not sent: it would end the test itself. `secrets` are texts that no answer may have."""

    address: str
    services: Sequence[ServiceDescriptor]
    token_of: Callable[[MethodDescriptor, Random], str]
    secrets: Sequence[str] = ()
    spared: Callable[[MethodDescriptor, Message], bool] = nothing_spared
    known: Known = field(default_factory=Known)


@dataclass
class Sent:
    """One call, as it can be told to a person who has to repeat it."""

    method: MethodDescriptor
    frames: list[bytes]
    manner: str
    token: str

    def __str__(self) -> str:
        shown = []
        for raw in self.frames:
            try:
                text = str(GetMessageClass(self.method.input_type).FromString(raw))
            except DecodeError:
                text = "(no message)"
            shown.append(f"  {raw[:300].hex()}{'…' if len(raw) > 300 else ''}\n  {text[:900]}")
        return f"{self.method.full_name} ({self.manner}, {len(self.frames)} frames)\n" + "\n".join(shown)


class Attack:
    """Goes on in rounds; each calls every method once, several at a time."""

    def __init__(self, target: Target, number: int) -> None:
        self._random = Random(number)
        self._target = target
        self._messages = Messages(self._random, target.known)
        self.problems: list[str] = []
        self.codes: Counter[str] = Counter()
        self.well: Counter[str] = Counter()
        self._methods = [method for service in target.services for method in service.methods]

    async def go_on(self, lasting: float, between: Callable[[], Any] | None = None, *, least: int) -> None:
        """Two rounds, and more for so many seconds and until more than `least` calls went well and as many were refused
        for what was in them, or until something is wrong. `between` puts the target right."""
        end = time.monotonic() + lasting
        rounds = 0

        def enough() -> bool:
            tried = min(self.codes["OK"], self.codes["INVALID_ARGUMENT"])
            return rounds >= 2 and time.monotonic() >= end and tried > least

        while not enough() and not self.problems:
            rounds += 1
            await self.round()
            if between is not None:
                await between()

    async def round(self) -> None:
        methods = iter(self._random.sample(self._methods, len(self._methods)))

        async def lane(channel: grpc.aio.Channel) -> None:
            for method in methods:
                await self.once(channel, method)

        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(self._target.address, options=options) as channel:
            async with asyncio.TaskGroup() as group:
                for _ in range(_LANES):
                    group.create_task(lane(channel))

    async def once(self, channel: grpc.aio.Channel, method: MethodDescriptor) -> None:
        sent = self._prepared(method)
        if sent is None:
            return
        answers, error = await self._call(channel, sent)
        if error is None and sent.manner == "plain" and not method.client_streaming:
            self.well[method.full_name] += 1
            await self._repeat(channel, sent, answers)

    def _prepared(self, method: MethodDescriptor) -> Sent | None:
        random = self._random
        count = random.choice((1, 1, 2, 3, 6)) if method.client_streaming else 1
        requests = [self._messages.make(method.input_type, first=not index) for index in range(count)]
        if any(self._target.spared(method, request) for request in requests):
            return None
        try:
            frames = [request.SerializeToString() for request in requests]
        except EncodeError:
            # Nested deeper than the library writes.
            return None
        manner = "plain"
        chance = random.random()
        if chance < 0.12:
            at = random.randrange(count)
            frames[at], manner = mutated(random, frames[at]), "mutated"
            if self._is_spared(method, frames[at]):
                return None
        elif chance < 0.15:
            frames, manner = [], "no message"
        elif chance < 0.18:
            frames, manner = [frames[0], *frames], "first frame twice"
        elif chance < 0.22:
            frames, manner = frames[1:] + frames[:1], "out of order"
        elif chance < 0.27:
            manner = "cancelled"
        elif chance < 0.30:
            manner = "left open"
        return Sent(method, frames, manner, self._target.token_of(method, random))

    def _is_spared(self, method: MethodDescriptor, raw: bytes) -> bool:
        try:
            return self._target.spared(method, GetMessageClass(method.input_type).FromString(raw))
        except DecodeError:
            return False

    async def _call(self, channel: grpc.aio.Channel, sent: Sent) -> tuple[list[bytes], grpc.aio.AioRpcError | None]:
        method = sent.method
        metadata = [("authorization", f"Bearer {sent.token}")] if sent.token else []
        path = f"/{method.containing_service.full_name}/{method.name}"
        call: Any = channel.stream_stream(path)(timeout=DEADLINE, metadata=metadata)
        answers: list[bytes] = []
        try:
            await self._write(call, sent)
            waits = method.server_streaming or method.name in _WAITS
            await _read(call, answers, patient=not waits and sent.manner != "left open")
            if not call.done():
                call.cancel()
                return answers, None
            code = await call.code()
        except grpc.aio.AioRpcError as error:
            code = error.code()
        except (grpc.aio.UsageError, asyncio.InvalidStateError):
            # The server ended the call while it was being written to.
            code = await call.code()
        finally:
            for raw in answers:
                self._look_inside(sent, raw)
        if sent.manner == "cancelled" and code is grpc.StatusCode.CANCELLED:
            return answers, None
        return answers, await self._judged(call, code, sent)

    async def _write(self, call: Any, sent: Sent) -> None:
        for index, raw in enumerate(sent.frames):
            if call.done():
                return
            await send(call, raw)
            if sent.manner == "cancelled" and index >= len(sent.frames) // 2:
                await asyncio.sleep(self._random.choice((0, 0.001, 0.01)))
                call.cancel()
                return
        if sent.manner != "left open" and not call.done():
            await call.done_writing()

    async def _judged(self, call: Any, code: grpc.StatusCode, sent: Sent) -> grpc.aio.AioRpcError | None:
        self.codes[code.name] += 1
        if code is grpc.StatusCode.OK:
            return None
        details = await call.details() or ""
        trailers = await call.trailing_metadata() or grpc.aio.Metadata()
        error = grpc.aio.AioRpcError(code, await call.initial_metadata(), trailers, details)
        complaint = self._complaint(error, str(trailers) + details)
        if complaint:
            self.problems.append(f"{complaint}: {code.name}: {details[:500]}\n{sent}")
        return error

    def _complaint(self, error: grpc.aio.AioRpcError, told: str) -> str:
        if error.code() in _NEVER:
            return "a bug of the server"
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return "a call that hangs"
        if any(secret in told for secret in self._target.secrets):
            return "a secret in an error"
        meaning = error_from_rpc(error)
        if isinstance(meaning, InvalidInput) and not meaning.fields and str(meaning.reason) not in _WITHOUT_FIELDS:
            return "a refusal that names no field"
        if isinstance(meaning, Unavailable) and "stopped working" in meaning.message:
            return "a call that the server dropped"
        return ""

    def _look_inside(self, sent: Sent, raw: bytes) -> None:
        """Answers teach ids; and calls inside streams fail inside answers."""
        message = GetMessageClass(sent.method.output_type).FromString(raw)
        self._target.known.learn(message)
        for one in _errors_in(message):
            if one.code in (grpc.StatusCode.INTERNAL.value[0], grpc.StatusCode.UNKNOWN.value[0]):
                self.problems.append(f"a bug of the server, on a stream: {one}\n{sent}")

    async def _repeat(self, channel: grpc.aio.Channel, sent: Sent, answers: list[bytes]) -> None:
        """A request with an id of its own, sent again, makes nothing new."""
        method = sent.method
        if method.server_streaming or not method.name.startswith("Create"):
            return
        request = GetMessageClass(method.input_type).FromString(sent.frames[0])
        if not getattr(request, "request_id", ""):
            return
        again, error = await self._call(channel, sent)
        first = [_ids(GetMessageClass(method.output_type).FromString(raw)) for raw in answers]
        second = [_ids(GetMessageClass(method.output_type).FromString(raw)) for raw in again]
        if error is not None and error.code() in _SAID_AGAIN:
            return
        if error is not None or first != second:
            self.problems.append(f"the same request again is answered otherwise: {first} {second} {error}\n{sent}")


async def _read(call: Any, answers: list[bytes], *, patient: bool) -> None:
    while len(answers) < _MOST_READ:
        reading = asyncio.ensure_future(call.read())
        done, _ = await asyncio.wait([reading], timeout=None if patient else _QUIET)
        if not done:
            reading.cancel()
            await asyncio.wait([reading])
            return
        try:
            raw = reading.result()
        except asyncio.CancelledError:
            # The call was cancelled here, and reading it says so.
            return
        if raw is grpc.aio.EOF:
            return
        answers.append(raw)


def _errors_in(message: Message) -> list[run_call_pb2.RunCallError]:
    if isinstance(message, run_call_pb2.RunCallError):
        return [message]
    found = []
    for part, value in message.ListFields():
        if part.message_type is None or part.message_type.GetOptions().map_entry:
            continue
        for one in value if part.is_repeated else [value]:
            found += _errors_in(one)
    return found


def _ids(message: Message) -> list[tuple[str, str]]:
    found = []
    for part, value in message.ListFields():
        if part.message_type is not None and not part.is_repeated:
            found += _ids(value)
        elif part.message_type is None and not part.is_repeated and _is_id(part.name):
            found.append((part.name, value))
    return found


def _is_id(name: str) -> bool:
    """What names the thing itself; what happened last may have happened since."""
    return name.endswith("_id") and not name.startswith("last_")
