"""Files up and down, streamed through, whole and in ranges."""

import hashlib
from collections.abc import AsyncIterator

import pytest

from portway.v1 import content_pb2
from tests.adapters.web_chat.web import CHAT, Web

MB = 1024 * 1024
LIMIT = 20 * MB


def put(web: Web, name: str, mime_type: str, content: bytes) -> str:
    ref = web.host.store.add_artifact(content_pb2.ArtifactRef(name=name, mime_type=mime_type), content)
    return str(ref.artifact_id)


async def test_a_file_of_the_whole_limit_arrives_as_it_was(web: Web) -> None:
    content = bytes(range(256)) * (LIMIT // 256)
    async with web.client() as page:
        answer = await page.post("/api/uploads?name=big.bin", content=content)
        made = answer.json()
        back = await page.get(f"/files/{made['id']}")
    assert answer.status_code == 201
    assert (made["name"], made["size"], made["kind"]) == ("big.bin", LIMIT, "file")
    assert hashlib.sha256(back.content).digest() == hashlib.sha256(content).digest()


@pytest.mark.parametrize("size", [LIMIT + 1, 21 * 1000 * 1000, 21 * MB, 50 * MB])
async def test_a_larger_file_is_refused_with_the_limit_and_nothing_is_kept(web: Web, size: int) -> None:
    async with web.client() as page:
        answer = await page.post("/api/uploads?name=big.bin", content=bytes(size))
    assert answer.status_code == 413
    assert answer.json()["code"] == "PAYLOAD_TOO_LARGE"
    assert "20 MB" in answer.json()["message"]
    assert web.host.store.artifacts == {}


async def test_a_file_that_does_not_say_its_size_is_cut_off_at_the_limit(web: Web) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(LIMIT // MB + 2):
            yield bytes(MB)

    async with web.client() as page:
        answer = await page.post("/api/uploads?name=big.bin", content=endless())
    assert answer.status_code == 413
    assert web.host.store.artifacts == {}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("C:\\Users\\me\\x.txt", "C:_Users_me_x.txt"),
        ("报告 2.pdf", "报告 2.pdf"),
        ("a\x00b\n.txt", "a_b_.txt"),
        ("", "file"),
    ],
)
async def test_a_name_is_never_a_path(web: Web, given: str, kept: str) -> None:
    async with web.client() as page:
        answer = await page.post("/api/uploads", params={"name": given}, content=b"x")
    assert answer.json()["name"] == kept


async def test_an_upload_while_the_host_is_away_says_so(web: Web) -> None:
    async with web.page() as page:
        await web.host.kill()
        await page.next("host", state="connecting")
    async with web.client() as page_http:
        answer = await page_http.post("/api/uploads?name=x", content=b"x")
    assert answer.status_code == 503
    assert answer.json()["retry"] is True
    await web.host.start()


@pytest.mark.parametrize(
    ("asked", "status", "content", "said"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=5-99", 206, b"56789", "bytes 5-9/10"),
        ("bytes=0-1,4-5", 200, b"0123456789", None),
        ("chapters=1-2", 200, b"0123456789", None),
    ],
)
async def test_a_range_is_read_as_asked(web: Web, asked: str, status: int, content: bytes, said: str | None) -> None:
    file = put(web, "ten.txt", "text/plain", b"0123456789")
    async with web.client() as page:
        answer = await page.get(f"/files/{file}", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (status, content)
    assert answer.headers.get("content-range") == said


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=20-30", "bytes=5-3"])
async def test_a_range_outside_the_file_is_an_error(web: Web, asked: str) -> None:
    file = put(web, "ten.txt", "text/plain", b"0123456789")
    async with web.client() as page:
        answer = await page.get(f"/files/{file}", headers={"Range": asked})
    assert answer.status_code == 416


async def test_a_file_that_was_read_before_is_not_sent_again(web: Web) -> None:
    file = put(web, "a.png", "image/png", b"png")
    async with web.client() as page:
        first = await page.get(f"/files/{file}")
        again = await page.get(f"/files/{file}", headers={"If-None-Match": first.headers["etag"]})
        head = await page.head(f"/files/{file}")
    assert (again.status_code, again.content) == (304, b"")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "3")


@pytest.mark.parametrize(
    ("mime_type", "served_as", "shown"),
    [
        ("image/png", "image/png", "inline"),
        ("image/svg+xml", "application/octet-stream", "attachment"),
        ("text/html", "application/octet-stream", "attachment"),
        ("application/javascript", "application/octet-stream", "attachment"),
        ("application/pdf", "application/octet-stream", "attachment"),
        ("text/plain", "text/plain; charset=utf-8", "inline"),
    ],
)
async def test_nothing_that_could_run_is_shown_as_a_page(web: Web, mime_type: str, served_as: str, shown: str) -> None:
    file = put(web, 'we"ird\r\nname.x', mime_type, b"<script>alert(1)</script>")
    async with web.client() as page:
        headers = (await page.get(f"/files/{file}")).headers
    assert headers["content-type"] == served_as
    assert headers["content-disposition"].startswith(shown)
    assert "sandbox" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


async def test_a_file_or_run_that_does_not_exist_is_not_found(web: Web) -> None:
    async with web.client() as page:
        assert (await page.get("/files/art_none")).status_code == 404
        assert (await page.get("/api/runs/run_none/steps")).status_code == 404


async def test_the_steps_of_an_earlier_answer_can_be_read(web: Web) -> None:
    async with web.page() as page:
        await page.open()
        ack = await page.say("run: echo hello", "key-00001")
        await page.next("gone", run=ack["run"])
    async with web.client() as browser:
        answer = await browser.get(f"/api/runs/{ack['run']}/steps")
    tools = [block for block in answer.json()["blocks"] if block["type"] == "tool"]
    assert [(tool["tool"], tool["output"], tool["running"]) for tool in tools] == [("exec", "hello", False)]
    assert answer.json()["ended"] is True
    assert web.host.store.final_messages(CHAT) != []


async def test_a_run_of_another_platform_is_not_shown(web: Web) -> None:
    async with web.page() as page:
        ack = await page.say("hello", "key-00001")
    web.host.store.runs[ack["run"]].run.conversation_id = "telegram-7"
    async with web.client() as browser:
        answer = await browser.get(f"/api/runs/{ack['run']}/steps")
    assert answer.status_code == 404
