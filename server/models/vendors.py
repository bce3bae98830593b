"""The vendors' own services, where the configuration names no other."""

from __future__ import annotations

OPENAI_BASE_URL = "https://api.openai.com/v1"
ANTHROPIC_BASE_URL = "https://api.anthropic.com"
