"""The mode ALLOW_LIST: a list of hosts and ports, through a proxy that nobody gets around."""

import pytest

from portway.v1 import box_pb2
from tests.asking import ask
from tests.box.box_process import BoxProcess
from tests.box.inside import Inside, begin, until_said
from tests.box.network.internet import Internet
from tests.box.network.world import CONNECTIONS, SAY, run, usage
from tests.waiting import until_told


async def test_a_list_is_reached_through_the_proxy_of_the_environment(listed: Inside) -> None:
    program = (
        "import urllib.request, json\n"
        "def get(url, **more):\n"
        "    try:\n"
        "        with urllib.request.urlopen(urllib.request.Request(url, **more), timeout=5) as answer:\n"
        "            return json.loads(answer.read())\n"
        "    except urllib.error.HTTPError as error: return f'{error.code} {error.read().decode().strip()}'\n"
        "said = get('http://public.test/a?b=c', data=b'body', headers={'X-Mine': 'yes', 'Host': 'evil.test'})\n"
        "print(said['line'], said['headers']['host'], said['headers']['x-mine'], said['body'])\n"
        "print(get('http://www.public.test/'))\n"
        "print(get('http://other.test/'))\n"
    )
    said = await run(listed, program)
    assert said[0] == "POST /a?b=c HTTP/1.1 public.test yes body"
    for line, host in zip(said[1:], ("www.public.test", "other.test"), strict=True):
        assert line == (
            f"403 portway: {host}:80 is not in the session's list; whoever makes the session can add '{host}:80' to it"
        )
    errors = await ask(listed.channel, box_pb2.ListErrorsRequest(session_id=listed.session_id))
    assert [error.code for error in errors.errors] == ["NETWORK_REFUSED"] * 2
    used = await usage(listed)
    assert (used.network_connection_count, used.network_refused_count) == (3, 2)
    assert used.network_sent_bytes > 0 and used.network_received_bytes > 0


async def test_a_session_with_a_list_has_no_other_way_out(listed: Inside, outside: Internet) -> None:
    program = (
        "made, code = tunnel('public.test:7'); made.sendall(b'ping'); print(code, made.recv(4).decode())\n"
        f"print(reach('{outside.public}', 7), reach('127.0.0.1', 53))\n"
        "try: print(socket.gethostbyname('public.test'))\n"
        "except OSError as error: print(type(error).__name__)\n"
    )
    assert await run(listed, program) == ["200 ping", "OSError ConnectionRefusedError", "gaierror"]


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("public.test:7", "200"), ("PUBLIC.test.:7", "200"), ("www.public.test:7", "200"), ("mixed.test:7", "200"),
        ("public.test:8", "403"), ("public.test:25", "403"), ("evil.test:443", "403"),
        ("public.test.evil.test:7", "403"),
        # Listed, and leading where nobody may go.
        ("private.test:443", "403"), ("denied.test:7", "403"), ("own.test:7", "403"), ("127.0.0.1:7", "403"),
        # Spellings that other readers take for something listed, or for the machine.
        ("127.1:7", "400"), ("0x7f.1:7", "400"), ("2130706433:7", "400"), ("[::ffff:127.0.0.1]:7", "403"),
        ("[::1]:7", "403"), ("localhost:7", "403"), ("evil.test:7@public.test:7", "400"), ("public.test:7/", "400"),
        ("public.test", "400"), ("public.test:70000", "400"), ("public.test:7#evil.test", "400"),
    ],
)  # fmt: skip
async def test_each_tunnel_is_judged_by_the_name_and_by_where_it_leads(listed: Inside, where: str, code: str) -> None:
    said = await run(listed, f"print(tunnel('public.test:7')[1], tunnel({where!r})[1])")
    assert said == [f"200 {code}"]


async def test_an_address_that_is_listed_is_reached_and_another_port_of_it_is_not(
    listed: Inside, outside: Internet
) -> None:
    where = outside.public
    assert await run(listed, f"print(tunnel('{where}:7')[1], tunnel('{where}:80')[1])") == ["200 403"]


