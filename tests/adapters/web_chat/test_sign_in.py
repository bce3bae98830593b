"""Nobody without the key gets anywhere, and no other site gets anywhere through somebody who has it."""

import time
from pathlib import Path

import httpx
import pytest
import websockets

from portway.adapters.web_chat.keys import SESSION_SECONDS, WebKey, load_key
from portway.rpc.configuration import ConfigurationError
from tests.adapters.web_chat.web import Web

NEED_A_SESSION = [
    ("GET", "/api/session"),
    ("GET", "/page/js/main.js"),
    ("GET", "/files/art_1"),
    ("GET", "/api/runs/run_1/steps"),
    ("POST", "/api/uploads?name=x"),
    ("POST", "/signout"),
    ("GET", "/no/such/path"),
]


async def test_the_address_signs_in_and_the_key_does_not_stay_in_it(web: Web) -> None:
    async with httpx.AsyncClient() as browser:
        answer = await browser.get(web.chat.address)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/" in cookie
        assert web.chat.key.text not in cookie
        page = await browser.get(web.origin + "/")
        assert page.status_code == 200
        assert 'data-testid="input"' in page.text


async def test_the_form_signs_in_with_the_key_and_says_when_it_is_wrong(web: Web) -> None:
    async with web.client(signed_in=False) as browser:
        form = await browser.get("/")
        assert (form.status_code, 'name="key"' in form.text) == (401, True)
        wrong = await browser.post("/signin", data={"key": "not-the-key"})
        assert wrong.status_code == 401
        assert "not the key" in wrong.text
        assert "set-cookie" not in wrong.headers
        right = await browser.post("/signin", data={"key": web.chat.key.text})
        assert right.status_code == 303
        assert (await browser.get("/api/session")).status_code == 200
        assert (await browser.post("/signin", data={"key": "x" * 9000})).status_code == 413


@pytest.mark.parametrize(("method", "path"), NEED_A_SESSION)
async def test_without_a_session_there_is_nothing(web: Web, method: str, path: str) -> None:
    async with web.client(signed_in=False) as stranger:
        answer = await stranger.request(method, path)
    assert answer.status_code == 401
    assert answer.json()["code"] == "NOT_SIGNED_IN"


@pytest.mark.parametrize("cookie", ["", "1.abc", "1." + "0" * 24 + ".99999999999." + "0" * 64])
async def test_a_cookie_that_was_not_made_here_opens_nothing(web: Web, cookie: str) -> None:
    async with web.client(signed_in=False) as stranger:
        answer = await stranger.get("/api/session", headers={"Cookie": f"{web.chat.key.cookie}={cookie}"})
    assert answer.status_code == 401


async def test_signing_out_ends_the_session_of_the_browser(web: Web) -> None:
    async with web.client() as browser:
        answer = await browser.post("/signout")
    assert answer.status_code == 303
    assert "Max-Age=0" in answer.headers["set-cookie"]


@pytest.mark.parametrize("name", ["evil.example", "evil.example:80", "127.0.0.1.nip.io", ""])
async def test_a_page_under_another_name_that_points_here_gets_nothing(web: Web, name: str) -> None:
    async with web.client() as browser:
        answer = await browser.get("/", headers={"Host": name})
    assert answer.status_code == 421
    assert "127.0.0.1" in answer.json()["message"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", ""])
async def test_a_request_that_another_page_makes_changes_nothing(web: Web, origin: str) -> None:
    async with web.client(origin=False) as browser:
        answer = await browser.post("/api/uploads?name=x", content=b"x", headers={"Origin": origin})
        signed_out = await browser.post("/signout", headers={"Origin": origin})
    assert (answer.status_code, signed_out.status_code) == (403, 403)
    assert web.host.store.artifacts == {}


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": ""}, {"Cookie": ""}],
    ids=["another origin", "no origin", "no session"],
)
async def test_the_socket_is_refused_before_it_opens(web: Web, headers: dict[str, str]) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with web.page(**headers):
            pass
    assert refused.value.response.status_code == 403


async def test_the_socket_is_refused_under_another_name(web: Web) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    upgrade |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Host": "evil.example"}
    async with web.client() as browser:
        answer = await browser.get("/ws", headers=upgrade)
    assert answer.status_code == 403


async def test_answers_forbid_foreign_content_frames_and_guesses(web: Web) -> None:
    async with web.client() as browser:
        headers = (await browser.get("/")).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


async def test_a_link_from_another_site_leads_in_all_the_same(web: Web) -> None:
    async with web.client(signed_in=False, origin=False) as browser:
        answer = await browser.get("/", headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, answer.headers["refresh"]) == (200, "0; url=/")


def test_the_key_is_made_once_and_is_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "web-key"
    first = load_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_key(path).text == first.text
    assert len(first.text) >= 43
    assert first.text not in repr(first)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "web-key"
    load_key(path)
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        load_key(path)


def test_a_file_that_holds_no_key_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "web-key"
    path.write_text("short\n", encoding="ascii")
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="remove the file"):
        load_key(path)


def test_sessions_end_and_a_new_key_ends_them_all() -> None:
    key = WebKey("a" * 43)
    session = key.session(key.open())
    assert session is not None
    again = key.session(key.open(session))
    assert again is not None and again.user == session.user
    assert WebKey("b" * 43).session(key.open()) is None
    past = f"1.{session.user}.1.{key._seal(session.user, 1)}"
    assert key.session(past) is None
    assert key.earlier(past) is not None
    _, user, end, seal = key.open().split(".")
    later = int(end) + 1
    assert key.session(f"1.{user}.{later}.{seal}") is None
    assert 0 < int(end) - time.time() <= SESSION_SECONDS
