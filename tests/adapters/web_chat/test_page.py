"""The page in a real browser, against the scripted host: what a person does, and what they see."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Locator, Page, expect

from portway.v1 import adapter_pb2, content_pb2
from tests.adapters.web_chat.web import Web
from tests.e2e.browser import running_browser
from tests.waiting import until

MB = 1024 * 1024


@pytest.fixture
async def browser() -> AsyncIterator[BrowserContext]:
    async with running_browser() as running:
        context = await running.new_context(locale="en-US", viewport={"width": 1180, "height": 780})
        context.set_default_timeout(20_000)
        try:
            yield context
        finally:
            await context.close()


class Screen:
    """One tab, by what a person sees. Errors of the page fail the test."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    @classmethod
    async def open(cls, browser: BrowserContext, address: str) -> "Screen":
        screen = cls(await browser.new_page())
        await screen.page.goto(address)
        await screen.connected()
        return screen

    async def connected(self) -> None:
        await expect(self.page.get_by_test_id("status")).to_have_text("Connected")

    async def say(self, text: str) -> None:
        field = self.page.get_by_test_id("input")
        await field.fill(text)
        await field.press("Enter")

    @property
    def messages(self) -> Locator:
        return self.page.get_by_test_id("message")

    @property
    def answers(self) -> Locator:
        return self.page.locator('[data-testid="message"][data-role="assistant"]')

    @property
    def texts(self) -> Locator:
        return self.messages.get_by_test_id("text")

    async def shows(self, *texts: str) -> None:
        """Exactly these messages, in this order, and nothing on its way."""
        await expect(self.texts).to_have_text(list(texts))
        await expect(self.page.get_by_test_id("pending")).to_have_count(0)
        await expect(self.page.get_by_test_id("live")).to_have_count(0)
        assert self.errors == []


@pytest.fixture
async def screen(browser: BrowserContext, web: Web) -> Screen:
    return await Screen.open(browser, web.chat.address)


async def test_an_answer_appears_while_it_is_written_and_stays(web: Web, screen: Screen) -> None:
    reached, go_on = web.host.script.hold("middle")
    await screen.say("one two three four five six")
    await reached.wait()
    live = screen.page.get_by_test_id("live")
    await expect(live).to_contain_text("You said: one")
    await expect(live).not_to_contain_text("six")
    await expect(screen.page.get_by_test_id("stop")).to_be_visible()
    go_on.set()
    await screen.shows("one two three four five six", "You said: one two three four five six")
    await expect(screen.page.get_by_test_id("stop")).to_be_hidden()
    assert "key=" not in screen.page.url
    await screen.page.reload()
    await screen.shows("one two three four five six", "You said: one two three four five six")


async def test_a_tool_call_is_shown_with_its_command_output_and_end(web: Web, screen: Screen) -> None:
    reached, go_on = web.host.script.hold("tool")
    await screen.say("run: echo hi in the sandbox")
    await reached.wait()
    tool = screen.page.get_by_test_id("tool")
    await expect(tool).to_have_attribute("data-state", "running")
    await expect(tool).to_contain_text("echo hi in the sandbox")
    go_on.set()
    await expect(tool).to_have_attribute("data-state", "done")
    await expect(tool.get_by_test_id("tool-output")).to_have_text("hi in the sandbox")
    await expect(screen.answers).to_have_count(1)
    # It stays above the answer that it led to, also for who comes later.
    await screen.page.reload()
    await expect(tool).to_have_attribute("data-state", "done")
    order = await screen.page.locator("#messages > li").evaluate_all("rows => rows.map(row => row.dataset.testid)")
    assert order == ["message", "tool", "message"]


async def test_stop_and_escape_end_an_answer_and_a_notice_says_so(web: Web, screen: Screen) -> None:
    for press in ("button", "key"):
        reached, _ = web.host.script.hold("middle")
        await screen.say(f"a story that is stopped by {press}")
        await reached.wait()
        await expect(screen.page.get_by_test_id("stop")).to_be_visible()
        if press == "button":
            await screen.page.get_by_test_id("stop").click()
        else:
            await screen.page.keyboard.press("Escape")
        await expect(screen.page.get_by_test_id("stop")).to_be_hidden()
    notices = screen.page.locator('[data-testid="message"][data-kind="notice"]')
    await expect(notices).to_have_count(2)
    await expect(notices.last).to_contain_text("Stopped.")


async def test_a_failed_run_leaves_a_notice_apart_from_the_answers(screen: Screen) -> None:
    await screen.say("fail please")
    notice = screen.page.locator('[data-testid="message"][data-kind="notice"]')
    await expect(notice).to_contain_text("Something went wrong")
    await expect(notice).to_have_class(re.compile("notice"))