async def test_tls_in_a_tunnel_asks_for_the_name_of_the_tunnel(listed: Inside) -> None:
    program = (
        "def hello(name):\n"
        "    listed = b'\\0' + struct.pack('>H', len(name)) + name\n"
        "    extension = struct.pack('>HHH', 0, len(listed) + 2, len(listed)) + listed if name else b''\n"
        "    body = b'\\3\\3' + bytes(32) + b'\\0\\0\\2\\x13\\1\\1\\0'\n"
        "    body += struct.pack('>H', len(extension)) + extension\n"
        "    message = b'\\1' + len(body).to_bytes(3, 'big') + body\n"
        "    return b'\\x16\\3\\1' + struct.pack('>H', len(message)) + message\n"
        "def attempt(data, pieces=1):\n"
        "    made, code = tunnel('public.test:443')\n"
        "    size = -(-len(data) // pieces)\n"
        "    for at in range(0, len(data), size): made.sendall(data[at:at + size])\n"
        "    try: return 'passed' if made.recv(len(data)) == data[:65536][:len(data)] else 'cut'\n"
        "    except OSError: return 'cut'\n"
        "print(attempt(hello(b'public.test')), attempt(hello(b'Public.TEST')), attempt(b'plain text'))\n"
        "print(attempt(hello(b'evil.test')), attempt(hello(b'')), attempt(hello(b'evil.test'), 40))\n"
        "print(attempt(b'\\x16\\3\\1\\xff\\xff' + b'x' * 100), attempt(hello(b'public.test')[:20]))\n"
    )
    said = await run(listed, program)
    assert said[1:] == ["cut cut cut", "cut cut"]
    assert said[0] == "passed passed passed"


@pytest.mark.parametrize(
    ("request_text", "code"),
    [
        ("GET / HTTP/1.1\r\nHost: public.test", "400"), ("GET https://public.test/ HTTP/1.1", "400"),
        ("GET http://public.test/ HTTP/1.1\r\nHost: a\r\nHost: b", "400"),
        ("GET http://u:p@public.test/ HTTP/1.1", "400"), ("GET http://evil.test/ HTTP/1.1\r\nHost: public.test", "403"),
        ("POST http://public.test/ HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked", "400"),
        ("POST http://public.test/ HTTP/1.1\r\nTransfer-Encoding: xchunked", "400"),
        ("GET http://public.test/ HTTP/1.1\r\nX: a\nHost: evil.test", "400"),
        ("GET http://public.test/ HTTP/1.1\r\n folded: x", "400"), ("\x16\x03\x01\x00", "400"),
        ("GET http://nowhere.test:81/ HTTP/1.1", "502"), ("GET http://private.test/ HTTP/1.1", "403"),
    ],
)  # fmt: skip
async def test_a_request_that_could_be_taken_two_ways_goes_nowhere(
    listed: Inside, request_text: str, code: str
) -> None:
    good = "GET http://public.test/ HTTP/1.1\r\nHost: public.test\r\n\r\n"
    tried = (request_text + "\r\n\r\n").encode("latin-1")
    program = f"print(proxied({good.encode()!r}).split()[1], proxied({tried!r}).split()[1])"
    said = await run(listed, program)
    assert said == [f"200 {code}"]


async def test_a_second_request_on_one_connection_is_never_passed_on(listed: Inside) -> None:
    first = "POST http://public.test/one HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody"
    second = "GET http://public.test/two HTTP/1.1\r\nHost: evil.test\r\n\r\n"
    chunked = (
        "POST http://public.test/one HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        "4;x=y\r\nbody\r\n0\r\nTrailer: x\r\n\r\n"
    )
    program = (
        f"print(proxied({first!r}.encode())); print(proxied({(first + second)!r}.encode()))\n"
        f"print(proxied({chunked!r}.encode())); print(proxied({(chunked + second)!r}.encode()))\n"
    )
    said = "\n".join(await run(listed, program))
    assert said.count("/one") >= 2
    assert "/two" not in said
    assert said.count('"body": "body"') >= 2


async def test_a_bad_body_ends_the_request(listed: Inside) -> None:
    start = "POST http://public.test/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    for bad in ("zz\r\n", "-1\r\nx\r\n", "4\r\nbodyx\r\n0\r\n\r\n", "5\nhello", "1" * 40 + "\r\n"):
        assert await run(listed, f"print('200' in proxied({(start + bad)!r}.encode()))") == ["False"]


