"""What tests of the network share: settings, and programs that are run inside."""

import socket
from typing import Any

from portway.v1 import session_pb2
from tests.asking import ask
from tests.box.box_process import BoxProcess, children_of
from tests.box.inside import Inside
from tests.box.machine import processes_with
from tests.box.network.internet import Internet

OFF, ON = session_pb2.NETWORK_MODE_OFF, session_pb2.NETWORK_MODE_ON
ALLOW_LIST = session_pb2.NETWORK_MODE_ALLOW_LIST
CONNECTIONS = 8
SAY = """
import json, socket, struct, sys, time
def reach(host, port, timeout=5):
    try:
        made = socket.create_connection((host, port), timeout)
        made.sendall(b"ping")
        return "answered" if made.recv(4) == b"ping" else "silent"
    except OSError as error:
        return type(error).__name__
def proxied(data, timeout=8):
    made = socket.create_connection(("127.0.0.1", 8118), timeout)
    made.sendall(data)
    said = b""
    try:
        while more := made.recv(65536):
            said += more
    except OSError as error:
        said += b"<" + type(error).__name__.encode() + b">"
    return said.decode("latin-1")
def tunnel(where, timeout=8):
    made = socket.create_connection(("127.0.0.1", 8118), timeout)
    made.sendall(b"CONNECT %s HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n" % where.encode())
    said = b""
    while b"\\r\\n\\r\\n" not in said:
        more = made.recv(1)
        if not more: break
        said += more
    return made, said.decode().split(" ")[1]
"""


def settings(outside: Internet) -> dict[str, Any]:
    hosts = {
        "public.test": [outside.public],
        "www.public.test": [outside.public],
        "nowhere.test": [outside.public],
        "private.test": ["10.9.8.7"],
        "denied.test": [outside.denied],
        "own.test": [outside.own],
        "mixed.test": ["10.9.8.7", outside.own, outside.public],
    }
    network = {
        "allowed_private": [outside.network],
        "denied": [f"{outside.denied}/32"],
        "hosts": hosts,
        "nameservers": [outside.public],
        "connections": CONNECTIONS,
        "head": 1.0,
        "idle": 3.0,
        "connect": 5.0,
    }
    return {"network": network}


LISTED = [
    "public.test",
    "public.test:7",
    "public.test:17",
    "*.public.test:7",
    "private.test",
    "denied.test:7",
    "own.test:7",
]


async def run(session: Inside, program: str, **options: Any) -> list[str]:
    result = await session.python(SAY + program, **options)
    assert not result.stderr, result
    return result.stdout.splitlines()


async def usage(session: Inside) -> session_pb2.SessionUsage:
    answer = await ask(session.channel, session_pb2.GetSessionRequest(session_id=session.session_id))
    found: session_pb2.SessionUsage = answer.session.usage
    return found


def listener(address: str) -> socket.socket:
    made = socket.create_server((address, 0))
    made.setblocking(False)
    return made


def nobody_came(made: socket.socket) -> bool:
    try:
        made.accept()[0].close()
    except BlockingIOError:
        return True
    return False


def gates(box: BoxProcess) -> list[int]:
    return [pid for pid in children_of(box.pid) if pid in processes_with("box.network.gate")]
