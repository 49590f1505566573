"""The report in a real browser: nothing to load, nothing cut off, and no accessibility fault axe can find."""

import shutil
from collections.abc import Iterator

import pytest

from fedloom.hub.report.report import render
from tests.hub.sample_reports import NUMBERS, crowd, sample, with_baselines

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[e2e]'")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed: pip install '.[e2e]'")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
REPORTS = {
    "complete": with_baselines(sample(4, 30), ("site-02",)),
    "partial": with_baselines(sample(4, 30, missing={(3, "site-04"): "failed", (9, "site-02"): "late"})),
    "regression": sample(3, 1, figures=NUMBERS),
    "crowd": crowd(),
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, tmp_path) -> Iterator[object]:
    """Open a report at a width and in a colour scheme; the page keeps its requests and console messages."""
    contexts = []

    def open_(name: str, width: int, scheme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        shown = context.new_page()
        shown.requests, shown.messages = [], []
        shown.on("request", lambda request: shown.requests.append(request.url))
        shown.on("console", lambda message: shown.messages.append(message.text))
        (tmp_path / "report.html").write_text(render(REPORTS[name]), encoding="utf-8")
        shown.goto((tmp_path / "report.html").as_uri())
        return shown

    yield open_
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_axe_finds_nothing(visit, name, width, scheme):
    """Landmarks, headings, tables, contrast: no violation, with every fold of the page open."""
    shown = visit(name, width, scheme)
    shown.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true })")
    found = axe.Axe().run(shown)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("name", REPORTS)
def test_nothing_is_loaded_and_the_policy_lets_its_own_style_pass(visit, name):
    """The file itself is the only request; the console is silent; the style sheet's hash is right."""
    shown = visit(name, 1280)
    assert len(shown.requests) == 1
    assert shown.messages == []
    assert shown.evaluate("getComputedStyle(document.querySelector('.verdict')).display") == "grid"


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_never_scrolls_sideways(visit, name, width):
    """Wide tables and grids scroll in their own box."""
    assert visit(name, width).evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", REPORTS)
def test_no_text_of_a_picture_is_cut_off(visit, name):
    """Every name and number lies inside its picture."""
    shown = visit(name, 1280)
    outside = shown.evaluate(
        """() => [...document.querySelectorAll('svg[role=img]')].flatMap(svg => {
            const frame = svg.getBoundingClientRect();
            return [...svg.querySelectorAll('text')].filter(text => {
                const box = text.getBoundingClientRect();
                return box.left < frame.left - 1 || box.right > frame.right + 1
                    || box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
            }).map(text => text.textContent);
        })"""
    )
    assert outside == []


def test_dark_and_light_differ_and_print_is_light(visit):
    """The page follows the screen's scheme, but paper is white."""
    background = "getComputedStyle(document.body).backgroundColor"
    shown = visit("partial", 1280, "dark")
    assert shown.evaluate(background) != "rgb(255, 255, 255)"
    shown.emulate_media(media="print", color_scheme="dark")
    assert shown.evaluate(background) == "rgb(255, 255, 255)"


@pytest.mark.parametrize("name", ["complete", "crowd"])
def test_a_printed_page_holds_every_column(visit, name):
    """At the width of A4 paper nothing is wider than the page."""
    shown = visit(name, 688)
    shown.emulate_media(media="print")
    assert shown.evaluate("document.documentElement.scrollWidth") <= 688