async def test_socks_reaches_what_the_list_has_and_looks_names_up_outside(listed: Inside) -> None:
    program = (
        "def socks(address, port, version=5, command=1, methods=b'\\0'):\n"
        "    made = socket.create_connection(('127.0.0.1', 8118), 5)\n"
        "    made.sendall(bytes([version, len(methods)]) + methods)\n"
        "    made.sendall(bytes([5, command, 0]) + address + port.to_bytes(2, 'big'))\n"
        "    made.recv(2); code = made.recv(10)[1:2]\n"
        "    if code != b'\\0': return code.hex()\n"
        "    made.sendall(b'ping'); return made.recv(4).decode()\n"
        "name = lambda text: bytes([3, len(text)]) + text\n"
        "print(socks(name(b'public.test'), 7), socks(name(b'evil.test'), 7), socks(b'\\1\\x7f\\0\\0\\1', 7))\n"
        "print(socks(name(b'127.1'), 7), socks(name(b'public.test'), 7, command=2))\n"
        "print(socks(name(b'private.test'), 443))\n"
    )
    assert await run(listed, program) == ["ping 02 02", "08 07", "02"]


async def test_a_client_that_says_nothing_or_too_much_is_let_go(listed: Inside) -> None:
    program = (
        "made = socket.create_connection(('127.0.0.1', 8118), 8); print(made.recv(10))\n"
        "made = socket.create_connection(('127.0.0.1', 8118), 8); made.sendall(b'GET http'); print(made.recv(10))\n"
        "print(proxied(b'GET http://public.test/ HTTP/1.1\\r\\nX: ' + b'a' * 60_000 + b'\\r\\n\\r\\n').split()[1])\n"
        "made, code = tunnel('public.test:9'); print(code, made.recv(10))\n"
    )
    said = await run(listed, program)
    assert said == ["b''", "b''", "431", "200 b''"]


async def test_what_nobody_reads_is_not_piled_up(listed: Inside, box: BoxProcess) -> None:
    call = await begin(
        listed,
        "exec /usr/bin/python3 -I - <<'END'\n" + SAY + "made, code = tunnel('public.test:17')\n"
        "print(made.recv(6).decode().strip(), flush=True); time.sleep(60)\nEND\n",
    )
    await until_said(call, b"hello\n")
    before = 0

    async def stands_still() -> bool:
        nonlocal before
        last, before = before, (await usage(listed)).network_received_bytes
        return last == before > 0

    await until_told(stands_still)
    # What the kernel holds of it on both sides, out of 64 MiB that the other side has to say.
    assert before < 16 * 1024 * 1024
    call.cancel()


async def test_more_connections_than_allowed_wait_and_are_served_in_turn(listed: Inside) -> None:
    program = (
        f"held = [tunnel('public.test:7') for _ in range({CONNECTIONS})]\n"
        "print({code for _made, code in held})\n"
        "late = [socket.create_connection(('127.0.0.1', 8118), 1) for _ in range(20)]\n"
        "late[0].sendall(b'CONNECT public.test:7 HTTP/1.1\\r\\n\\r\\n')\n"
        "try: print(late[0].recv(12))\n"
        "except OSError as error: print(type(error).__name__)\n"
        "for made, _code in held: made.close()\n"
        "late[0].settimeout(8); print(late[0].recv(12))\n"
    )
    assert await run(listed, program) == ["{'200'}", "TimeoutError", "b'HTTP/1.1 200'"]


async def test_a_flood_of_one_session_does_not_stop_another(listed: Inside, on: Inside, outside: Internet) -> None:
    flood = (
        "import threading\n"
        "def hammer():\n"
        "    while True:\n"
        "        try: s = socket.create_connection(('127.0.0.1', 8118), 1); s.sendall(b'x' * 100_000)\n"
        "        except OSError: pass\n"
        "for _ in range(16): threading.Thread(target=hammer, daemon=True).start()\n"
        "print('begun', flush=True); time.sleep(60)\n"
    )
    call = await begin(listed, "exec /usr/bin/python3 -I - <<'END'\n" + SAY + flood + "END\n")
    await until_said(call, b"begun\n")
    for _ in range(5):
        assert await run(on, f"print(reach('{outside.public}', 7))") == ["answered"]
    call.cancel()
