"""What is wrong with a provider or a model that came through the API."""

from __future__ import annotations

import re

from portway.rpc.errors import FieldViolation, NotPermitted
from portway.server.models.kept.types import ModelSpec, ProviderSpec
from portway.server.models.types import ModelKind
from portway.server.models.vendors import VENDORS
from portway.server.outbound.policy import Origin, OutboundPolicy

_PROVIDER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,255}\Z")
MAX_KEY = 16_384


def provider_violations(
    provider_id: str, spec: ProviderSpec, api_key: str, outbound: OutboundPolicy
) -> list[FieldViolation]:
    """All of them, with their paths in the request."""
    found: list[FieldViolation] = []
    if not _PROVIDER_ID.match(provider_id):
        text = "has 1 to 64 letters, digits, '_', '.' and '-'"
        found.append(FieldViolation("model_provider.provider_id", text))
    if len(api_key) > MAX_KEY or any(ord(one) < 33 or ord(one) > 126 for one in api_key):
        found.append(FieldViolation("model_provider.api_key", "has plain characters without spaces, at most 16,384"))
    if not api_key and not spec.base_url and VENDORS[spec.kind].needs_key:
        text = f"{VENDORS[spec.kind].base_url} needs a key; give it, or set base_url"
        found.append(FieldViolation("model_provider.api_key", text))
    base_url = spec.base_url or VENDORS[spec.kind].base_url
    try:
        Origin.of(base_url)
        outbound.check(base_url)
    except (ValueError, NotPermitted) as error:
        text = error.message if isinstance(error, NotPermitted) else str(error)
        found.append(FieldViolation("model_provider.base_url", text))
    return found


def model_violations(model_id: str, spec: ModelSpec, is_default: bool) -> list[FieldViolation]:
    """All of them, with their paths in the request."""
    found: list[FieldViolation] = []
    if not _MODEL_ID.match(model_id):
        text = "has 1 to 256 letters, digits and '_.:/@+-', and begins with a letter or a digit"
        found.append(FieldViolation("model.model_id", text))
    if is_default and spec.kind is not ModelKind.LLM:
        found.append(FieldViolation("model.is_default", "only a model that writes can be the default"))
    if is_default and spec.disabled:
        found.append(FieldViolation("model.disabled", "the default model cannot be switched off; choose another first"))
    return found


def moves_elsewhere(before: ProviderSpec, after: ProviderSpec) -> bool:
    """Whether requests would go to another place than the one that the key was given for."""
    try:
        places = [Origin.of(one.base_url or VENDORS[one.kind].base_url) for one in (before, after)]
    except ValueError:
        return True
    return places[0] != places[1]
