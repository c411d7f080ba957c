"""The report in a real browser, opened from disk as a reader opens it."""

import contextlib
import io
import shutil

import pytest
from playwright.sync_api import expect, sync_playwright
from synthetic import VARIANTS, made_up_suite, write_results

from reporting import collate, page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]
SIX = {label: VARIANTS[label] for label in ("pgd-7", "pgd+mplus", "free-8", "free+mplus", "fast", "fast+mplus")}
RUN = "run-digits/pgd+mplus/seed1"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed; .ci/run installs it with apt"),
]


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where the report of a suite with plots lies."""
    suite = made_up_suite(SIX, seeds=(0, 1), epochs=12)
    folder = write_results(tmp_path_factory.mktemp("results"), suite, variants=SIX, collapsed={("fast", 1)})
    with contextlib.redirect_stdout(io.StringIO()):
        collate.report(suite, folder)
    return page.write(suite, folder).as_uri()


@pytest.fixture
def open_page(browser, address):
    """A function that opens the report; when the test ends, nothing may have gone wrong or been fetched."""
    contexts, complaints, requests = [], [], []

    def opened(fragment="", javascript=True, **options):
        contexts.append(browser.new_context(java_script_enabled=javascript, offline=True, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address + fragment)
        if javascript:
            page.wait_for_selector("html[data-tables=ready]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
    assert requests
    assert {url for url in requests if url.partition("#")[0] != address and not url.startswith("data:")} == set()


def column(page, table, title):
    """The cells of a column from top to bottom."""
    titles = [text.strip() for text in page.locator(f"#{table} thead th").all_inner_texts()]
    return page.locator(f"#{table} tbody td:nth-child({titles.index(title) + 1})")


@pytest.mark.parametrize(("table", "title"), [("cost", "seconds"), ("effect", "autoattack")])
def test_a_click_on_a_head_sorts_by_value_and_another_turns_the_order_round(open_page, table, title):
    page = open_page()
    cells = column(page, f"table-{table}", title)
    in_the_suites_order = cells.all_inner_texts()
    by_value = sorted(in_the_suites_order, key=lambda text: float(text.split()[0].replace("−", "-")))
    assert by_value not in (in_the_suites_order, sorted(in_the_suites_order))  # no accident, and not as words
    head = page.locator(f"#table-{table} thead th", has_text=title).first
    head.click()
    expect(cells).to_have_text(by_value)
    head.click()
    expect(cells).to_have_text(by_value[::-1])


def test_what_is_typed_into_a_filter_leaves_the_lines_that_have_it(open_page):
    page = open_page()
    cells = column(page, "table-runs", "variant")
    expect(cells).to_have_count(12)
    search = page.locator("#runs .dt-search input")
    search.fill("free+mplus")
    expect(cells).to_have_text(["free+mplus"] * 2)
    expect(page.locator("#runs .dt-info")).to_contain_text("2 lines")
    search.fill("no such run")
    expect(page.locator("#runs .dt-empty")).to_be_visible()
    search.fill("")
    expect(cells).to_have_count(12)


def test_links_lead_from_a_table_to_a_variants_runs_and_from_there_to_a_run(open_page):
    page = open_page()
    page.locator("#runs .dt-search input").fill("free")  # which hides where the next link leads
    page.locator("#table-robustness a", has_text="pgd+mplus").click()
    expect(page.locator("[id='runs-of-digits/pgd+mplus']")).to_be_in_viewport()
    run = page.locator(f"[id='{RUN}']")
    expect(run).to_be_hidden()
    page.locator(f"#table-runs a[href='#{RUN}']").click()
    for said in ("steps.gamma", "weights_sha256", "validation pgd accuracy"):
        expect(run.get_by_text(said, exact=True)).to_be_visible()
    expect(run).to_be_in_viewport()
    expect(run.locator(".epochs tbody tr")).to_have_count(12)
    run.locator("summary").click()
    expect(run).to_be_hidden()
    page.locator(f"#table-runs a[href='#{RUN}']").click()
    expect(run).to_be_visible()


def test_an_address_with_a_runs_name_opens_at_that_run(open_page):
    run = open_page(f"#{RUN}").locator(f"[id='{RUN}']")
    expect(run.get_by_text("weights_sha256")).to_be_visible()
    expect(run.locator("summary")).to_be_in_viewport()


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_the_page_follows_the_readers_colour_scheme(open_page, scheme, is_dark):
    page = open_page(color_scheme=scheme)
    paper, ink = (brightness(page, f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
    assert (paper < 60, ink > 180) == (is_dark, is_dark)
    card = brightness(page, "getComputedStyle(document.querySelector('.card')).backgroundColor")
    assert card == 255  # plots are drawn for white


def brightness(page, expression):
    """Of a colour such as rgb(20, 24, 27), from 0 to 255."""
    channels = page.evaluate(expression).partition("(")[2].rstrip(")").split(",")
    return sum(map(float, channels[:3])) / 3


@pytest.mark.parametrize("fragment", ["", f"#{RUN}"])
def test_on_a_phone_only_tables_scroll_sideways(open_page, fragment):
    page = open_page(fragment, viewport={"width": 375, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    assert page.evaluate("[...document.querySelectorAll('.scroll')].some((box) => box.scrollWidth > box.clientWidth)")


def test_every_image_is_drawn_and_has_a_text_in_its_place(open_page):
    page = open_page()
    page.evaluate("Promise.all([...document.images].map((image) => image.decode()))")
    images = page.evaluate("[...document.querySelectorAll('img, svg')].map((image) => [image.naturalWidth, image.alt])")
    assert len(images) >= 3
    assert all(width > 100 and len(text) > 20 for width, text in images)


def test_it_prints_without_what_only_a_screen_needs(open_page):
    page = open_page()
    assert page.pdf().startswith(b"%PDF-")
    page.emulate_media(media="print", color_scheme="dark")
    for name in ("nav", "#runs .dt-search"):
        expect(page.locator(name)).to_be_hidden()
    expect(page.locator("#table-robustness")).to_be_visible()
    assert brightness(page, "getComputedStyle(document.body).backgroundColor") == 255


def test_without_scripts_tables_and_plots_are_there_to_read(open_page):
    page = open_page(javascript=False)
    for table in ("robustness", "cost", "effect", "runs"):
        assert page.locator(f"#table-{table} tbody tr").first.is_visible()
    assert page.locator("figure img").first.is_visible()
    assert page.locator(f"[id='{RUN}']").is_visible()  # DevTools' switch leaves noscript unread
