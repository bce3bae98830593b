"""Markdown on the page: what people write is shown as they mean it, and nothing of it ever runs."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page

from tests.adapters.web_chat.web import Web
from tests.e2e.browser import running_browser

RENDER = """async text => {
    const { MarkdownView } = await import('/page/js/markdown/view.js');
    const view = new MarkdownView();
    view.update(text);
    for (const one of view.element.querySelectorAll('figcaption')) one.remove();
    return view.element.innerHTML;
}"""
STREAM = """async text => {
    const { MarkdownView } = await import('/page/js/markdown/view.js');
    const whole = new MarkdownView();
    whole.update(text);
    const grown = new MarkdownView();
    for (let end = 0; end <= text.length; end += 3) grown.update(text.slice(0, end));
    grown.update(text);
    return grown.element.innerHTML === whole.element.innerHTML;
}"""
SPEED = """async text => {
    const { MarkdownView } = await import('/page/js/markdown/view.js');
    new MarkdownView().update(text);
    return true;
}"""


@pytest.fixture
async def page(web: Web) -> AsyncIterator[Page]:
    async with running_browser() as running:
        opened = await running.new_page()
        await opened.goto(web.chat.address)
        yield opened


CASES = [
    ("one\ntwo\n\nthree", "<p>one<br>two</p><p>three</p>"),
    ("# A\n###### F ##", "<h3>A</h3><h6>F</h6>"),
    (
        "**b** *i* ***both*** ~~gone~~",
        "<p><strong>b</strong> <em>i</em> <strong><em>both</em></strong> <del>gone</del></p>",
    ),
    ("snake_case_name and __b__ and 2 * 3 * 4", "<p>snake_case_name and <strong>b</strong> and 2 * 3 * 4</p>"),
    ("**bold with *inner* part**", "<p><strong>bold with <em>inner</em> part</strong></p>"),
    ("`a*b*` and ``x`y`` and `open", "<p><code>a*b*</code> and <code>x`y</code> and `open</p>"),
    (r"\*not\* \`code\` C:\path", r"<p>*not* `code` C:\path</p>"),
    (
        "- a\n- b\n  - c",
        '<ul><li><span class="line">a</span></li><li><span class="line">b</span>'
        '<ul><li><span class="line">c</span></li></ul></li></ul>',
    ),
    ("3. a\n4. b", '<ol start="3"><li><span class="line">a</span></li><li><span class="line">b</span></li></ol>'),
    (
        "- [x] a\n- [ ] b",
        '<ul><li class="task"><input type="checkbox" disabled="" checked=""><span class="line">a</span></li>'
        '<li class="task"><input type="checkbox" disabled=""><span class="line">b</span></li></ul>',
    ),
    ("In 2024. it rained\n1984. was a book", "<p>In 2024. it rained<br>1984. was a book</p>"),
    ("> q\n> r\n\nafter", "<blockquote><p>q<br>r</p></blockquote><p>after</p>"),
    (
        "```py\nx < 1 && y\n```",
        '<figure class="code"><pre tabindex="0"><code>x &lt; 1 &amp;&amp; y</code></pre></figure>',
    ),
    ("```\nopen still", '<figure class="code bare"><pre tabindex="0"><code>open still</code></pre></figure>'),
    (
        "````\n```\ninner\n```\n````",
        '<figure class="code bare"><pre tabindex="0"><code>```\ninner\n```</code></pre></figure>',
    ),
    (
        "| a | b |\n|---|--:|\n| 1 | 2 \\| 3 |",
        '<div class="table" tabindex="0" role="region" aria-label="a, b"><table><thead><tr>'
        '<th class="to-left">a</th><th class="to-right">b</th></tr></thead><tbody><tr><td class="to-left">1</td>'
        '<td class="to-right">2 | 3</td></tr></tbody></table></div>',
    ),
    ("a | b\nno table", "<p>a | b<br>no table</p>"),
    ("---", "<hr>"),
]
LINK = '<a href="{0}" target="_blank" rel="noopener noreferrer nofollow">{1}</a>'
LINKS = [
    ("[t](https://a.example/x_(y))", LINK.format("https://a.example/x_(y)", "t")),
    ('[t](https://a.example "title")', LINK.format("https://a.example", "t")),
    ("<https://a.example>", LINK.format("https://a.example", "https://a.example")),
    ("see https://a.example/b. ok", "see " + LINK.format("https://a.example/b", "https://a.example/b") + ". ok"),
    ("(https://a.example)", "(" + LINK.format("https://a.example", "https://a.example") + ")"),
    ("[**b**](mailto:a@b.example)", LINK.format("mailto:a@b.example", "<strong>b</strong>")),
    ("![alt](https://a.example/p.png)", LINK.format("https://a.example/p.png", "alt")),
]
HARMFUL = [
    "<script>window.harmed = 1</script>",
    "<img src=x onerror='window.harmed=1'>",
    "[x](javascript:window.harmed=1)",
    "[x](JaVaScRiPt:window.harmed=1)",
    "[x](java\nscript:window.harmed=1)",
    "[x](data:text/html,<script>window.harmed=1</script>)",
    "[x](vbscript:x)",
    "<javascript:window.harmed=1>",
    "![x](javascript:window.harmed=1)",
    '[x](https://a.example"onmouseover="window.harmed=1)',
    "[x](/signout)",
    "[<img src=x onerror=window.harmed=1>](https://a.example)",
    "```<img src=x onerror=window.harmed=1>\nx\n```",
    "| <img src=x onerror=window.harmed=1> |\n|---|\n| <svg onload=window.harmed=1> |",
    "# <iframe src=javascript:window.harmed=1>",
    "&lt;script&gt;window.harmed=1&lt;/script&gt;",
]
LONG = [
    "*" * 50_000,
    "[" * 50_000,
    "[" * 20_000 + "]" * 20_000,
    "`" * 50_000,
    "> " * 20_000 + "x",
    "- " * 20_000 + "x",
    "**a " * 20_000,
    "_a" * 20_000,
    "|a" * 20_000 + "\n" + "|-" * 20_000,
    "http://" * 20_000,
    "\\" * 50_000,
    "![](" * 20_000,
]


async def test_the_common_subset_is_shown_as_it_is_meant(page: Page) -> None:
    for text, expected in CASES:
        assert await page.evaluate(RENDER, text) == expected, text
    for text, expected in LINKS:
        assert await page.evaluate(RENDER, text) == f"<p>{expected}</p>", text


async def test_nothing_that_somebody_writes_runs_or_becomes_markup(page: Page) -> None:
    for text in HARMFUL:
        shown = await page.evaluate(RENDER, text)
        for forbidden in ("<script", "<img", "<iframe", "<svg", 'href="javascript', 'href="data', 'href="/'):
            assert forbidden not in shown.lower(), (text, shown)
        assert " onerror=" not in shown.replace("&", "").lower() or "&lt;img" in shown, (text, shown)
    assert await page.evaluate("() => window.harmed") is None


async def test_text_that_grows_ends_up_as_the_whole_text_does(page: Page) -> None:
    for text in [text for text, _ in CASES] + ["\n\n".join(text for text, _ in CASES + LINKS)]:
        assert await page.evaluate(STREAM, text), text


async def test_no_text_makes_the_page_stand_still(page: Page) -> None:
    for text in LONG:
        assert await page.evaluate(SPEED, text)


def test_no_script_writes_markup() -> None:
    folder = Path(__file__).parents[3] / "adapters" / "web_chat" / "data"
    scripts = {path.name: path.read_text(encoding="utf-8") for path in folder.rglob("*.js")}
    assert len(scripts) > 10
    for name, text in scripts.items():
        for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert forbidden not in text, (name, forbidden)
