"""The configuration of an agent that asks Ant Tbox."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portway.runtime.sdk.service import Options, ServiceOptions, service_options

DEFAULT_URL = "https://api.tbox.cn"


@dataclass(frozen=True, slots=True)
class Settings:
    service: ServiceOptions
    api_key: str = field(repr=False)
    app_id: str
    streaming: bool
    search_engine: bool
    show_references: bool


def read_settings(config: Mapping[str, Any]) -> Settings:
    options = Options(config)
    return Settings(
        service=service_options(options, DEFAULT_URL),
        api_key=options.header("api_key"),
        app_id=options.text("app_id"),
        streaming=options.flag("streaming", True),
        search_engine=options.flag("search_engine", False),
        show_references=options.flag("show_references", True),
    )


def meaning(text: str) -> str:
    """What an error is: Tbox has many codes and says in words which it is."""
    lowered = text.lower()
    words = {
        "service.auth": ("令牌", "token", "鉴权", "authoriz"),
        "service.rate_limited": ("限流", "频繁", "rate limit"),
        "service.quota": ("额度", "余额", "quota"),
        "service.content_filter": ("安全", "违规", "敏感", "block"),
        "service.not_found": ("不存在", "not found", "not exist"),
    }
    return next((code for code, told in words.items() if any(word in lowered for word in told)), "service.failed")
