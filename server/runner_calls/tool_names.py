"""Names of tools as models see them: providers take 64 letters, digits, `_` and `-`, and our names have more in them.

A name that fits is shown as it is. Another one is shown without its kind and with `_` for what does not fit; where that
is too long, or what another tool is shown as, a digest of the whole name follows. So two names are never shown as one.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeVar

from portway.server.runner_calls.emit import Emit
from portway.server.runner_calls.scope import RunScope
from portway.v1 import run_model_pb2 as pb

MAX_NAME = 64
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_OTHER = re.compile(r"[^A-Za-z0-9_-]+")
_KIND = re.compile(r"(?:mcp|plugin|skill):")
_DIGEST = 8
_CHOICES = ("", "auto", "none", "required")

R = TypeVar("R", pb.InvokeModelRequest, pb.StreamModelRequest, pb.CountTokensRequest)
A = TypeVar("A")


class ModelNames:
    """The names of one request, both ways."""

    def __init__(self, names: Iterable[str]) -> None:
        every = sorted(set(names))
        self._shown = {name: name for name in every if _PLAIN.match(name)}
        taken = set(self._shown)
        others = [name for name in every if name not in self._shown]
        wishes = [_wish(name) for name in others]
        for name, wish in zip(others, wishes, strict=True):
            free = len(wish) <= MAX_NAME and wish not in taken and wishes.count(wish) == 1
            shown = wish if free else _with_digest(name, wish)
            while shown in taken:
                shown = _with_digest(f"{name}\0{shown}", wish)
            self._shown[name] = shown
            taken.add(shown)
        self._real = {shown: name for name, shown in self._shown.items()}

    def shown(self, name: str) -> str:
        return self._shown.get(name, name)

    def real(self, shown: str) -> str:
        """What a model made up stays as it is: whoever calls it learns that there is no such tool."""
        return self._real.get(shown, shown)


def for_models(
    ask: Callable[[RunScope, R], Awaitable[A]],
) -> Callable[[RunScope, R], Awaitable[A]]:
    """A unary call of a model, with names that models can take."""

    async def call(run: RunScope, request: R) -> A:
        run.model_asked()
        names = _names_in(request.request)
        if names is None:
            return await ask(run, request)
        response = await ask(run, _renamed(request, names))
        _restore(response, names)
        return response

    return call


def for_streams(
    ask: Callable[[RunScope, pb.StreamModelRequest, Emit], Awaitable[None]],
) -> Callable[[RunScope, pb.StreamModelRequest, Emit], Awaitable[None]]:
    """A streamed call of a model, with names that models can take."""

    async def call(run: RunScope, request: pb.StreamModelRequest, emit: Emit) -> None:
        run.model_asked()
        names = _names_in(request.request)
        if names is None:
            await ask(run, request, emit)
            return

        async def restored(response: Any, last: bool = False) -> None:
            _restore(response, names)
            await emit(response, last)

        await ask(run, _renamed(request, names), restored)

    return call


def _names_in(request: pb.ModelRequest) -> ModelNames | None:
    """None where every name fits, as nearly always."""
    names = {tool.name for tool in request.tools}
    for message in request.messages:
        names.update(call.tool for call in message.tool_calls)
        if message.HasField("tool_result"):
            names.add(message.tool_result.tool)
    names.discard("")
    return None if all(_PLAIN.match(name) for name in names) else ModelNames(names)


def _renamed(request: R, names: ModelNames) -> R:
    copy = type(request)()
    copy.CopyFrom(request)
    inner = copy.request
    for tool in inner.tools:
        tool.name = names.shown(tool.name)
    for message in inner.messages:
        for call in message.tool_calls:
            call.tool = names.shown(call.tool)
        if message.HasField("tool_result"):
            message.tool_result.tool = names.shown(message.tool_result.tool)
    if inner.tool_choice not in _CHOICES:
        inner.tool_choice = names.shown(inner.tool_choice)
    return copy


def _restore(response: Any, names: ModelNames) -> None:
    for one in _with_tools(response):
        one.tool = names.real(one.tool)


def _with_tools(response: Any) -> Iterator[Any]:
    if isinstance(response, pb.StreamModelResponse):
        yield from (delta.tool_call for delta in response.deltas if delta.HasField("tool_call"))
    if isinstance(response, pb.StreamModelResponse | pb.InvokeModelResponse) and response.HasField("answer"):
        yield from response.answer.message.tool_calls


def _wish(name: str) -> str:
    return _OTHER.sub("_", _KIND.sub("", name, count=1)).strip("_") or "tool"


def _with_digest(name: str, wish: str) -> str:
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST]
    return f"{wish[: MAX_NAME - _DIGEST - 1]}_{digest}"
