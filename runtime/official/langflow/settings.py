"""The configuration of an agent that runs a flow of Langflow."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portway.runtime.sdk.service import Options, ServiceOptions, service_options


@dataclass(frozen=True, slots=True)
class Settings:
    service: ServiceOptions
    api_key: str = field(repr=False)
    flow_id: str
    streaming: bool
    input_type: str
    output_type: str
    output_component: str
    tweaks: Mapping[str, Any]
    file_component: str


def read_settings(config: Mapping[str, Any]) -> Settings:
    options = Options(config)
    return Settings(
        service=service_options(options),
        api_key=options.header("api_key", ""),
        flow_id=options.text("flow_id"),
        streaming=options.flag("streaming", True),
        input_type=options.choice("input_type", ("chat", "text", "any")),
        output_type=options.choice("output_type", ("chat", "text", "any", "debug")),
        output_component=options.text("output_component", ""),
        tweaks=options.document("tweaks"),
        file_component=options.text("file_component", ""),
    )
