"""The application that is mounted on the HTTP listener."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from portway.rpc.errors import NotFound, PortwayError
from portway.server.gateway.answers import Answers
from portway.server.gateway.anthropic import Messages
from portway.server.gateway.config import GatewayLimits
from portway.server.gateway.door import Door, RunTokens
from portway.server.gateway.entering import Receive
from portway.server.gateway.openai_chat import ChatCompletions
from portway.server.gateway.openai_errors import refusal_of
from portway.server.gateway.openai_responses import Responses
from portway.server.gateway.reply import Send
from portway.server.gateway.shape import Refusal, Shape
from portway.server.gateway.visit import Endpoint, Ledger, Refuse, Visit, Work
from portway.server.http.listener import Application
from portway.server.runner_calls.models import ModelCalls

OPENAI, ANTHROPIC, PLAIN = "/openai/v1", "/anthropic/v1", "/v1"
_OPENAI_PATHS = ("chat/completions", "responses", "embeddings")
_ANTHROPIC_PATHS = ("messages", "messages/count_tokens")


def gateway_application(models: ModelCalls, tokens: RunTokens, ledger: Ledger, limits: GatewayLimits) -> Application:
    """Routes of both vendors."""
    # Only where HTTP is switched on.
    from starlette.routing import Route, Router  # noqa: PLC0415

    door, answers = Door(tokens, limits), Answers(models)

    def endpoint(name: str, made: Callable[[], tuple[Work, Refuse]]) -> Endpoint:
        return Endpoint(name, door, ledger, limits.write_seconds, made)

    def asking(name: str, shape: Callable[[], Shape]) -> Endpoint:
        return endpoint(name, lambda: _asking(answers.ask, shape()))

    def simple(name: str, work: Work, refuse: Refuse) -> Endpoint:
        return endpoint(name, lambda: (work, refuse))

    anthropic = Messages().refusal
    posts = {
        f"{OPENAI}/chat/completions": asking("openai/chat/completions", ChatCompletions),
        f"{OPENAI}/responses": asking("openai/responses", Responses),
        f"{OPENAI}/embeddings": simple("openai/embeddings", answers.embed, refusal_of),
        f"{ANTHROPIC}/messages": asking("anthropic/messages", Messages),
        f"{ANTHROPIC}/messages/count_tokens": endpoint(
            "anthropic/messages/count_tokens", lambda: _asking(answers.count, Messages())
        ),
    }
    # The same without the name of a vendor, as at its own address.
    posts |= {
        f"{PLAIN}/{path}": posts[f"{vendor}/{path}"]
        for vendor, paths in ((OPENAI, _OPENAI_PATHS), (ANTHROPIC, _ANTHROPIC_PATHS))
        for path in paths
    }
    gets = {
        f"{OPENAI}/models": simple("openai/models", answers.models_of_openai, refusal_of),
        f"{ANTHROPIC}/models": simple("anthropic/models", answers.models_of_anthropic, anthropic),
    }
    return Router(
        routes=[
            *(Route(path, one, methods=["POST"]) for path, one in posts.items()),
            *(Route(path, one, methods=["GET"]) for path, one in gets.items()),
            Route(f"{PLAIN}/models", _ByVendor(gets[f"{OPENAI}/models"], gets[f"{ANTHROPIC}/models"]), methods=["GET"]),
            Route("/anthropic/{path:path}", simple("anthropic", _nowhere, anthropic)),
            Route("/{path:path}", simple("openai", _nowhere, refusal_of)),
        ],
        redirect_slashes=False,
    )


class _ByVendor:
    """The one path that both vendors have: a client of Anthropic says which version of it it speaks."""

    def __init__(self, openai: Endpoint, anthropic: Endpoint) -> None:
        self._openai = openai
        self._anthropic = anthropic

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        named = any(name.lower() == b"anthropic-version" for name, _ in scope["headers"])
        await (self._anthropic if named else self._openai)(scope, receive, send)


def _asking(
    work: Callable[[Visit, Shape], Awaitable[None]], shape: Shape
) -> tuple[Work, Callable[[PortwayError], Refusal]]:
    return lambda visit: work(visit, shape), shape.refusal


async def _nowhere(visit: Visit) -> None:
    raise NotFound(
        "the model gateway has no such endpoint; there are /openai/v1/{chat/completions,responses,embeddings,models} "
        "and /anthropic/v1/{messages,messages/count_tokens,models}"
    )
