"""The rules of the network, each by itself: names, lists, addresses, requests, first messages of TLS, questions."""

import struct
from ipaddress import ip_address

import pytest

from portway.box.network.addresses import AddressRules, leaves_machine, own_addresses
from portway.box.network.allow_list import AllowList, entry_of
from portway.box.network.client_hello import BadHello, Hello, read_hello
from portway.box.network.dns import is_question, servers_of
from portway.box.network.http import BadRequest, read_request
from portway.box.network.names import BadName, host_of
from portway.box.network.settings import NetworkSettings
from tests.waiting import until


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Example.ORG", "example.org"), ("example.org.", "example.org"), ("bücher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"), ("localhost", "localhost"), ("a_b.example", "a_b.example"),
        ("203.0.113.5", ip_address("203.0.113.5")), ("203.0.113.5.", ip_address("203.0.113.5")),
        ("[2001:DB8::1]", ip_address("2001:db8::1")), ("1and1.example", "1and1.example"),
    ],
)  # fmt: skip
def test_a_host_has_one_form(written: str, meant: object) -> None:
    assert host_of(written) == meant


@pytest.mark.parametrize(
    "written",
    [
        "", ".", "a..b", "-a.example", "a-.example", "a b", "a/b", "a@b", "a\0b", "a:b", "a\r\nb", "%61.example",
        "0x7f.1", "127.1", "2130706433", "0177.0.0.1", "127.0.0.01", "0x7f000001", "1.2.3.4.5", "256.1.1.1", "1.2.3.",
        "::1", "[::1", "[::1%lo]", "[1.2.3.4]", "[]", "a." * 130, "x" * 64 + ".example", "example.0x", "①②⑦.0.0.1",
    ],
)  # fmt: skip
def test_what_is_no_host_or_an_odd_spelling_of_one_is_refused(written: str) -> None:
    try:
        # Digits of other scripts mean the same digits, and then it is a plain address.
        assert host_of(written) == ip_address("127.0.0.1") and not written.isascii()
    except BadName:
        return


def test_a_list_permits_what_it_says_and_nothing_beside_it() -> None:
    allow = AllowList(["example.org:443", "*.Example.net:8443", "plain.example", "203.0.113.5:22", "[2001:db8::1]:22"])
    permitted = [
        ("example.org", 443), ("a.example.net", 8443), ("a.b.example.net", 8443), ("plain.example", 80),
        ("plain.example", 443), (ip_address("203.0.113.5"), 22), (ip_address("2001:db8::1"), 22),
    ]  # fmt: skip
    refused = [
        ("example.org", 80), ("www.example.org", 443), ("example.net", 8443), ("badexample.net", 8443),
        ("example.org.evil.example", 443), ("plain.example", 8080), (ip_address("203.0.113.6"), 22),
        ("xexample.org", 443),
    ]  # fmt: skip
    assert all(allow.permits(host, port) for host, port in permitted)
    assert not any(allow.permits(host, port) for host, port in refused)


@pytest.mark.parametrize(
    "entry",
    [
        "", "*", "*:443", "*.org:443", "*.", "*.1.2.3.4:80", "a.*.example", "*a.example", "a.example:0", "a.example:",
        "a.example:65536", "a.example:+1", "a.example:80:80", "http://a.example", "a.example/x", "u@a.example",
        "10.1:80", "[::1]x:80", "::1", "a.example:٣", "**.a.example",
    ],
)  # fmt: skip
def test_an_entry_that_cannot_be_meant_is_refused(entry: str) -> None:
    with pytest.raises(BadName):
        entry_of(entry)


def test_entries_have_one_form() -> None:
    entries = ["Example.org.", "*.Example.org:80", "[2001:DB8:0::1]:443", "1.2.3.4"]
    assert [entry_of(entry).written() for entry in entries] == [
        "example.org", "*.example.org:80", "[2001:db8::1]:443", "1.2.3.4",
    ]  # fmt: skip


NOT_OPEN = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "169.254.169.254", "172.16.0.1",
    "172.31.255.255", "192.168.1.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
    "192.88.99.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "::8.8.8.8", "64:ff9b::7f00:1", "64:ff9b:1::1", "100::1",
    "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1",
    "ff02::1", "4000::1",
]  # fmt: skip


