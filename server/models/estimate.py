"""How many tokens a request has, roughly, where nobody can count them."""

from __future__ import annotations

import json

from portway.server.models.types import ImagePart, ModelRequest, Part, ReasoningPart, TextPart, ToolCallPart

# English text has about four bytes for a token; other scripts have fewer characters but more bytes each.
_BYTES = 4
_MESSAGE = 4
_IMAGE = 1_000


def estimated_tokens(request: ModelRequest) -> int:
    """An estimate of the input, tools included."""
    tools = sum(
        _MESSAGE + _text(f"{tool.name}{tool.description}{json.dumps(tool.input_schema)}") for tool in request.tools
    )
    return tools + sum(_MESSAGE + sum(map(_part, message.parts)) for message in request.messages)


def _part(part: Part) -> int:
    match part:
        case TextPart(text) | ReasoningPart(text):
            return _text(text)
        case ToolCallPart(_, name, arguments):
            return _text(name + arguments)
        case ImagePart():
            return _IMAGE
        case _:
            return _text(part.text) + _IMAGE * len(part.images)


def _text(text: str) -> int:
    return -(-len(text.encode()) // _BYTES)
