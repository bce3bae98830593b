"""What stands before every request: is the page opened under its own name, does the request come from the page itself,
and is somebody signed in."""

from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from portway.adapters.web_chat.keys import Session, WebKey
from portway.adapters.web_chat.settings import Places

SESSION = "portway.session"
_READING = ("GET", "HEAD")
_NOTHING = "default-src 'none'"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not `no-referrer`: with that, browsers hide the origin of a form even from its own site.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
}


def page_policy(host: str) -> str:
    """The content policy of the page: its own files, nothing else. Some browsers do not count a WebSocket as `self`."""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self'; "
        f"connect-src 'self' ws://{host} wss://{host}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


class Guard:
    """Middleware. `open_paths` need no session: what the sign-in itself needs, and nothing that says anything."""

    def __init__(self, app: ASGIApp, places: Places, key: WebKey, open_paths: Iterable[str]) -> None:
        self._app = app
        self._places = places
        self._key = key
        self._open_paths = tuple(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        session = self._key.session(HTTPConnection(scope).cookies.get(self._key.cookie))
        scope[SESSION] = session
        refusal = self._refusal(scope, headers, host, session)
        if refusal is None:
            await self._app(scope, receive, self._with_headers(send, page_policy(host)))
        elif scope["type"] == "websocket":
            # Before it is accepted, closing it answers 403.
            await send({"type": "websocket.close", "code": 1008})
        else:
            await refusal(scope, receive, self._with_headers(send, _NOTHING))

    def _refusal(self, scope: Scope, headers: Headers, host: str, session: Session | None) -> Response | None:
        if host not in self._places.hosts:
            known = ", ".join(sorted(self._places.origins))
            return _no(421, "WRONG_HOST", f"this page is not served as {host[:200]!r}; open {known}")
        changing = scope["type"] == "websocket" or scope["method"] not in _READING
        origin = headers.get("origin", "").lower()
        # A browser says where a request comes from; a program that says nothing is not the page.
        if (changing or origin) and origin not in self._places.origins:
            return _no(403, "WRONG_ORIGIN", "the request does not come from the page itself (header Origin)")
        path = scope["path"]
        if session is None and not path.startswith(self._open_paths) and path != "/":
            if scope["type"] == "http" and "text/html" in headers.get("accept", ""):
                return RedirectResponse("/", status_code=303)
            return _no(401, "NOT_SIGNED_IN", "sign in with the web key first: open the page's address again")
        return None

    @staticmethod
    def _with_headers(send: Send, policy: str) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Content-Security-Policy", policy)
            await send(message)

        return sending


def _no(status: int, code: str, message: str) -> Response:
    return JSONResponse({"code": code, "message": message}, status_code=status)
