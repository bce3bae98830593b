"""The configuration of an agent that asks Dify."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portway.runtime.sdk.service import Options, ServiceOptions, service_options

DEFAULT_URL = "https://api.dify.ai/v1"
# What Dify itself calls its errors, where that says more than the status.
CODES = {
    "unauthorized": "service.auth",
    "provider_quota_exceeded": "service.quota",
    "provider_not_initialize": "service.misconfigured",
    "app_unavailable": "service.misconfigured",
    "model_currently_not_support": "service.misconfigured",
    "not_chat_app": "service.misconfigured",
    "not_workflow_app": "service.misconfigured",
    "rate_limit_error": "service.rate_limited",
    "too_many_requests": "service.rate_limited",
    "completion_request_error": "service.failed",
    "file_too_large": "service.too_large",
    "unsupported_file_type": "service.unsupported",
    "conversation_completed": "service.not_found",
    "human_input_form_not_found": "service.not_found",
    "human_input_form_submitted": "service.not_found",
    "human_input_form_expired": "service.not_found",
    "internal_server_error": "service.unavailable",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """`mode` is chat, agent, chatflow or workflow."""

    service: ServiceOptions
    api_key: str = field(repr=False)
    mode: str
    streaming: bool
    inputs: Mapping[str, Any]
    query_variable: str
    files_variable: str
    output_variable: str
    show_references: bool

    @property
    def is_workflow(self) -> bool:
        return self.mode == "workflow"


def read_settings(config: Mapping[str, Any]) -> Settings:
    options = Options(config)
    mode = options.choice("mode", ("chat", "agent", "chatflow", "workflow"))
    return Settings(
        service=service_options(options, DEFAULT_URL),
        api_key=options.header("api_key"),
        mode=mode,
        # Dify refuses to answer for agents in one piece.
        streaming=options.flag("streaming", True) or mode == "agent",
        inputs=options.document("inputs"),
        query_variable=options.text("query_variable", "query"),
        files_variable=options.text("files_variable", ""),
        output_variable=options.text("output_variable", ""),
        show_references=options.flag("show_references", True),
    )
