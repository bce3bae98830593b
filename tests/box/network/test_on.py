"""The mode ON and the mode OFF: what is reached, what is not, and that the network works where it is not."""

import os
import socket

from portway.v1.session_pb2 import NetworkPolicy
from tests.box.box_process import BoxProcess
from tests.box.inside import Inside, begin, dial, new_session, until_said
from tests.box.network.internet import Internet
from tests.box.network.world import ON, listener, nobody_came, run, usage


async def test_on_reaches_the_internet_by_address_and_by_name(on: Inside, outside: Internet) -> None:
    program = (
        f"print(reach('{outside.public}', 7), reach('public.example.test', 7), reach('{outside.public}', 1, 2))\n"
        f"s = socket.create_connection(('{outside.public}', 7)); print(s.getpeername()[0])\n"
        "s.sendall(b'tail'); s.shutdown(socket.SHUT_WR)\n"
        "said = b''\n"
        "while more := s.recv(100): said += more\n"
        "print(said.decode())\n"
    )
    said = await run(on, program)
    # A closed port is told by a reset: inside, the connection was there before anybody outside was asked.
    assert said == [f"answered answered {said[0].split()[2]}", outside.public, "tail<end>"]
    assert said[0].split()[2] in ("ConnectionResetError", "ConnectionRefusedError", "BrokenPipeError")
    used = await usage(on)
    assert used.network_sent_bytes == 12
    assert used.network_received_bytes == 3 * len(b"ping<end>")


async def test_on_never_reaches_the_machine(on: Inside, outside: Internet, box: BoxProcess) -> None:
    doors = {address: listener(address) for address in ("127.0.0.1", outside.own, "0.0.0.0")}
    tried = [(address, door.getsockname()[1]) for address, door in doors.items() if address != "0.0.0.0"]
    tried += [(outside.own, doors["0.0.0.0"].getsockname()[1]), ("127.0.0.1", int(box.address.rpartition(":")[2]))]
    tried += [(address, tried[0][1]) for address in ("0.0.0.0", "127.0.0.2", "localhost", "::1", "::ffff:127.0.0.1")]
    program = f"print(reach('{outside.public}', 7), *(reach(*each) for each in {tried}))"
    (said,) = await run(on, program)
    answers = said.split()
    assert answers[0] == "answered"
    assert not {"answered", "silent"} & set(answers[1:]), answers
    for door in doors.values():
        assert nobody_came(door)
        door.close()


async def test_on_reaches_nothing_private_and_no_metadata(on: Inside, outside: Internet) -> None:
    addresses = [
        "10.0.2.2", "10.0.2.3", "172.17.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "192.0.2.2", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", outside.denied, "fd00:ec2::254", "2001:4860:4860::8888", "::ffff:10.0.0.1",
        "64:ff9b::a00:1", "fe80::1",
    ]  # fmt: skip
    (said,) = await run(on, f"print(reach('{outside.public}', 7), *(reach(each, 80, 2) for each in {addresses}))")
    answers = said.split()
    assert answers[0] == "answered"
    # At once and before any connection is there: the routes of the session's own network say no.
    assert set(answers[1:]) <= {"PermissionError", "OSError"}, answers


async def test_on_gives_names_and_no_way_around_the_rules_by_them(on: Inside, outside: Internet) -> None:
    program = (
        "print(socket.gethostbyname('public.test'), socket.gethostbyname('inner.test'), reach('inner.test', 7))\n"
        "def ask(kind, flags=0x100):\n"
        "    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)\n"
        "    name = b'\\6public\\4test\\0' + struct.pack('>HH', kind, 1)\n"
        "    s.sendto(struct.pack('>HHHHHH', 9, flags, 1, 0, 0, 0) + name, ('127.0.0.1', 53))\n"
        "    try: return len(s.recv(500)) > 12\n"
        "    except OSError: return False\n"
        "print(ask(1), ask(252), ask(1, 5 << 11))\n"
    )
    said = await run(on, program)
    assert said == [f"{outside.public} 127.0.0.1 ConnectionRefusedError", "True False False"]


