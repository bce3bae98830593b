"""Ways around the gate from inside a session with the mode ON: options of sockets, spellings, the gate's own ports."""

import socket

from tests.box.box_process import BoxProcess
from tests.box.inside import Inside
from tests.box.network.internet import Internet
from tests.box.network.world import listener, nobody_came, run

_ATTEMPTS = """
import concurrent.futures
CONNECT, FAST_OPEN = "connect", "fast open"
def tcp(host, port, prepare=lambda s: None, family=socket.AF_INET, how=CONNECT):
    s = socket.socket(family, socket.SOCK_STREAM); s.settimeout(1); prepare(s)
    if how == CONNECT: s.connect((host, port)); s.sendall(b"ping")
    else: s.sendto(b"ping", 0x20000000, (host, port))
    return "OPEN" if s.recv(10) else "closed"
def option(level, name, value): return lambda s: s.setsockopt(level, name, value)
def from_elsewhere(s): s.setsockopt(0, 15, 1); s.bind((PUBLIC, 0))
PREPARED = {
    "plainly": lambda s: None,
    "on a device": option(1, 25, b"lo\\0"),
    "on an interface": option(0, 50, struct.pack(">I", 1)),
    "marked": option(1, 36, 1),
    "without routes": option(1, 5, 1),
    "loose source route": option(0, 4, b"\\x83\\x07\\x04" + socket.inet_aton("127.0.0.1") + b"\\0"),
    "strict source route": option(0, 4, b"\\x89\\x07\\x04" + socket.inet_aton(OWN) + b"\\0"),
    "from another address": from_elsewhere,
    "from the loopback": lambda s: s.bind(("127.0.0.1", 0)),
}
works = []
def attempt(name, work, *given):
    works.append(lambda: told(name, work, *given))
def told(name, work, *given):
    try: return f"{name} {work(*given)}"
    except OSError as error: return f"{name} refused {error.errno}"
for what, host, port in PLACES:
    for how, prepare in PREPARED.items():
        attempt(f"{what} {how}", tcp, host, port, prepare)
    attempt(f"{what} fast open", tcp, host, port, lambda s: None, socket.AF_INET, FAST_OPEN)
    for prefix in ("::ffff:", "::", "64:ff9b::", "2002:7f00:1::"):
        attempt(f"{what} {prefix}", tcp, prefix + host, port, lambda s: None, socket.AF_INET6)
    for gate in (8119, 53):
        attempt(f"{what} {gate}", tcp, host, gate)
def ping(host):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1); s.settimeout(0.3)
    s.sendto(b"\\x08\\0\\0\\0\\0\\0\\0\\0x", (host, 0)); return "OPEN" if s.recv(10) else "closed"
def datagram(host, port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.3)
    s.sendto(b"ping", (host, port)); return "OPEN" if s.recv(10) else "closed"
for host in (PUBLIC, OWN):
    attempt(f"ping {host}", ping, host)
    attempt(f"datagram {host}", datagram, host, 53)
def take(address, kind):
    s = socket.socket(socket.AF_INET, kind); s.setsockopt(1, 15, 1); s.setsockopt(1, 2, 1); s.bind(address)
    if kind == socket.SOCK_STREAM: s.listen()
    return "OPEN"
for address in ("0.0.0.0", "127.0.0.1"):
    attempt(f"take {address}", take, (address, 8119), socket.SOCK_STREAM)
    attempt(f"take names {address}", take, (address, 53), socket.SOCK_DGRAM)
with concurrent.futures.ThreadPoolExecutor(12) as pool:
    print("\\n".join(pool.map(lambda work: work(), works)))
print(reach(PUBLIC, 7))
"""


def _ends_of(network: str) -> tuple[str, str]:
    """The first and the last address of a network of eight."""
    head, _, last = network.partition("/")[0].rpartition(".")
    return f"{head}.{last}", f"{head}.{int(last) + 7}"


async def test_no_option_spelling_or_port_leads_around_the_gate(box: BoxProcess, on: Inside, outside: Internet) -> None:
    door = listener("127.0.0.1")
    port = door.getsockname()[1]
    with door, socket.create_server((outside.own, port)) as own:
        own.setblocking(False)
        first, last = _ends_of(outside.network)
        places = [
            ("loopback", "127.0.0.1", port), ("the box", "127.0.0.1", int(box.address.rpartition(":")[2])),
            ("the machine", outside.own, port), ("anywhere", "0.0.0.0", port), ("the end", "127.255.255.254", port),
            ("metadata", "169.254.169.254", 80), ("private", "10.0.0.1", 80), ("multicast", "224.0.0.1", port),
            ("everybody", "255.255.255.255", port), ("the net's first", first, port), ("the net's last", last, port),
        ]  # fmt: skip
        head = f"PLACES, PUBLIC, OWN = {places!r}, {outside.public!r}, {outside.own!r}\n"
        *said, works = await run(on, head + _ATTEMPTS, timeout=60.0)
        assert works == "answered"
        assert len(said) > 180
        assert [line for line in said if "OPEN" in line] == []
        assert nobody_came(door) and nobody_came(own)
