"""The configuration of an agent that asks an application of Alibaba Cloud Model Studio."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portway.runtime.sdk.service import Options, ServiceOptions, service_options

DEFAULT_URL = "https://dashscope.aliyuncs.com"
CODES = {
    "InvalidApiKey": "service.auth",
    "AccessDenied": "service.auth",
    "AccessDenied.Unpurchased": "service.quota",
    "Arrearage": "service.quota",
    "Throttling": "service.rate_limited",
    "Throttling.RateQuota": "service.rate_limited",
    "Throttling.AllocationQuota": "service.quota",
    "DataInspectionFailed": "service.content_filter",
    "data_inspection_failed": "service.content_filter",
    "InvalidParameter": "service.bad_request",
    "ModelNotFound": "service.not_found",
    "InvalidAppId": "service.not_found",
    "RequestTimeOut": "service.timeout",
    "InternalError": "service.unavailable",
    "SystemError": "service.unavailable",
}


@dataclass(frozen=True, slots=True)
class Settings:
    service: ServiceOptions
    api_key: str = field(repr=False)
    app_id: str
    is_workflow: bool
    workspace: str
    streaming: bool
    thoughts: bool
    biz_params: Mapping[str, Any]
    show_references: bool


def read_settings(config: Mapping[str, Any]) -> Settings:
    options = Options(config)
    return Settings(
        service=service_options(options, DEFAULT_URL),
        api_key=options.header("api_key"),
        app_id=options.text("app_id"),
        is_workflow=options.choice("app_type", ("agent", "workflow")) == "workflow",
        workspace=options.header("workspace", ""),
        streaming=options.flag("streaming", True),
        thoughts=options.flag("thoughts", True),
        biz_params=options.document("biz_params"),
        show_references=options.flag("show_references", True),
    )
