"""The HTTP surface: which path is answered by what, and how an error looks to the page."""

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from portway.adapters.web_chat.files import Files
from portway.adapters.web_chat.frames import error_json
from portway.adapters.web_chat.guard import Guard
from portway.adapters.web_chat.keys import WebKey
from portway.adapters.web_chat.pages import DATA, Pages
from portway.adapters.web_chat.settings import Places
from portway.adapters.web_chat.socket import Sockets
from portway.adapters.web_chat.uploads import Uploads
from portway.rpc import errors

# Everything else needs a session.
_OPEN_PATHS = ("/signin",)

_STATUS: tuple[tuple[type[errors.PortwayError], int], ...] = (
    (errors.PayloadTooLarge, 413),
    (errors.LimitExceeded, 429),
    (errors.InvalidInput, 400),
    (errors.NotFound, 404),
    (errors.OutOfRange, 416),
    (errors.NotPermitted, 403),
    (errors.WrongState, 409),
    (errors.Unavailable, 503),
    (errors.DeadlineExceeded, 504),
)
_BAD_GATEWAY = 502


def make_application(
    pages: Pages, sockets: Sockets, uploads: Uploads, files: Files, places: Places, key: WebKey
) -> Starlette:
    return Starlette(
        routes=[
            Route("/", pages.index),
            Route("/signin", pages.sign_in, methods=["POST"]),
            Route("/signout", pages.sign_out, methods=["POST"]),
            Mount("/signin", StaticFiles(directory=DATA / "signin")),
            Mount("/page", StaticFiles(directory=DATA / "page")),
            Route("/api/session", pages.session),
            Route("/api/uploads", uploads.create, methods=["POST"]),
            Route("/api/runs/{run_id}/steps", files.steps),
            Route("/files/{artifact_id}", files.read),
            WebSocketRoute("/ws", sockets.serve),
        ],
        middleware=[Middleware(Guard, places=places, key=key, open_paths=_OPEN_PATHS)],
        exception_handlers={errors.PortwayError: _answer},
    )


async def _answer(_request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.PortwayError)
    status = next((status for meaning, status in _STATUS if isinstance(error, meaning)), _BAD_GATEWAY)
    return JSONResponse(error_json(error), status_code=status)