async def test_shift_enter_is_a_new_line_and_what_is_typed_survives_a_reload(web: Web, screen: Screen) -> None:
    field = screen.page.get_by_test_id("input")
    await field.fill("first")
    await field.press("Shift+Enter")
    await field.press_sequentially("second")
    await screen.page.reload()
    await screen.connected()
    await expect(field).to_have_value("first\nsecond")
    await field.press("Enter")
    await expect(screen.answers.get_by_test_id("text")).to_have_text("You said: first\nsecond", use_inner_text=True)
    await expect(field).to_have_value("")


async def test_messages_written_while_nobody_is_there_arrive_once_and_in_order(web: Web, screen: Screen) -> None:
    await web.host.kill()
    await expect(screen.page.get_by_test_id("status")).to_have_attribute("data-state", "bad")
    for number in range(3):
        await screen.say(f"m{number}")
    await expect(screen.page.get_by_test_id("pending")).to_have_count(3)
    # Even a page that is closed meanwhile loses nothing.
    await screen.page.reload()
    await expect(screen.page.get_by_test_id("pending")).to_have_count(3)
    await web.host.start()
    await screen.connected()
    await expect(screen.answers).to_have_count(3)
    await expect(screen.page.get_by_test_id("pending")).to_have_count(0)
    said = (
        await screen.page.locator('[data-testid="message"][data-role="user"]').get_by_test_id("text").all_inner_texts()
    )
    assert said == ["m0", "m1", "m2"]
    assert len(web.host.store.events) == 3


@pytest.mark.parametrize("point", ["begin", "middle", "end", "deliver"])
async def test_a_host_that_is_killed_costs_the_person_nothing(web: Web, screen: Screen, point: str) -> None:
    reached, go_on = web.host.script.hold(point)
    await screen.say("one two three four five six")
    await reached.wait()
    await web.host.kill()
    await expect(screen.page.get_by_test_id("status")).to_have_attribute("data-state", "bad")
    go_on.set()
    web.host.script.gates.clear()
    await web.host.start()
    await screen.connected()
    await screen.shows("one two three four five six", "You said: one two three four five six")


async def test_an_answer_to_sending_that_is_lost_says_nothing_twice(web: Web, screen: Screen) -> None:
    web.host.faults.lose_acks = 1
    await screen.say("hello")
    await screen.shows("hello", "You said: hello")
    assert len(web.host.store.events) == 1


async def test_tabs_on_one_conversation_stay_in_step(web: Web, browser: BrowserContext, screen: Screen) -> None:
    other = await Screen.open(browser, screen.page.url)
    reached, go_on = web.host.script.hold("middle")
    await screen.say("one two three four")
    await reached.wait()
    for tab in (screen, other):
        await expect(tab.page.get_by_test_id("live")).to_contain_text("You said: one")
    go_on.set()
    await other.say("from the other tab")
    for tab in (screen, other):
        await expect(tab.answers).to_have_count(2)
        await expect(tab.page.get_by_test_id("pending")).to_have_count(0)
    assert await screen.texts.all_inner_texts() == await other.texts.all_inner_texts()


async def test_conversations_are_listed_and_can_be_gone_back_to(screen: Screen) -> None:
    await screen.say("about harbours")
    await screen.shows("about harbours", "You said: about harbours")
    await screen.page.get_by_test_id("new-chat").click()
    await expect(screen.messages).to_have_count(0)
    await screen.say("about ships")
    await screen.shows("about ships", "You said: about ships")
    talks = screen.page.get_by_test_id("conversation")
    await expect(talks).to_have_count(2)
    await talks.filter(has_text="about harbours").get_by_role("link").click()
    await screen.shows("about harbours", "You said: about harbours")
    await screen.page.go_back()
    await screen.shows("about ships", "You said: about ships")


async def test_older_messages_are_read_when_asked_for(web: Web, screen: Screen) -> None:
    conversation = screen.page.url.partition("#")[2]
    for number in range(70):
        part = content_pb2.ContentPart(text=content_pb2.TextPart(text=f"m{number}"))
        web.host.store.add_item(conversation, content_pb2.MESSAGE_ROLE_USER, [part])
    await screen.page.reload()
    await expect(screen.messages).to_have_count(50)
    await screen.page.get_by_role("button", name="Show older messages").click()
    await screen.shows(*(f"m{number}" for number in range(70)))


async def test_files_are_attached_shown_and_given_back(web: Web, screen: Screen, tmp_path: Path) -> None:
    picture, notes = tmp_path / "dot.png", tmp_path / "notes.txt"
    await screen.page.screenshot(path=picture)
    notes.write_text("some notes", encoding="utf-8")
    await screen.page.set_input_files('[data-testid="file-input"]', [picture, notes])
    await expect(screen.page.locator('[data-testid="chip"][data-done="true"]')).to_have_count(2)
    await screen.say("look at these")
    await expect(screen.answers).to_have_count(1)
    await screen.page.reload()
    image = screen.page.get_by_test_id("image")
    await expect(image).to_be_visible()
    assert await image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 1180
    async with screen.page.expect_download() as download:
        await screen.page.get_by_test_id("file").click()
    saved = await (await download.value).path()
    assert saved.read_text(encoding="utf-8") == "some notes"
    assert (await download.value).suggested_filename == "notes.txt"


