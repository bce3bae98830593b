"""What differs between the vendors' services: their address, the format they speak, and what else they serve.

The addresses are those of the vendors' own documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class ProviderKind(StrEnum):
    """Whose service a provider is. OPENAI is also for everything that speaks its Chat Completions format. The demo
    provider is always there and is not configured."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"
    OLLAMA = "ollama"
    OPENROUTER = "openrouter"
    GROQ = "groq"
    MISTRAL = "mistral"
    DEEPSEEK = "deepseek"
    XAI = "xai"
    TOGETHER = "together"
    FIREWORKS = "fireworks"
    CEREBRAS = "cerebras"
    COHERE = "cohere"
    JINA = "jina"


class WireFormat(StrEnum):
    """How requests look."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


@dataclass(frozen=True, slots=True)
class VendorFacts:
    """`base_url` where none is configured. `needs_key`: it serves nobody without one."""

    base_url: str
    wire: WireFormat = WireFormat.OPENAI
    needs_key: bool = True
    embedding_batch: int = 96


VENDORS: Mapping[ProviderKind, VendorFacts] = {
    ProviderKind.OPENAI: VendorFacts("https://api.openai.com/v1", embedding_batch=256),
    ProviderKind.ANTHROPIC: VendorFacts("https://api.anthropic.com", WireFormat.ANTHROPIC),
    ProviderKind.GEMINI: VendorFacts("https://generativelanguage.googleapis.com/v1beta/openai"),
    ProviderKind.OLLAMA: VendorFacts("http://127.0.0.1:11434/v1", needs_key=False),
    ProviderKind.OPENROUTER: VendorFacts("https://openrouter.ai/api/v1"),
    ProviderKind.GROQ: VendorFacts("https://api.groq.com/openai/v1"),
    ProviderKind.MISTRAL: VendorFacts("https://api.mistral.ai/v1"),
    ProviderKind.DEEPSEEK: VendorFacts("https://api.deepseek.com"),
    ProviderKind.XAI: VendorFacts("https://api.x.ai/v1"),
    ProviderKind.TOGETHER: VendorFacts("https://api.together.xyz/v1"),
    ProviderKind.FIREWORKS: VendorFacts("https://api.fireworks.ai/inference/v1"),
    ProviderKind.CEREBRAS: VendorFacts("https://api.cerebras.ai/v1"),
    ProviderKind.COHERE: VendorFacts("https://api.cohere.com/v2"),
    ProviderKind.JINA: VendorFacts("https://api.jina.ai/v1"),
}
OPENAI_BASE_URL = VENDORS[ProviderKind.OPENAI].base_url
ANTHROPIC_BASE_URL = VENDORS[ProviderKind.ANTHROPIC].base_url


def is_vendors_own(kind: ProviderKind, base_url: str) -> bool:
    """Whether requests go to the vendor itself: only then are its prices and its models' windows known."""
    return not base_url or base_url.rstrip("/") == VENDORS[kind].base_url
