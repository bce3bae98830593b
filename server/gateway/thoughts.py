"""Reasoning on its way through a program and back: whose it is travels in the one opaque field that the shapes have."""

import base64
import binascii
import json

from portway.server.models.types import ReasoningPart

_PREFIX = "pw1."


def sealed(signature: str, block: str, provider_id: str) -> str:
    """An opaque text for a reasoning block."""
    inner = json.dumps([provider_id, block, signature], separators=(",", ":")).encode()
    return _PREFIX + base64.urlsafe_b64encode(inner).decode()


def opened(text: str, seal: str) -> ReasoningPart | None:
    """The block as its provider made it; nothing for a seal that is not ours: no provider would believe it."""
    if not seal.startswith(_PREFIX):
        return None
    try:
        inner = json.loads(base64.urlsafe_b64decode(seal.removeprefix(_PREFIX)))
    except (binascii.Error, ValueError):
        return None
    if not isinstance(inner, list) or len(inner) != 3 or not all(isinstance(one, str) for one in inner):
        return None
    provider_id, block, signature = inner
    return ReasoningPart(text, signature, block, provider_id)
