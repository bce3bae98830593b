"""Requests to a proxy in HTTP/1: read strictly, said anew. What two readers could take differently is refused."""

import re
from dataclasses import dataclass

from portway.box.network.names import BadName, Host, host_of, port_of, split_port, written

LONGEST_HEAD = 32 * 1024
MOST_HEADERS = 100
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_PATH = re.compile(rb"[\x21\x22\x24-\x7e]*")
_LENGTH = re.compile(rb"[0-9]{1,18}")
# For one connection only, or said anew here.
_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"te", b"trailer", b"upgrade", b"host", b"content-length", b"transfer-encoding"}
)
_HTTP_PORT = 80


class BadRequest(ValueError):
    """Not a request that this proxy takes; the text says why."""


@dataclass(frozen=True, slots=True)
class ProxyRequest:
    """One request. `head` is what the other side is sent first; of the body follow `length` bytes, or chunks.

    With `is_tunnel` there is neither: bytes go both ways.
    """

    host: Host
    port: int
    is_tunnel: bool
    head: bytes = b""
    length: int = 0
    chunked: bool = False


def read_request(head: bytes) -> ProxyRequest:
    """`head` is everything up to and without the empty line. Raises `BadRequest`."""
    lines = head.split(b"\r\n")
    parts = lines[0].split(b" ")
    if len(parts) != 3 or not _TOKEN.fullmatch(parts[0]) or not _PATH.fullmatch(parts[1]):
        raise BadRequest("this is the network proxy of the session; it takes requests of HTTP/1 to a proxy, and SOCKS5")
    method, target, version = parts
    if version not in (b"HTTP/1.0", b"HTTP/1.1"):
        raise BadRequest("only HTTP/1.0 and HTTP/1.1 are taken here")
    headers = _headers(lines[1:])
    try:
        if method == b"CONNECT":
            return _tunnel(target)
        return _plain(method, target, version, headers)
    except BadName as error:
        raise BadRequest(str(error)) from None


def _headers(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    if len(lines) > MOST_HEADERS:
        raise BadRequest(f"more than {MOST_HEADERS} header lines")
    found = []
    for line in lines:
        name, colon, value = line.partition(b":")
        value = value.strip(b" \t")
        if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise BadRequest("a header line is not of the form `name: value`")
        found.append((name, value))
    return found


def _tunnel(target: bytes) -> ProxyRequest:
    name, port = split_port(target.decode("ascii"))
    if not port:
        raise BadRequest("CONNECT needs host and port")
    return ProxyRequest(host_of(name), port_of(port), is_tunnel=True)


def _plain(method: bytes, target: bytes, version: bytes, headers: list[tuple[bytes, bytes]]) -> ProxyRequest:
    scheme, found, rest = target.decode("ascii").partition("://")
    if not found or scheme.lower() != "http":
        raise BadRequest("this is the network proxy of the session: ask for a whole address of http, or use CONNECT")
    at = next((index for index, sign in enumerate(rest) if sign in "/?"), len(rest))
    authority, path = rest[:at], rest[at:]
    if "@" in authority:
        raise BadRequest("an address with a user in it is not taken")
    name, port = split_port(authority)
    host, number = host_of(name), port_of(port) if port else _HTTP_PORT
    length, chunked = _body(headers, version)
    where = written(host) if number == _HTTP_PORT else f"{written(host)}:{number}"
    path = path if path.startswith("/") else f"/{path}"
    lines = [method + b" " + path.encode("ascii") + b" HTTP/1.1", b"Host: " + where.encode("ascii")]
    lines += [name + b": " + value for name, value in _end_to_end(headers)]
    if chunked:
        lines.append(b"Transfer-Encoding: chunked")
    elif any(name.lower() == b"content-length" for name, _value in headers):
        lines.append(b"Content-Length: %d" % length)
    lines += [b"Connection: close", b"", b""]
    return ProxyRequest(host, number, False, b"\r\n".join(lines), length, chunked)


def _body(headers: list[tuple[bytes, bytes]], version: bytes) -> tuple[int, bool]:
    values = {name: [value for other, value in headers if other.lower() == name] for name in _FRAMING}
    hosts, lengths, codings = (values[name] for name in _FRAMING)
    if max(len(hosts), len(lengths), len(codings)) > 1 or (lengths and codings):
        raise BadRequest("Host, Content-Length and Transfer-Encoding may be given once, and not both of the last two")
    if codings:
        if codings[0].lower() != b"chunked" or version == b"HTTP/1.0":
            raise BadRequest("the only Transfer-Encoding taken is `chunked`, in HTTP/1.1")
        return 0, True
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        raise BadRequest("Content-Length is not a number")
    return (int(lengths[0]) if lengths else 0), False


_FRAMING = (b"host", b"content-length", b"transfer-encoding")


def _end_to_end(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    listed = {
        word.strip(b" \t").lower()
        for name, value in headers
        if name.lower() == b"connection"
        for word in value.split(b",")
    }
    return [
        (name, value)
        for name, value in headers
        if name.lower() not in _HOP_BY_HOP | listed and not name.lower().startswith(b"proxy-")
    ]


def answer(code: int, meaning: str, text: str) -> bytes:
    """A whole answer of the proxy itself."""
    body = f"portway: {text}\n".encode()
    lines = (
        f"HTTP/1.1 {code} {meaning}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Proxy-Status: portway; error=http_request_denied" if code == 403 else "Proxy-Status: portway",
        "Connection: close",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
