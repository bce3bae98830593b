"""What the web chat can do, and how much of everything it takes."""

from portway.adapters.kit.types import SurfaceLimits

SURFACE = "web_chat"
CONVERSATION_PREFIX = "web-"

# The page keeps messages by their place in the transcript: the same one again changes nothing.
LIMITS = SurfaceLimits(
    surface=SURFACE,
    streaming=True,
    markdown=True,
    edit=True,
    typing=True,
    interactions=("form", "confirmation", "choice"),
    platform_actions=("message.recall", "message.edit"),
    repeats_safely=True,
)

UPLOAD_BYTES = 20 * 1024 * 1024
UPLOADS_AT_ONCE = 16
TEXT_BYTES = 256 * 1024
FILES_A_MESSAGE = 10
FRAME_BYTES = 1024 * 1024
SENDS_UNDER_WAY = 64
"""Messages of one page that wait for the host."""
WAITING_ANSWERS = 256
"""Answers that a page has not read yet; more than that, and its connection is closed."""
WAITING_ITEMS = 500
"""Messages that a page has not read yet; more than that, and it is told to ask again."""
PATCH_PAUSE = 0.025
"""Seconds between two pieces of live text to one page: what comes meanwhile goes into the next one."""
PING_SECONDS = 25.0
STEPS_EVENTS = 20_000
"""Events of a run that are looked at for the steps of an old answer."""
