"""The configuration of an agent that asks Coze."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portway.runtime.sdk.service import Options, ServiceOptions, service_options

DEFAULT_URL = "https://api.coze.cn"
NOT_FOUND = "4200"
CODES = {
    "4000": "service.bad_request",
    NOT_FOUND: "service.not_found",
    "4100": "service.auth",
    "4101": "service.auth",
    "700012006": "service.auth",
    "4013": "service.rate_limited",
    "4015": "service.misconfigured",
    "4016": "service.conflict",
    "4010": "service.quota",
    "4011": "service.quota",
    "4027": "service.quota",
    "4028": "service.quota",
    "5000": "service.unavailable",
}


@dataclass(frozen=True, slots=True)
class Settings:
    service: ServiceOptions
    api_key: str = field(repr=False)
    bot_id: str
    streaming: bool
    poll_seconds: float
    variables: Mapping[str, Any]
    show_follow_ups: bool


def read_settings(config: Mapping[str, Any]) -> Settings:
    options = Options(config)
    return Settings(
        service=service_options(options, DEFAULT_URL),
        api_key=options.header("api_key"),
        bot_id=options.text("bot_id"),
        streaming=options.flag("streaming", True),
        poll_seconds=options.number("poll_seconds", 1, least=0.05, most=60),
        variables=options.document("variables"),
        show_follow_ups=options.flag("show_follow_ups", False),
    )
