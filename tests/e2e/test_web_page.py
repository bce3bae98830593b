"""The web chat of a whole installation in a real browser: a command in the sandbox, files, stopping, its own death."""

import asyncio
import hashlib
from pathlib import Path

from playwright.async_api import expect

from tests.e2e.browser import Chat, browser_page
from tests.e2e.stack import started
from tests.sandbox import needs_sandbox

MB = 1024 * 1024
SLOW = {"MODELS__DEFAULT": "demo-slow", "MODELS__DEMO__SLOW_CHUNK_SECONDS": "0.1"}


@needs_sandbox
async def test_a_command_runs_in_the_sandbox_and_its_output_is_there_after_a_reload(tmp_path: Path) -> None:
    async with started(tmp_path) as stack, browser_page(stack.web_address) as page:
        chat = Chat(page)
        await chat.send("run: echo hi in the sandbox")
        await chat.is_answered("hi in the sandbox")
        tool = page.get_by_test_id("tool")
        await expect(tool).to_have_attribute("data-state", "done")
        await page.reload()
        await expect(tool.get_by_test_id("tool-output")).to_contain_text("hi in the sandbox")
        assert len(await chat.answers()) == 1
        # The person's name in the history is the browser's, which the page itself signed.
        conversation = page.url.partition("#")[2]
        async with stack.client() as host:
            items = (await host.history(conversation)).items
        assert items[0].actor_id.startswith("web:")


async def test_files_go_up_whole_and_too_large_ones_cost_nothing_else(tmp_path: Path) -> None:
    whole, large = tmp_path / "whole.bin", tmp_path / "large.bin"
    content = hashlib.shake_256(b"twenty megabytes").digest(20 * MB)
    whole.write_bytes(content)
    large.write_bytes(bytes(21 * MB))
    async with started(tmp_path) as stack, browser_page(stack.web_address) as page:
        chat = Chat(page)
        field = page.get_by_test_id("input")
        await field.fill("see the file")
        await page.set_input_files('[data-testid="file-input"]', large)
        await expect(page.get_by_test_id("problem")).to_contain_text("20 MB")
        await expect(field).to_have_value("see the file")
        await page.set_input_files('[data-testid="file-input"]', whole)
        await page.locator('[data-testid="chip"][data-done="true"]').wait_for()
        await field.press("Enter")
        await chat.is_answered("see the file")
        async with page.expect_download() as download:
            await page.get_by_test_id("file").click()
        assert await _digest(await (await download.value).path()) == hashlib.sha256(content).hexdigest()
        conversation = page.url.partition("#")[2]
        async with stack.client() as host:
            (file,) = (await host.history(conversation)).items[0].artifacts
        assert (file.size, file.sha256) == (20 * MB, hashlib.sha256(content).hexdigest())


async def test_an_answer_is_stopped_from_the_page(tmp_path: Path) -> None:
    async with started(tmp_path, **SLOW) as stack, browser_page(stack.web_address) as page:
        chat = Chat(page)
        await chat.send("tell me a long story " * 30)
        await chat.live_text()
        await page.keyboard.press("Escape")
        notice = page.locator('[data-testid="message"][data-kind="notice"]')
        await notice.wait_for()
        await expect(page.get_by_test_id("stop")).to_be_hidden()
        assert len(await chat.answers()) == 1


async def test_the_page_shows_that_somebody_types_and_forgets_it_when_the_host_dies(tmp_path: Path) -> None:
    async with started(tmp_path, **SLOW) as stack, browser_page(stack.web_address) as page:
        chat = Chat(page)
        typing = page.get_by_test_id("typing")
        await expect(typing).to_be_hidden()
        await chat.send("tell me a story " * 10)
        await expect(typing).to_be_visible()
        old = await stack.kill("host")
        await expect(typing).to_be_hidden()
        await stack.restarted("host", old)
        await expect(typing).to_be_visible(timeout=30_000)
        await page.keyboard.press("Escape")
        await expect(typing).to_be_hidden()


async def test_the_process_of_the_page_is_killed_and_the_page_goes_on_by_itself(tmp_path: Path) -> None:
    async with started(tmp_path, **SLOW) as stack, browser_page(stack.web_address) as page:
        chat = Chat(page)
        await chat.send("tell me a story " * 10)
        await chat.live_text()
        old = await stack.kill("web")
        await expect(page.get_by_test_id("status")).to_have_text("Reconnecting…")
        await chat.send("are you back?")
        await stack.restarted("web", old)
        await expect(page.get_by_test_id("status")).to_have_text("Connected", timeout=30_000)
        await chat.is_answered("are you back?")
        await expect(page.get_by_test_id("pending")).to_have_count(0)
        assert len(await chat.answers()) == 2


async def _digest(path: Path) -> str:
    return await asyncio.to_thread(lambda: hashlib.sha256(path.read_bytes()).hexdigest())
