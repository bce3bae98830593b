"""The program's own session between runs: the state keys `external.session_id` and `external.working_directory`."""

import time
from dataclasses import dataclass

from portway.runtime.sdk import HostApi, RunContext
from portway.runtime.sdk.types.results import StateScope

SESSION_ID = "external.session_id"
WORKING_DIRECTORY = "external.working_directory"
SESSION_TIME = "external.session_time"
MAX_ID = 512
_DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class KeptSession:
    """What the last run of this conversation left; both empty where there is nothing, or it is too old."""

    session_id: str = ""
    working_directory: str = ""


def kept_session(ctx: RunContext, keep_days: float, now: float) -> KeptSession:
    """`now` is in seconds of the wall clock, as what is kept is."""
    values = ctx.state.conversation
    written = values[SESSION_TIME].value if SESSION_TIME in values else None
    if isinstance(written, bool) or not isinstance(written, int | float):
        return KeptSession()
    if not -_DAY_SECONDS <= now - written <= keep_days * _DAY_SECONDS:
        return KeptSession()
    texts = [values[key].value if key in values else "" for key in (SESSION_ID, WORKING_DIRECTORY)]
    session_id, directory = (one if isinstance(one, str) else "" for one in texts)
    return KeptSession(session_id if _is_id(session_id) else "", directory)


def _is_id(session_id: str) -> bool:
    """Programs get it as an argument: it must be no option, and nothing that another program would read otherwise."""
    plain = session_id.isprintable() and not any(one.isspace() for one in session_id)
    return plain and not session_id.startswith("-") and len(session_id) <= MAX_ID


async def keep_session(ctx: RunContext, host: HostApi, session: KeptSession) -> None:
    """For the next run of the conversation, where the run may keep state."""
    if not _is_id(session.session_id) or not ctx.permissions.allow("state") or not ctx.conversation.conversation_id:
        return
    scope = StateScope.CONVERSATION
    await host.state.set(scope, SESSION_ID, session.session_id)
    await host.state.set(scope, WORKING_DIRECTORY, session.working_directory)
    await host.state.set(scope, SESSION_TIME, int(time.time()))