async def test_a_file_beyond_the_limit_is_refused_with_the_limit_and_the_text_stays(
    web: Web, screen: Screen, tmp_path: Path
) -> None:
    big = tmp_path / "big.bin"
    big.write_bytes(bytes(21 * MB))
    field = screen.page.get_by_test_id("input")
    await field.fill("what I wrote")
    await screen.page.set_input_files('[data-testid="file-input"]', big)
    problem = screen.page.get_by_test_id("problem")
    await expect(problem).to_contain_text("big.bin")
    await expect(problem).to_contain_text("20 MB")
    await expect(field).to_have_value("what I wrote")
    await expect(screen.page.get_by_test_id("chip")).to_have_count(0)
    await field.press("Enter")
    await screen.shows("what I wrote", "You said: what I wrote")
    assert web.host.store.artifacts == {}


async def test_what_the_host_refuses_can_be_tried_again_or_taken_back(web: Web, screen: Screen) -> None:
    for _ in range(2):
        refusal = adapter_pb2.AdapterEventAck()
        refusal.error.code, refusal.error.message = "NO_BINDING", "no agent is bound here; make a binding"
        web.host.faults.refuse_events.append(refusal)
    await screen.say("hello")
    pending = screen.page.locator('[data-testid="pending"][data-state="failed"]')
    await expect(pending).to_contain_text("no agent is bound here")
    await pending.get_by_role("button", name="Edit").click()
    await expect(screen.page.get_by_test_id("input")).to_have_value("hello")
    await screen.page.get_by_test_id("input").press("Enter")
    await expect(pending).to_have_count(1)
    await pending.get_by_role("button", name="Try again").click()
    await screen.shows("hello", "You said: hello")


async def test_a_page_whose_session_is_over_shows_the_sign_in(
    web: Web, browser: BrowserContext, screen: Screen
) -> None:
    await browser.clear_cookies()
    await screen.page.reload()
    await screen.page.get_by_label("Web key").fill("wrong")
    await screen.page.get_by_role("button", name="Sign in").click()
    await expect(screen.page.get_by_role("alert")).to_contain_text("not the key")
    await screen.page.get_by_label("Web key").fill(web.chat.key.text)
    await screen.page.get_by_role("button", name="Sign in").click()
    await screen.connected()


async def test_the_page_speaks_chinese_to_a_chinese_browser(web: Web) -> None:
    async with running_browser() as running:
        page = await (await running.new_context(locale="zh-CN")).new_page()
        await page.goto(web.origin)
        await expect(page.get_by_role("button", name="登录")).to_be_visible()
        await page.goto(web.chat.address)
        await expect(page.get_by_test_id("status")).to_have_text("已连接")
        await expect(page.get_by_test_id("input")).to_have_attribute("placeholder", "输入消息…")
        assert await page.locator("html").get_attribute("lang") == "zh-CN"


async def test_a_screen_reader_hears_the_answer_once_it_is_whole(web: Web, screen: Screen) -> None:
    reached, go_on = web.host.script.hold("middle")
    await screen.say("one two three four")
    await reached.wait()
    spoken = screen.page.get_by_test_id("spoken")
    await expect(spoken).to_have_text("The agent is answering.")
    go_on.set()
    await expect(spoken).to_have_text("You said: one two three four")
    for role, name in [
        ("textbox", "Message"),
        ("button", "Send"),
        ("button", "Attach files"),
        ("navigation", "Conversations"),
    ]:
        await expect(screen.page.get_by_role(role, name=name)).to_be_visible()  # type: ignore[arg-type]
    unnamed = await screen.page.locator("button").evaluate_all(
        "all => all.filter(one => !one.hidden && !one.textContent.trim() && !one.getAttribute('aria-label')).length"
    )
    assert unnamed == 0


async def test_the_web_chat_itself_may_be_restarted(web: Web, screen: Screen) -> None:
    reached, go_on = web.host.script.hold("middle")
    await screen.say("one two three four")
    await reached.wait()
    await screen.page.context.set_offline(True)
    await screen.page.evaluate("() => window.dispatchEvent(new Event('offline'))")
    web.host.cut()
    await until(lambda: len(web.host.connections.all) == 2)
    await screen.page.context.set_offline(False)
    go_on.set()
    await screen.shows("one two three four", "You said: one two three four")
