"""For runners that pass a message on to a service over HTTP and bring its answer back.

Nothing else of the SDK imports this, so a plugin that asks no service does not load an HTTP library.
"""

from portway.runtime.sdk.service.answer import Answer, Reference
from portway.runtime.sdk.service.attachments import Attachment, read_attachments
from portway.runtime.sdk.service.client import File, Json, Reply, Service, open_service
from portway.runtime.sdk.service.failures import ServiceFailure, bad_answer, reported
from portway.runtime.sdk.service.memory import Memory, person_of, session_of
from portway.runtime.sdk.service.options import Options, ServiceOptions, service_options
from portway.runtime.sdk.service.reasoning import split_reasoning

__all__ = [
    "Answer",
    "Attachment",
    "File",
    "Json",
    "Memory",
    "Options",
    "Reference",
    "Reply",
    "Service",
    "ServiceFailure",
    "ServiceOptions",
    "bad_answer",
    "open_service",
    "person_of",
    "read_attachments",
    "reported",
    "service_options",
    "session_of",
    "split_reasoning",
]
