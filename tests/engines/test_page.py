"""The web page in a real browser: order of tables, use by keyboard alone, contrast in light and dark, no requests to
other hosts.

With ESKER_SCREENSHOTS=DIRECTORY the tests make the screenshots of the docs.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pytest
from playwright.sync_api import Browser, Page
from stack.browser import running_chromium
from stack.esker import Server, running

pytestmark = [
    pytest.mark.slice,
    pytest.mark.engine("Chromium", versions=lambda: {"Playwright": version("playwright")}),
    pytest.mark.timeout(240),
]

#: A script that returns texts with less contrast than they need (WCAG 2.2, 1.4.3).
CONTRAST = """() => {
  const rgb = c => c.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const channel = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const luminance = c => { const [r, g, b] = rgb(c).map(channel); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$|transparent/.test(c)) return c; } return 'rgb(255, 255, 255)'; };
  const bad = [];
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    if (!e.getClientRects().length) continue;
    const [a, b] = [luminance(getComputedStyle(e).color), luminance(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) bad.push(`${e.tagName} ${e.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return bad;
}"""

NAMES = """() => [...document.querySelectorAll('a, button, input, summary')].filter(e => {
  const labels = e.labels && e.labels.length && e.labels[0].textContent;
  const label = e.getAttribute('aria-label') || labels || e.textContent;
  return !label.trim();
}).map(e => e.outerHTML)"""

FOCUSED = """() => {
  const e = document.activeElement;
  return [e.textContent.trim(), getComputedStyle(e).outlineStyle];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Starts a server with an unhealthy and a healthy table, ended jobs, quarantined files, and a branch."""
    settings = {"ESKER__AUTH__ANONYMOUS": "true", "ESKER__MAINTENANCE__RETRY_SECONDS": "3600"}
    with running(tmp_path_factory.mktemp("esker"), **settings) as server:
        catalog = server.catalog()
        catalog.create_namespace("shop")
        for name, files in (("customers", 1), ("orders", 40), ("returns", 12)):
            properties = {"esker.expire.min-age-ms": "0", "esker.payback": "2d"}
            table = catalog.create_table(f"shop.{name}", pa.schema([("id", pa.int64())]), properties=properties)
            for i in range(files):
                table.append(pa.table({"id": list(range(i, i + 20))}))
        table = catalog.load_table("shop.orders")
        table.manage_snapshots().create_branch(table.current_snapshot().snapshot_id, "audit").commit()
        server.maintain("shop.returns", "compact", {"courtesy-seconds": 0})
        server.maintain("shop.returns", "expire", {"older-than-ms": int(time.time() * 1000) + 60_000})
        server.sql("SELECT count(*) FROM shop.orders WHERE id > 3")
        yield server


@contextmanager
def opened(browser: Browser, server: Server, scheme: str = "light", width: int = 1280) -> Iterator[Page]:
    """Opens the page. Fails on requests to other hosts and on errors in the browser."""
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 900}, base_url=server.rest, java_script_enabled=True
    )
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: None if request.url.startswith(server.rest) else wrong.append(request.url))
    try:
        yield page
        # Browsers request an icon even if no page refers to one.
        assert [text for text in wrong if "favicon" not in text] == []
    finally:
        context.close()


def press_to(page: Page, text: str, most: int = 120) -> None:
    """Moves the focus from link to link by keyboard until it is on `text`, and checks that the focus is visible."""
    for _ in range(most):
        page.keyboard.press("Tab")
        at, outline = page.evaluate(FOCUSED)
        if at == text:
            assert outline != "none", f"{text}: where the keyboard is can't be seen"
            return
    raise AssertionError(f"{text} was not reached by keyboard")


def everywhere(server: Server) -> list[str]:
    job = server.api("GET", "/api/v1/jobs")[0]["id"]
    table = "/warehouses/default/namespaces/shop/tables/orders"
    return ["/", "/jobs", f"/jobs/{job}", "/quarantine", "/queries", table]


def test_the_worst_comes_first_and_a_table_is_reached_by_keyboard(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        page.goto("/")
        names = page.locator("tbody tr td:nth-child(2) a").all_text_contents()
        scores = [int(text) for text in page.locator("tbody .badge").all_text_contents()]
        assert names[0] == "shop.orders" and scores == sorted(scores), (names, scores)
        press_to(page, "shop.orders")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("/tables/orders$"))
        text = page.inner_text("main")
        for part in ("small-files", "audit", "payback", "table property", "40"):
            assert part in text, f"{part} is not on the page"
        assert page.locator("svg").count() > 0


def test_a_search_and_the_jobs_need_no_mouse(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        page.goto("/")
        page.keyboard.press("Tab")
        while page.evaluate("() => document.activeElement.id") != "q":
            page.keyboard.press("Tab")
        page.keyboard.type("returns")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("q=returns"))
        assert page.locator("tbody tr").count() == 1
        press_to(page, "Jobs")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("/jobs$"))
        assert "data files 12 → 1" in page.inner_text("main")


def test_what_was_expired_is_taken_back_from_the_quarantine(browser: Browser, server: Server) -> None:
    snapshots = 'SELECT count(*) FROM shop."returns$snapshots"'
    assert server.sql(snapshots) == [(1,)]
    with opened(browser, server) as page:
        page.goto("/quarantine")
        assert "shop.returns" in page.inner_text("main")
        press_to(page, "Undo")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("/undo$"))
        assert "12 snapshots are back" in page.inner_text("main")
    assert server.sql(snapshots) == [(13,)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_can_be_read(browser: Browser, server: Server, scheme: str) -> None:
    with opened(browser, server, scheme) as page:
        for path in everywhere(server):
            page.goto(path)
            assert page.locator("h1").count() == 1 and page.title().endswith("Esker"), path
            assert page.evaluate(CONTRAST) == [], f"{path}, {scheme}"
            assert page.evaluate(NAMES) == [], path
        page.goto("/")
        background = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        bright = sum(int(n) for n in re.findall(r"\d+", background)[:3]) / 3
        assert (bright > 200) if scheme == "light" else (bright < 60), background


def test_a_narrow_screen_does_not_scroll_sideways(browser: Browser, server: Server) -> None:
    with opened(browser, server, width=400) as page:
        for path in everywhere(server):
            page.goto(path)
            over = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert over <= 0, f"{path}: {over} px"


def test_pictures_for_the_docs(browser: Browser, server: Server) -> None:
    directory = os.environ.get("ESKER_SCREENSHOTS")
    if not directory:
        pytest.skip("ESKER_SCREENSHOTS is not set")
    table = "/warehouses/default/namespaces/shop/tables/orders"
    pictures = [("fleet", "/", "light"), ("table-dark", table, "dark"), ("jobs", "/jobs", "light")]
    for name, path, scheme in pictures:
        with opened(browser, server, scheme, width=1100) as page:
            page.goto(path)
            if name != "table-dark":
                height = page.evaluate("() => document.querySelector('main').getBoundingClientRect().bottom")
                page.set_viewport_size({"width": 1100, "height": int(height)})
            page.screenshot(path=str(Path(directory) / f"{name}.png"))