@pytest.mark.parametrize("address", NOT_OPEN)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert AddressRules((), (), lambda _address: True).objection(ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00::1"])
def test_a_public_address_is_open_where_there_is_a_way_to_it(address: str) -> None:
    assert AddressRules((), (), lambda _address: True).objection(ip_address(address)) == ""
    assert AddressRules((), (), lambda _address: False).objection(ip_address(address))
    assert AddressRules((), ("0.0.0.0/0", "::/0"), lambda _address: True).objection(ip_address(address))


def test_an_operator_opens_networks_and_never_the_machine() -> None:
    rules = AddressRules(("10.0.0.0/8", "169.254.0.0/16", "192.168.0.9/32"), ("10.1.0.0/16",), lambda _address: True)
    assert rules.objection(ip_address("10.2.0.1")) == ""
    assert "denies" in rules.objection(ip_address("10.1.0.1"))
    assert "link-local" in rules.objection(ip_address("169.254.169.254"))
    elsewhere = AddressRules(("10.0.0.0/8", "192.168.0.9/32"), (), lambda _address: False)
    assert elsewhere.objection(ip_address("10.2.0.1"))
    # A host of the machine itself is open only where it is named alone.
    assert elsewhere.objection(ip_address("192.168.0.9")) == ""
    for network in ("127.0.0.0/8", "127.0.0.1/32", "0.0.0.0/0", "::1/128", "::/0", "::ffff:0:0/96"):
        with pytest.raises(ValueError, match="never open"):
            NetworkSettings(allowed_private=(network,))
    with pytest.raises(ValueError, match="not appear to be"):
        NetworkSettings(denied=("nonsense",))


async def test_the_machines_own_addresses_are_known_and_lead_nowhere_else() -> None:
    assert ip_address("127.0.0.1") in own_addresses()
    # One that just came is nobody's yet: the kernel first looks whether somebody else has it. Others come and go.
    await until(lambda: not any(leaves_machine(address) for address in own_addresses()))


@pytest.mark.parametrize(
    "head",
    [
        "GET / HTTP/1.1", "GET http://a.example/ HTTP/1.1\r\nHost: a\r\nHost: b", "GET https://a.example/ HTTP/1.1",
        "GET http://u@a.example/ HTTP/1.1", "GET http://a.example:80@b.example/ HTTP/1.1",
        "GET  http://a.example/ HTTP/1.1",
        "GET http://a.example/ HTTP/2.0", "GET http://a.example/ HTTP/0.9", "CONNECT a.example HTTP/1.1",
        "CONNECT http://a.example:443 HTTP/1.1", "CONNECT a.example:443/x HTTP/1.1", "CONNECT u@a.example:443 HTTP/1.1",
        "GET http://a.example/ HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        "GET http://a.example/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1",
        "GET http://a.example/ HTTP/1.1\r\nContent-Length: 1, 1",
        "GET http://a.example/ HTTP/1.1\r\nContent-Length: +1",
        "GET http://a.example/ HTTP/1.1\r\nTransfer-Encoding: gzip, chunked",
        "GET http://a.example/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "GET http://a.example/ HTTP/1.0\r\nTransfer-Encoding: chunked",
        "GET http://a.example/ HTTP/1.1\r\n X: folded", "GET http://a.example/ HTTP/1.1\r\nX : y",
        "GET http://a.example/ HTTP/1.1\r\nX: y\nHost: b", "GET http://a.example/ HTTP/1.1\r\nX: a\0b",
        "GET http://a.example/ HTTP/1.1\r\nnocolon", "GET http://a.example/\r\n HTTP/1.1", "GET http:///x HTTP/1.1",
        "GET http://127.1/ HTTP/1.1", "GET http://a.example:0/ HTTP/1.1", "GET http://a.example\\@b.example/ HTTP/1.1",
        "GET http://a.example#@b.example/ HTTP/1.1", "G\tT http://a.example/ HTTP/1.1", "",
        "GET http://a.example/ HTTP/1.1" + "\r\nX: y" * 101,
    ],
)  # fmt: skip
def test_a_request_that_two_readers_could_take_differently_is_refused(head: str) -> None:
    with pytest.raises(BadRequest):
        read_request(head.encode("latin-1"))


def test_a_plain_request_is_said_anew_for_the_host_that_it_names() -> None:
    request = read_request(
        b"POST http://A.example:8080?q HTTP/1.1\r\nHost: evil.example\r\nConnection: X-Drop, Content-Length\r\n"
        b"X-Drop: 1\r\nX-Keep: 2\r\nContent-Length: 3\r\nProxy-Authorization: secret\r\nUpgrade: websocket"
    )
    assert (request.host, request.port, request.length, request.is_tunnel) == ("a.example", 8080, 3, False)
    assert request.head == (
        b"POST /?q HTTP/1.1\r\nHost: a.example:8080\r\nX-Keep: 2\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"
    )


def hello(name: bytes | None, *more: bytes) -> bytes:
    """A first message of TLS, in one record."""
    extensions = b"".join(more)
    if name is not None:
        listed = b"\0" + struct.pack(">H", len(name)) + name
        content = struct.pack(">H", len(listed)) + listed
        extensions += struct.pack(">HH", 0, len(content)) + content
    body = b"\3\3" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + struct.pack(">H", len(extensions)) + extensions
    message = b"\1" + len(body).to_bytes(3) + body
    return b"\x16\3\1" + struct.pack(">H", len(message)) + message


def test_a_first_message_of_tls_in_too_many_pieces_is_refused() -> None:
    message = hello(b"a.example", b"\0\x15\1\0" + bytes(256))[5:]
    records = b"".join(b"\x16\3\1\0\1" + message[at : at + 1] for at in range(len(message)))
    assert read_hello(records[: 6 * 250]) is None
    with pytest.raises(BadHello, match="pieces"):
        read_hello(records)


def test_the_name_in_a_first_message_of_tls_is_read_however_it_is_cut() -> None:
    whole = hello(b"a.example")
    assert read_hello(whole) == read_hello(whole + b"more") == Hello(True, "a.example")
    assert all(read_hello(whole[:end]) is None for end in range(len(whole)))
    message = whole[5:]
    records = b"".join(b"\x16\3\1\0\1" + message[at : at + 1] for at in range(len(message)))
    assert read_hello(records) == Hello(True, "a.example")
    assert read_hello(hello(None)) == Hello(True, "")
    assert read_hello(b"SSH-2.0-x") == Hello(False)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\2\0\0\1x", b"\x16\3\1\0\0", b"\x16\3\1\xff\xff", b"\x16\3\1\0\4\2\0\0\0", b"\x16\3\1\0\4\1\xff\xff\xff",
        b"\x16\3\1\0\1\1\x17\3\3\0\1x", b"\x16\3\1\0\5\1\0\0\1x", hello(b"a.example", hello(b"b")[-10:]),
        hello(b"a.example", b"\0\0\0\6\0\4\0\0\1b"), hello(b"\xff"), hello(b"x", b"\0\1\xff\xff"),
    ],
)  # fmt: skip
def test_a_first_message_of_tls_that_cannot_be_read_is_refused(data: bytes) -> None:
    with pytest.raises(BadHello):
        read_hello(data)


