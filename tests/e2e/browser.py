"""A real browser: Debian's Chromium without a window, driven by Playwright."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

import playwright
import pytest
from playwright.async_api import Browser, Page, async_playwright

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
PATIENCE_MS = 60_000
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def browser_program() -> str:
    """The browser of this machine; without one, or without what drives it, the test is skipped and says so."""
    if reason := _why_no_driver():
        pytest.skip(reason)
    for name in PROGRAMS:
        found = shutil.which(name)
        if found:
            return found
    pytest.skip("no Chromium on this machine: install the package chromium to run the tests in a browser")


@cache
def _why_no_driver() -> str:
    """Why Playwright cannot start here; empty where it can. What its wheel brings needs the system's libraries."""
    program = Path(playwright.__file__).parent / "driver" / "node"
    tried = subprocess.run([program, "--version"], capture_output=True, text=True)
    return "" if tried.returncode == 0 else f"Playwright's driver does not start: {tried.stderr.strip()}"


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """The browser of this machine; the test is skipped where it cannot be driven."""
    program = browser_program()
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=program, args=list(FLAGS))
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def browser_page(address: str, *, width: int = 1180, height: int = 820) -> AsyncIterator[Page]:
    """A page of a new browser with nothing stored, at an address."""
    async with running_browser() as browser:
        context = await browser.new_context(viewport={"width": width, "height": height}, locale="en-US")
        context.set_default_timeout(PATIENCE_MS)
        page = await context.new_page()
        try:
            await page.goto(address)
            yield page
        finally:
            await context.close()


class Chat:
    """The web chat in a page, by what a person does and sees."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def send(self, text: str) -> None:
        field = self.page.get_by_test_id("input")
        await field.fill(text)
        await field.press("Enter")

    async def is_answered(self, expected: str) -> None:
        """Wait until an answer or notice of the transcript holds the text."""
        answer = self.page.locator('[data-testid="message"]:not([data-role="user"])').filter(has_text=expected)
        await answer.first.wait_for()

    async def answers(self) -> list[str]:
        """What the agent or the host said, as the page shows it; text that is still being written does not count."""
        return await self.page.locator('[data-testid="message"]:not([data-role="user"])').all_inner_texts()

    async def live_text(self) -> None:
        """Wait until some of an answer is shown while it is written."""
        await self.page.locator('[data-testid="live"]').first.wait_for()
