"""One piece of work of many that share a stream: its failure is an answer, and ends nothing but itself."""

from collections.abc import Awaitable
from typing import TypeVar

import structlog

from portway.rpc.errors import InternalError, PortwayError
from portway.rpc.ids import new_id

T = TypeVar("T")


async def outcome_of(work: Awaitable[T], what: str) -> T | PortwayError:
    """What the work returned, or why it failed. A bug is logged under an id, as the gate does for whole calls.

    `what` names the work for the log. Being cancelled is not a failure of the work and goes on.
    """
    try:
        return await work
    except PortwayError as error:
        return error
    except Exception as error:  # noqa: BLE001 - the other calls on the stream must go on
        error_id = new_id("err")
        structlog.get_logger("portway.rpc").error("bug in a handler", error_id=error_id, what=what, exc_info=error)
        return InternalError(
            f"an internal error happened; the server's log has it as {error_id}", facts={"error_id": error_id}
        )
