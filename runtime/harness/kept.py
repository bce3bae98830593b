"""The program's own session between runs: the state keys `external.session_id` and `external.working_directory`."""

import time
from dataclasses import dataclass

from portway.runtime.sdk import HostApi, RunContext
from portway.runtime.sdk.types.results import StateScope

SESSION_ID = "external.session_id"
WORKING_DIRECTORY = "external.working_directory"
SESSION_TIME = "external.session_time"
_DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class KeptSession:
    """What the last run of this conversation left; both empty where there is nothing, or it is too old."""

    session_id: str = ""
    working_directory: str = ""


def kept_session(ctx: RunContext, keep_days: float) -> KeptSession:
    values = ctx.state.conversation
    written = values[SESSION_TIME].value if SESSION_TIME in values else None
    if not isinstance(written, int | float) or time.time() - written > keep_days * _DAY_SECONDS:
        return KeptSession()
    texts = [values[key].value if key in values else "" for key in (SESSION_ID, WORKING_DIRECTORY)]
    session_id, directory = (one if isinstance(one, str) else "" for one in texts)
    return KeptSession(session_id, directory)


async def keep_session(ctx: RunContext, host: HostApi, session: KeptSession) -> None:
    """For the next run of the conversation, where the run may keep state."""
    if not ctx.permissions.allow("state") or not ctx.conversation.conversation_id:
        return
    scope = StateScope.CONVERSATION
    await host.state.set(scope, SESSION_ID, session.session_id)
    await host.state.set(scope, WORKING_DIRECTORY, session.working_directory)
    await host.state.set(scope, SESSION_TIME, int(time.time()))
