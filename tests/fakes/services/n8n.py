"""A webhook of n8n: Chat Trigger with streaming, or a last node that answers in one piece."""

import base64
import hmac
import json
import time
from dataclasses import dataclass
from typing import Any

from tests.fakes.model_api import Answer
from tests.fakes.services.api import KEY, Asked, FakeService, Refused, document, pieces


@dataclass
class FakeN8n(FakeService):
    auth: str = "header"
    streaming: bool = True

    def is_message(self, asked: Asked) -> bool:
        return asked.path == "/webhook/chat"

    def answer(self, asked: Asked) -> Answer:
        if not self.is_message(asked):
            text = f'The requested webhook "POST {asked.path.rpartition("/")[2]}" is not registered.'
            told = {"code": 404, "message": text, "hint": "activate the workflow", "stacktrace": "ResponseError"}
            raise Refused(document(told, 404))
        if not self._allowed(asked.headers):
            raise Refused(
                Answer((b"Authorization data is wrong!",), 403, {"www-authenticate": 'Basic realm="Webhook"'})
            )
        body = asked.body
        self.need(isinstance(body.get("sessionId"), str) and body["sessionId"], "sessionId is required")
        self.need(isinstance(body.get("chatInput"), str), "chatInput is required")
        text = f"echo: {body['chatInput']}"
        return json_lines(text) if self.streaming else document([{"output": text}])

    def _allowed(self, headers: Any) -> bool:
        given = headers.get("authorization", "")
        match self.auth:
            case "header":
                return bool(headers.get("x-portway") == KEY)
            case "basic":
                return bool(given == f"Basic {base64.b64encode(f'someone:{KEY}'.encode()).decode()}")
            case "jwt":
                return _verified(given.removeprefix("Bearer "))
        return True


def json_lines(text: str, *, whole: bool = True) -> Answer:
    metadata = {"nodeId": "n1", "nodeName": "AI Agent", "itemIndex": 0, "runIndex": 0, "timestamp": 1}
    lines: list[Any] = [{"type": "begin", "metadata": metadata}]
    lines += [{"type": "item", "content": piece, "metadata": metadata} for piece in pieces(text)]
    lines += [{"type": "end", "metadata": metadata}] if whole else []
    raw = "".join(json.dumps(line) + "\n" for line in lines).encode()
    cut = tuple(raw[start : start + 41] for start in range(0, len(raw), 41))
    return Answer(cut, 200, {"content-type": "application/json; charset=utf-8"})


def _verified(token: str) -> bool:
    signed, _, signature = token.rpartition(".")
    digest = base64.urlsafe_b64encode(hmac.digest(KEY.encode(), signed.encode(), "sha256")).rstrip(b"=").decode()
    if digest != signature:
        return False
    claims = signed.split(".")[1]
    return bool(json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"] > time.time())
