"""Writing on a client's stream whose server may end it meanwhile.

The library's own `write` replaces the status of a call by an internal error when the server has ended it just then, and
drops responses that were not read yet. A server that has said all it wants to say may end a stream at any time, so here
such a write only reports that nothing is read any more; the reader of the same call learns how it ended.
"""

from typing import Any

import grpc

Call = Any  # grpc.aio.StreamStreamCall or StreamUnaryCall: what is used of them is not in their stubs


async def send(call: Call, request: Any) -> bool:
    """Sends a request, waiting while the server reads too slowly. False where the call has ended."""
    await call._metadata_sent.wait()
    if call.done():
        return False
    serializer = call._request_serializer
    try:
        await call._cython_call.send_serialized_message(serializer(request) if serializer else request)
    except grpc.aio.InternalError:
        return False
    return True


async def half_close(call: Call) -> None:
    """Tells the server that nothing follows."""
    if call.done() or call._done_writing_flag:
        return
    call._done_writing_flag = True
    try:
        await call._cython_call.send_receive_close()
    except grpc.aio.InternalError:
        return
