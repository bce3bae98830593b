"""The page itself and the sign-in."""

import html
from pathlib import Path
from urllib.parse import parse_qs

import structlog
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response

from portway.adapters.web_chat.guard import SESSION
from portway.adapters.web_chat.keys import COOKIE_SECONDS, Session, WebKey
from portway.adapters.web_chat.settings import Places

DATA = Path(__file__).parent / "data"
_MAX_FORM = 4096

log = structlog.get_logger("portway.web_chat")


class Pages:
    """`/`, `/signin`, `/signout`, `/api/session`."""

    def __init__(self, key: WebKey, places: Places) -> None:
        self._key = key
        self._places = places

    async def index(self, request: Request) -> Response:
        given = request.query_params.get("key")
        session: Session | None = request.scope[SESSION]
        if given is not None:
            return self._sign_in(request, given)
        if session is not None:
            response: Response = FileResponse(DATA / "page" / "index.html")
            if session.stale:
                self._set_cookie(response, session)
            return response
        if request.headers.get("sec-fetch-site") == "cross-site":
            # A link in another page leads here: only a request of our own carries the cookie.
            return HTMLResponse("<!doctype html><title>Portway</title>", headers={"Refresh": "0; url=/"})
        return _form(401, wrong=False)

    async def sign_in(self, request: Request) -> Response:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > _MAX_FORM:
                return _form(413, wrong=True)
        given = parse_qs(body.decode("ascii", "replace")).get("key", [""])[0]
        return self._sign_in(request, given)

    async def sign_out(self, request: Request) -> Response:
        response = RedirectResponse("/", status_code=303)
        response.delete_cookie(self._key.cookie, path="/", httponly=True, samesite="strict", secure=self._places.secure)
        return response

    async def session(self, request: Request) -> Response:
        """For the page to learn why its connection was refused."""
        return JSONResponse({"user": request.scope[SESSION].user})

    def _sign_in(self, request: Request, given: str) -> Response:
        if not self._key.fits(given):
            log.warning(
                "a sign-in with a wrong web key was refused", peer=request.client.host if request.client else ""
            )
            return _form(401, wrong=True)
        response = RedirectResponse("/", status_code=303)
        self._set_cookie(response, self._key.earlier(request.cookies.get(self._key.cookie)))
        return response

    def _set_cookie(self, response: Response, earlier: Session | None) -> None:
        response.set_cookie(
            self._key.cookie,
            self._key.open(earlier),
            max_age=COOKIE_SECONDS,
            path="/",
            httponly=True,
            samesite="strict",
            secure=self._places.secure,
        )


def _form(status: int, *, wrong: bool) -> Response:
    text = (DATA / "signin" / "signin.html").read_text(encoding="utf-8")
    # The message is part of the page, so that it shows without scripts.
    return HTMLResponse(text.replace("<!-- state -->", _WRONG if wrong else ""), status_code=status)


_WRONG = f'<p class="wrong" role="alert" data-text="wrong_key">{html.escape("That is not the key of this page.")}</p>'
