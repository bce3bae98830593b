"""For runners that pass a message on to a service over HTTP and bring its answer back.

Nothing else of the SDK imports this, so a plugin that asks no service does not load an HTTP library.
"""

from portway.runtime.sdk.service.answer import Answer, Made, Reference
from portway.runtime.sdk.service.attachments import Attachment, read_attachments
from portway.runtime.sdk.service.client import File, Service
from portway.runtime.sdk.service.conversation import Conversation
from portway.runtime.sdk.service.failures import ServiceFailure, bad_answer, reported
from portway.runtime.sdk.service.memory import Memory, person_of, session_of
from portway.runtime.sdk.service.opening import fetched, open_service
from portway.runtime.sdk.service.options import Options, ServiceOptions, service_options
from portway.runtime.sdk.service.reasoning import split_reasoning
from portway.runtime.sdk.service.reply import Json, Reply
from portway.runtime.sdk.service.taking import ended

__all__ = [
    "Answer",
    "Attachment",
    "Conversation",
    "File",
    "Json",
    "Made",
    "Memory",
    "Options",
    "Reference",
    "Reply",
    "Service",
    "ServiceFailure",
    "ServiceOptions",
    "bad_answer",
    "ended",
    "fetched",
    "open_service",
    "person_of",
    "read_attachments",
    "reported",
    "service_options",
    "session_of",
    "split_reasoning",
]
