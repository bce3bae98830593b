"""What a worker's failure means to the host."""

import asyncio

import grpc

from portway.rpc.errors import InternalError, PayloadTooLarge, PortwayError, Reason, Unavailable
from portway.rpc.status import DETAILS_KEY, error_from_rpc
from portway.runtime.workers.worker import Worker

# How long the end of the process may take to be known after its connection broke.
_CERTAINTY_SECONDS = 0.5
# What a broken connection looks like, depending on what was going on in it.
_BROKEN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
    }
)


async def failure_of(worker: Worker, error: grpc.aio.AioRpcError) -> PortwayError:
    meaning = error_from_rpc(error)
    if error.code() in _BROKEN:
        await asyncio.wait([worker.end], timeout=_CERTAINTY_SECONDS)
        if worker.end.done():
            return Unavailable(
                f"the plugin {worker.plugin.id} ended during the run: its process {worker.ended_how()}; "
                f"see its output with `portway plugin logs {worker.plugin.id}`",
                reason=Reason.RUNNER_CRASHED,
            )
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        worker.suspect()
        return Unavailable(
            f"the connection to the plugin {worker.plugin.id} broke while its process goes on; "
            "that is replaced if it does not answer",
            reason=Reason.RUNNER_CRASHED,
        )
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and not _has_details(error):
        # The library's own refusal of a message, whatever the plugin meant by it.
        return PayloadTooLarge(
            f"the plugin {worker.plugin.id} sent a message larger than one may be; none of it is taken"
        )
    if isinstance(meaning, InternalError):
        return InternalError(f"the plugin {worker.plugin.id} failed: {meaning.message}")
    return meaning


def _has_details(error: grpc.aio.AioRpcError) -> bool:
    return any(key == DETAILS_KEY for key, _ in error.trailing_metadata() or ())