async def test_on_lets_nothing_but_tcp_out(on: Inside, outside: Internet) -> None:
    program = (
        f"print(reach('{outside.public}', 7))\n"
        "def attempt(*kind):\n"
        "    try:\n"
        "        s = socket.socket(*kind); s.settimeout(1)\n"
        f"        s.connect(('{outside.public}', 53)); s.send(b'x' * 40); s.recv(10); return 'OPEN'\n"
        "    except OSError as error: return type(error).__name__\n"
        "print(attempt(socket.AF_INET, socket.SOCK_DGRAM), attempt(socket.AF_INET, socket.SOCK_RAW, 1),\n"
        "      attempt(socket.AF_INET, socket.SOCK_DGRAM, 1), attempt(socket.AF_INET, socket.SOCK_STREAM, 132))\n"
        "for family in (17, 40, 31, 44, 16):\n"
        "    try: socket.socket(family, socket.SOCK_RAW, 3 if family != 16 else 12); print('OPEN', family)\n"
        "    except OSError: pass\n"
    )
    said = await run(on, program)
    assert said[0] == "answered"
    assert "OPEN" not in " ".join(said[1:]), said


async def test_the_session_cannot_change_its_network(on: Inside, outside: Internet) -> None:
    program = (
        f"print(reach('{outside.public}', 7))\n"
        "import os, fcntl\n"
        "from struct import pack\n"
        "def route(kind, flags, table=254):\n"
        "    s = socket.socket(16, socket.SOCK_RAW, 0)\n"
        "    body = pack('=BBBBBBBBI', 2, 8, 0, 0, table, 4, 254, 2, 0) + pack('=HH', 8, 1) + bytes([10, 0, 0, 0])\n"
        "    body += pack('=HHI', 8, 4, 1)\n"
        "    s.send(pack('=IHHII', 16 + len(body), kind, 5 | flags, 1, 0) + body)\n"
        "    return struct.unpack_from('=i', s.recv(500), 16)[0]\n"
        "print(route(24, 0x400), route(25, 0))\n"
        "try: socket.socket(16, socket.SOCK_RAW, 12); print('OPEN netfilter')\n"
        "except OSError as error: print('closed')\n"
        "s = socket.socket()\n"
        "try: s.setsockopt(0, 19, 1); print('OPEN transparent')\n"
        "except OSError: print('closed')\n"
        "try: fcntl.ioctl(s, 0x8914, pack('16sh22x', b'lo', 0)); print('OPEN interface')\n"
        "except OSError: print('closed')\n"
        "try: open('/proc/sys/net/ipv4/conf/all/route_localnet', 'w').write('1'); print('OPEN sysctl')\n"
        "except OSError: print('closed')\n"
        "print(reach('10.0.0.1', 80))\n"
    )
    said = await run(on, program)
    assert said == ["answered", "-1 -1", *["closed"] * 4, "PermissionError"]


async def test_two_sessions_with_networks_do_not_reach_each_other(
    box: BoxProcess, on: Inside, outside: Internet
) -> None:
    async with dial(box) as channel:
        other = await new_session(channel, network=NetworkPolicy(mode=ON))
        # Even one that takes the other's address, or any address, only meets itself.
        serve = (
            f"import socket; s = socket.socket(); s.bind(('{outside.public}', 7777)); s.listen()\n"
            "print('up', flush=True); s.accept(); print('MET', flush=True)"
        )
        call = await begin(other, f'/usr/bin/python3 -c "{serve}"')
        await until_said(call, b"up\n")
        (said,) = await run(
            on, f"print(reach('{outside.public}', 7), reach('127.0.0.1', 7777), reach('{outside.public}', 7777, 2))"
        )
        assert said.split()[0] == "answered"
        assert not {"answered", "silent"} & set(said.split()[1:])
        call.cancel()
        await other.delete()


async def test_abstract_sockets_of_the_machine_stay_out_of_reach(on: Inside, outside: Internet) -> None:
    name = f"\0portway-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(name)
        door.listen()
        program = (
            f"print(reach('{outside.public}', 7))\n"
            "s = socket.socket(socket.AF_UNIX)\n"
            f"try: s.connect({name!r}); print('OPEN')\n"
            "except OSError as error: print(type(error).__name__)"
        )
        assert await run(on, program) == ["answered", "ConnectionRefusedError"]


async def test_off_stays_off(box: BoxProcess, outside: Internet) -> None:
    async with dial(box) as channel:
        session = await new_session(channel)
        result = await session.attempt("env | grep -ci proxy; sed -n 's/^ *\\([^:]*\\):.*/\\1/p' /proc/net/dev")
        assert result.stdout.split() == ["0", "lo"]
        (said,) = await run(
            session, f"print(reach('{outside.public}', 7), reach('127.0.0.1', 8118), reach('127.0.0.1', 53))"
        )
        assert said.split() == ["OSError", "ConnectionRefusedError", "ConnectionRefusedError"]
        assert not (await usage(session)).HasField("network_sent_bytes")
        await session.delete()
