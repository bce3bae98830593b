"""Joins an MCP client that speaks over standard streams to the run's bridge, which is served over HTTP.

A program of its own, for any Python from 3.7 on and nothing else: it runs where the client does. Its one argument is a
file that only its user can read: {"path": socket} or {"url": address}, and {"token": the run's bridge token}.
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import sys
import threading
from typing import BinaryIO
from urllib.parse import urlsplit

MAX_LINE = 1024 * 1024
AT_ONCE = 16


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


class Bridge:
    """`place` is what the file says."""

    def __init__(self, place: dict[str, str]) -> None:
        self._place = place
        self._session = ""
        self._writing = threading.Lock()
        self._room = threading.Semaphore(AT_ONCE)
        self._busy: list[threading.Thread] = []

    def serve(self, lines: BinaryIO) -> None:
        """Until the client says no more, and everything is answered."""
        while True:
            line = lines.readline(MAX_LINE + 1)
            if not line:
                break
            if len(line) > MAX_LINE:
                self._refuse(None, f"a message has at most {MAX_LINE} bytes")
                while line and not line.endswith(b"\n"):
                    line = lines.readline(MAX_LINE)
            elif line.strip():
                self._take(line.strip())
        for thread in self._busy:
            thread.join()
        if self._session:
            self._ask("DELETE", None, None)

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line.decode())
        except (ValueError, RecursionError):
            message = None
        asks = isinstance(message, dict) and "id" in message and "method" in message
        request_id = message["id"] if asks else None
        # What comes after `initialize` needs its session; notifications are brief, and their order counts.
        if not asks or message["method"] == "initialize":
            self._ask("POST", line, request_id)
            return
        self._room.acquire()
        thread = threading.Thread(target=self._answer, args=(line, request_id), daemon=True)
        self._busy = [one for one in self._busy if one.is_alive()] + [thread]
        thread.start()

    def _answer(self, line: bytes, request_id: object) -> None:
        try:
            self._ask("POST", line, request_id)
        finally:
            self._room.release()

    def _ask(self, method: str, body: bytes | None, request_id: object) -> None:
        headers = {
            "authorization": "Bearer " + self._place["token"],
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
        }
        if self._session:
            headers["mcp-session-id"] = self._session
        connection, path = self._connection()
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            self._session = answer.getheader("mcp-session-id") or self._session
            if method == "POST":
                self._pass_on(answer, request_id)
        except (OSError, http.client.HTTPException) as error:
            if request_id is not None:
                self._refuse(request_id, f"the bridge cannot be reached ({error}): the run may have ended")
        finally:
            connection.close()

    def _connection(self) -> tuple[http.client.HTTPConnection, str]:
        if self._place.get("path"):
            return UnixConnection(self._place["path"]), "/mcp"
        url = urlsplit(self._place["url"])
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        return kind(url.hostname or "", url.port), url.path

    def _pass_on(self, answer: http.client.HTTPResponse, request_id: object) -> None:
        if answer.getheader("content-type", "").startswith("text/event-stream"):
            for line in answer:
                if line.startswith(b"data: "):
                    self._write(line[len(b"data: ") :].strip())
            return
        body = answer.read()
        if answer.status >= 400 and request_id is not None:
            self._refuse(request_id, _reason(body) or f"the bridge answered with status {answer.status}")
        elif answer.status < 400 and body:
            self._write(body)

    def _refuse(self, request_id: object, message: str) -> None:
        error = {"code": -32000, "message": message}
        self._write(json.dumps({"jsonrpc": "2.0", "id": request_id, "error": error}).encode())

    def _write(self, message: bytes) -> None:
        with self._writing:
            sys.stdout.buffer.write(message + b"\n")
            sys.stdout.buffer.flush()


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body.decode())["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ""


def main() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    with open(sys.argv[1], encoding="utf-8") as file:
        place = json.load(file)
    Bridge(place).serve(sys.stdin.buffer)


if __name__ == "__main__":
    main()
