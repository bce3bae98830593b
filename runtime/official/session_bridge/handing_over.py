"""The runner's side of the queue beside a desktop session: who is there is asked first, what comes back is bounded."""

import asyncio
import hmac
import json
import secrets
from dataclasses import dataclass
from pathlib import Path

import httpx

from portway.runtime.harness.failures import LOST, PROGRAM_ERROR, TIMEOUT, excerpt
from portway.runtime.official.session_bridge.proof import proof_of
from portway.runtime.sdk import RunFailure

_HELLO_SECONDS = 10.0
_MARGIN_SECONDS = 5.0
_MAX_ANSWER = 1024 * 1024
_MAX_HELLO = 4096


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a bridge is: both are the operator's words."""

    port: int
    folder: Path

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"


async def handed_over(desk: Desk, message: object, seconds: float) -> str:
    """The answer. The connection is the message's life: when the run ends, the queue takes it back.

    Raises `RunFailure` (`harness.lost`, `harness.timeout`, `harness.program_error`).
    """
    try:
        token = (await asyncio.to_thread((desk.folder / "token").read_text, "ascii")).strip()
        async with httpx.AsyncClient(trust_env=False, timeout=None) as client:
            await _check_queue(client, desk, token)
            async with asyncio.timeout(seconds + _MARGIN_SECONDS):
                headers = {"authorization": f"Bearer {token}"}
                status, body = await _asked(client, desk.url("messages"), message, headers, _MAX_ANSWER)
    except TimeoutError as error:
        raise late(seconds) from error
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise RunFailure(
            LOST,
            f"the session bridge at port {desk.port} is not there, or went away ({excerpt(str(error))}); start it",
            retryable=True,
        ) from error
    if status == httpx.codes.GATEWAY_TIMEOUT:
        raise late(seconds)
    if status != httpx.codes.OK:
        said = excerpt(body.decode(errors="replace"))
        raise RunFailure(PROGRAM_ERROR, f"the session bridge at port {desk.port} refused: {status} {said}")
    return _text_of(body, desk)


def late(seconds: float) -> RunFailure:
    return RunFailure(TIMEOUT, f"nobody answered in the desktop session within {seconds:g} s", retryable=True)


async def _check_queue(client: httpx.AsyncClient, desk: Desk, token: str) -> None:
    """Whoever listens there must know the token, before anything is told."""
    nonce = secrets.token_hex(32)
    try:
        async with asyncio.timeout(_HELLO_SECONDS):
            status, body = await _asked(client, desk.url("hello"), {"nonce": nonce}, {}, _MAX_HELLO)
    except TimeoutError:
        raise _stranger(desk) from None
    try:
        proof = json.loads(body)["proof"] if status == httpx.codes.OK else None
    except (ValueError, KeyError, TypeError, RecursionError):
        proof = None
    if not isinstance(proof, str) or not hmac.compare_digest(proof.encode(), proof_of(token, nonce).encode()):
        raise _stranger(desk)


async def _asked(
    client: httpx.AsyncClient, url: str, message: object, headers: dict[str, str], most: int
) -> tuple[int, bytes]:
    """Status and body. Raises `RunFailure` for more than `most` bytes."""
    async with client.stream("POST", url, json=message, headers=headers) as answer:
        body = bytearray()
        async for piece in answer.aiter_bytes():
            body += piece
            if len(body) > most:
                raise RunFailure(PROGRAM_ERROR, f"{url} answered with more than {most >> 10} KiB, which is no answer")
        return answer.status_code, bytes(body)


def _text_of(body: bytes, desk: Desk) -> str:
    try:
        text = json.loads(body)["text"]
    except (ValueError, KeyError, TypeError, RecursionError):
        text = None
    if not isinstance(text, str):
        raise _stranger(desk)
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _stranger(desk: Desk) -> RunFailure:
    return RunFailure(
        PROGRAM_ERROR,
        f"port {desk.port} answers, and is not the session bridge of {desk.folder}: another program has the port, or "
        "the token there is another one. Nothing was told to it; give the bridge a port of its own",
    )
