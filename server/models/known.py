"""What is known of the vendors' models without asking: windows and abilities. The configuration stands over it.

Names are matched whole, or followed by a date or `latest`: a new member of a family is unknown until it is written
here, and unknown is better than wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from portway.server.models.types import Capability
from portway.server.models.vendors import ProviderKind

_DATED = re.compile(r"-(?:latest|\d{4}-\d{2}-\d{2}|\d{8})\Z")

_SEES = frozenset({Capability.TOOLS, Capability.IMAGES})
_THINKS = frozenset({Capability.TOOLS, Capability.IMAGES, Capability.REASONING})


@dataclass(frozen=True, slots=True)
class KnownModel:
    """Tokens of its window and of its longest answer, and what it can do."""

    context_window: int
    max_output_tokens: int
    capabilities: frozenset[Capability]


_MODELS: Mapping[ProviderKind, Mapping[str, KnownModel]] = {
    ProviderKind.OPENAI: {
        "gpt-4o": KnownModel(128_000, 16_384, _SEES),
        "gpt-4o-mini": KnownModel(128_000, 16_384, _SEES),
        "gpt-4.1": KnownModel(1_047_576, 32_768, _SEES),
        "gpt-4.1-mini": KnownModel(1_047_576, 32_768, _SEES),
        "gpt-4.1-nano": KnownModel(1_047_576, 32_768, _SEES),
        "o3": KnownModel(200_000, 100_000, _THINKS),
        "o4-mini": KnownModel(200_000, 100_000, _THINKS),
        "gpt-5": KnownModel(400_000, 128_000, _THINKS),
        "gpt-5-mini": KnownModel(400_000, 128_000, _THINKS),
        "gpt-5-nano": KnownModel(400_000, 128_000, _THINKS),
    },
    ProviderKind.ANTHROPIC: {
        "claude-opus-4-1": KnownModel(200_000, 32_000, _THINKS),
        "claude-opus-4-5": KnownModel(200_000, 64_000, _THINKS),
        "claude-sonnet-4-5": KnownModel(200_000, 64_000, _THINKS),
        "claude-haiku-4-5": KnownModel(200_000, 64_000, _THINKS),
    },
    ProviderKind.GEMINI: {
        "gemini-2.5-pro": KnownModel(1_048_576, 65_536, _THINKS),
        "gemini-2.5-flash": KnownModel(1_048_576, 65_536, _THINKS),
        "gemini-2.5-flash-lite": KnownModel(1_048_576, 65_536, _THINKS),
    },
}


def known_model(kind: ProviderKind, name: str) -> KnownModel | None:
    """What is known of the vendor's model `name`."""
    return _MODELS.get(kind, {}).get(family_of(name))


def family_of(name: str) -> str:
    """The name without the date of its version."""
    return _DATED.sub("", name)