def question(flags: int = 0x0100, counts: tuple[int, int, int, int] = (1, 0, 0, 0), kind: int = 1) -> bytes:
    return struct.pack(">HHHHHH", 7, flags, *counts) + b"\1a\7example\0" + struct.pack(">HH", kind, 1)


def test_only_questions_for_one_name_go_to_a_nameserver() -> None:
    assert is_question(question())
    assert is_question(question(counts=(1, 0, 0, 1)) + b"\0\0\x29\4\xd0\0\0\0\0\0\0")
    bad = [
        question(0x8180), question(5 << 11), question(counts=(2, 0, 0, 0)), question(counts=(1, 1, 0, 0)),
        question(kind=252), question(kind=251), question()[:-3], b"", b"\0" * 12, question() + bytes(600),
        question()[:12] + b"\xc0\x0c\0\1\0\1",
    ]  # fmt: skip
    assert not any(is_question(message) for message in bad)


def test_nameservers_of_the_settings_may_have_ports() -> None:
    assert servers_of(["192.0.2.1", "192.0.2.1:5353", "2001:db8::1", "[2001:db8::1]:54"]) == (
        ("192.0.2.1", 53), ("192.0.2.1", 5353), ("2001:db8::1", 53), ("2001:db8::1", 54),
    )  # fmt: skip
