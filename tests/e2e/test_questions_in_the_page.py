"""Questions and approvals in the page of the web chat, in a real browser, against a real host."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Page, expect

from portway.adapters.web_chat.app import Options, serving
from portway.adapters.web_chat.settings import WebSettings
from portway.server.agents.types import ApprovalPolicy, BoxPolicy, DeliveryPolicy
from portway.v1 import run_pull_pb2
from tests.asking_people import ASKING, a_form, ask, completes
from tests.deciding import approvals, done, execute
from tests.e2e.browser import Chat, browser_page
from tests.fakes.box_server import FakeBox, serve_fake_box
from tests.fakes.runtime_server import FakeRun, FakeRuntime, serve_fake_runtime
from tests.server.hosting import Hosted, hosted
from tests.waiting import until

FATAL = "rm -rf /srv/data"


@asynccontextmanager
async def a_page(folder: Path, runtime: FakeRuntime, box: FakeBox | None = None) -> AsyncIterator[tuple[Hosted, Page]]:
    token = folder / "adapter.token"
    async with hosted(folder, runtime, box=box, adapter_token_file=token) as host:
        await host.set_agent(
            delivery_policy=DeliveryPolicy(platform_actions=("message.edit",)),
            box_policy=BoxPolicy(tools=("*",) if box else (), approved_commands=("^rm ",)),
            approval_policy=ApprovalPolicy(sender=True),
        )
        if box is not None:
            await until(lambda: host.parts.box_link.availability().available)
        options = Options(host.address, token, folder / "web")
        async with (
            serving(WebSettings(listen="127.0.0.1:0"), options) as chat,
            browser_page(chat.address) as page,
        ):
            yield host, page


async def test_a_form_is_filled_in_by_keyboard_and_answered(tmp_path: Path) -> None:
    async def script(run: FakeRun) -> None:
        answer = run.context.input.interaction
        if answer.interaction_id:
            await run.answer(f"to {answer.values['city']}, {answer.values['class']}")
            return
        await ask(run, a_form())
        await run.send(completes(run))

    async with serve_fake_runtime(FakeRuntime(script, ASKING)) as runtime, a_page(tmp_path, runtime) as (_, page):
        chat = Chat(page)
        await chat.send("a trip")
        question = page.get_by_test_id("question")
        await expect(question).to_have_attribute("data-state", "open")
        await expect(page.get_by_role("group", name="Where to?")).to_be_visible()
        # What is required is asked for by the browser itself.
        await page.get_by_label("City *").focus()
        await page.keyboard.type("Rome")
        await page.get_by_label("Class").select_option("second")
        await page.get_by_role("button", name="Submit").focus()
        await page.keyboard.press("Enter")
        await chat.is_answered("to Rome, second")
        await expect(question).to_have_attribute("data-state", "answered")
        await page.reload()
        await expect(page.get_by_test_id("question-state")).to_contain_text("Answered: Submit")
        await expect(page.get_by_test_id("answer-submit")).to_be_disabled()


async def test_an_approval_is_a_pair_of_buttons(tmp_path: Path) -> None:
    async def script(run: FakeRun) -> None:
        answer = (await run.ask_all("call_tool", execute(FATAL, "c1")))[-1]
        await run.answer(answer.error.reason or answer.call_tool.result.text)

    box = FakeBox()
    box.will_run(FATAL, done("gone"))
    async with (
        serve_fake_box(box),
        serve_fake_runtime(FakeRuntime(script, ASKING)) as runtime,
        a_page(tmp_path, runtime, box) as (host, page),
    ):
        chat = Chat(page)
        await chat.send("remove it")
        question = page.get_by_test_id("question")
        await expect(question).to_contain_text(FATAL)
        await page.get_by_test_id("answer-approve").click()
        await chat.is_answered("gone")
        await expect(question).to_have_attribute("data-state", "answered")
        (decided,) = await approvals(host.runs)
        assert decided.decided_by.startswith("web:") and box.ran == [FATAL]


async def test_the_agent_edits_its_own_message(tmp_path: Path) -> None:
    async def script(run: FakeRun) -> None:
        await run.send(run.message("frist"))
        items = (await run.ask("page_history", run_pull_pb2.PageHistoryRequest(limit=9))).items
        request = run_pull_pb2.RequestActionRequest(request_id="r1")
        request.action.action, request.action.target = "message.edit", items[-1].item_id
        request.action.payload["text"] = "first"
        assert (await run.ask("request_action", request)).delivery_id
        await run.send(run.completed())

    manifest = type(ASKING)()
    manifest.CopyFrom(ASKING)
    manifest.permissions.platform_actions.append("message.edit")
    async with serve_fake_runtime(FakeRuntime(script, manifest)) as runtime, a_page(tmp_path, runtime) as (_, page):
        chat = Chat(page)
        await chat.send("hi")
        await chat.is_answered("first")
        assert await chat.answers() != ["frist"]
