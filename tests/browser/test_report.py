import json
from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from data.runtime.html.plots import CELL
from ensemble.report.analysis.errors import sample_predictions
from tests.browser.conftest import Page

PHONE, DESKTOP = (390, 844), (1280, 900)
# Computed colours of every element with text of its own.
COLOURS = """
const found = [];
const ground = (element) => getComputedStyle(element).backgroundColor;
for (const element of document.body.querySelectorAll("*")) {
  const own = Array.from(element.childNodes).some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!own || ["SCRIPT", "style", "OPTION"].includes(element.tagName)) continue;
  const style = getComputedStyle(element);
  let behind = element;
  while (behind !== document.body && ground(behind) === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
  const ink = element instanceof SVGElement ? style.fill : style.color;
  found.push([element.tagName, ink, ground(behind)]);
}
return found;
"""
OVERFLOWING = """
return Array.from(document.body.querySelectorAll("*"))
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, pre"))
  .map((e) => e.outerHTML.slice(0, 80));
"""


def open_page(browser: Chrome, page: Page, size: tuple[int, int] = DESKTOP, scheme: str = "light") -> None:
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(page.path.as_uri())
    # On a busy machine the page may be half read when get returns.
    WebDriverWait(browser, 60).until(lambda driver: driver.execute_script("return document.readyState") == "complete")


@pytest.fixture
def opened(browser: Chrome, page: Page) -> Iterator[Chrome]:
    """The report on a desktop; the console must be without errors when the test is over."""
    browser.get_log("browser")
    open_page(browser, page)
    yield browser
    assert browser.get_log("browser") == []


def column(table: WebElement, place: int) -> list[str]:
    rows = table.find_elements(By.CSS_SELECTOR, "tbody tr")
    return [row.find_elements(By.XPATH, "./*")[place].text for row in rows]


def visible(browser: Chrome) -> list[str]:
    """Names of the images that the filters leave."""
    items = browser.find_elements(By.CSS_SELECTOR, "#wrong-answers .item")
    return [item.find_element(By.TAG_NAME, "strong").text for item in items if item.is_displayed()]


def test_it_opens_from_disk_without_a_network_and_asks_for_nothing(opened: Chrome, page: Page) -> None:
    opened.get_log("performance")
    open_page(opened, page)
    messages = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [page.path.as_uri()]
    assert opened.title == "Evaluation"
    joint = page.report.scores["joint"]
    assert opened.find_element(By.CSS_SELECTOR, ".tiles strong").text == f"{joint['macro_f1']:.3f}"


def test_tables_sort_by_any_column_both_ways(opened: Chrome, page: Page) -> None:
    table = opened.find_element(By.ID, "classes-joint")
    headings = table.find_elements(By.CSS_SELECTOR, "thead th")
    place = [heading.text for heading in headings].index("recall")
    recalls = [f"{each['recall']:.3f}" for each in page.report.scores["joint"]["classes"]]
    button = headings[place].find_element(By.TAG_NAME, "button")
    button.click()
    # Ten rows until the rest is opened.
    assert column(table, place) == sorted(recalls, reverse=True)[:10] + [""] * 8
    table.find_element(By.XPATH, "../following-sibling::details/summary").send_keys(Keys.ENTER)
    assert column(table, place) == sorted(recalls, reverse=True)
    assert headings[place].get_attribute("aria-sort") == "descending"
    button.send_keys(Keys.ENTER)
    assert column(table, place) == sorted(recalls)
    assert headings[place].get_attribute("aria-sort") == "ascending"
    headings[0].find_element(By.TAG_NAME, "button").click()
    assert column(table, 0)[0].startswith("incorrect / female")
    table = opened.find_element(By.ID, "scores")
    button = table.find_elements(By.CSS_SELECTOR, "thead button")[-1]
    for _ in range(2):
        button.click()
        assert column(table, 0)[-1] == "joint"  # a cell without a number stays last


def test_wrong_predictions_are_filtered_by_head_and_by_truth(opened: Chrome, page: Page) -> None:
    wrong = page.report.wrong
    assert len(visible(opened)) == len(wrong)
    head, truth = (Select(opened.find_element(By.CSS_SELECTOR, f"select[data-key={key}]")) for key in ("head", "truth"))
    for place, task in enumerate(("mask", "gender", "age")):
        head.select_by_visible_text(task)
        wanted = [each.image for each in wrong if each.tasks[place].wrong]
        assert visible(opened) == wanted
        assert opened.find_element(By.CSS_SELECTOR, "[data-counts=wrong-answers]").text == f"{len(wanted)} shown"
    truth.select_by_visible_text("gender: female")
    both = [each for each in wrong if each.tasks[2].wrong and each.tasks[1].truth == "female"]
    assert 0 < len(visible(opened)) == len(both)
    head.select_by_visible_text("all")
    truth.select_by_visible_text("all")
    assert len(visible(opened)) == len(wrong)


@pytest.mark.parametrize("size", [PHONE, (820, 1180), DESKTOP, (1920, 1080)])
def test_no_width_scrolls_the_page_sideways(browser: Chrome, page: Page, size: tuple[int, int]) -> None:
    open_page(browser, page, size)
    for details in browser.find_elements(By.TAG_NAME, "summary"):
        details.click()
    assert browser.execute_script("return innerWidth") == size[0]
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
    assert browser.execute_script(OVERFLOWING) == []


def test_on_paper_nothing_is_cut_off_and_plots_fill_the_page(browser: Chrome, page: Page) -> None:
    width = 717  # A4 within Chrome's margins
    try:
        open_page(browser, page, (width, 1000), "dark")
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert browser.execute_script(OVERFLOWING.replace('.closest(".scroll, pre")', '.closest("pre")')) == []
        [joint, *_] = browser.find_elements(By.TAG_NAME, "svg")
        assert joint.size["width"] > 0.9 * width
        assert not browser.find_element(By.CLASS_NAME, "filters").is_displayed()
        assert all(row.is_displayed() for row in browser.find_elements(By.CSS_SELECTOR, "#classes-joint tr"))
        assert browser.execute_script("return getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP])
def test_every_text_has_enough_contrast(browser: Chrome, page: Page, scheme: str, size: tuple[int, int]) -> None:
    open_page(browser, page, size, scheme)
    found = browser.execute_script(COLOURS)
    assert {"H1", "TD", "text", "BUTTON", "FIGCAPTION"} <= {tag for tag, _, _ in found}
    ground = rgb(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert (luminance(ground) < 0.05) == (scheme == "dark")
    low = {(tag, ink, behind) for tag, ink, behind in found if contrast(rgb(ink), rgb(behind)) < 4.5}
    assert low == set()  # WCAG 2.2, 1.4.3 (AA)
    cell = tuple(int(CELL[i : i + 2], 16) for i in (1, 3, 5))
    darkest = tuple(0.75 * over + 0.25 * under for over, under in zip(cell, ground, strict=True))
    ink = rgb(browser.execute_script("return getComputedStyle(document.body).color"))
    assert contrast(ink, darkest) > 4.5


def test_plots_and_images_have_alternative_text(opened: Chrome, page: Page) -> None:
    assert all(plot.aria_role in ("img", "image") for plot in opened.find_elements(By.TAG_NAME, "svg"))
    images = opened.find_elements(By.TAG_NAME, "img")
    names = [each.get_attribute("alt").split(":")[0] for each in images]
    sample = sample_predictions(page.report.evaluation)
    assert names == [each.image for each in (*sample, *page.report.wrong)]
    assert all(opened.execute_script("return arguments[0].naturalWidth", each) > 0 for each in images)


def rgb(colour: str) -> tuple[float, ...]:
    """The channels, 0..255, of the browser's rgb(r, g, b)."""
    return tuple(float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3])


def luminance(colour: tuple[float, ...]) -> float:
    """Relative luminance, 0..1, as WCAG 2.2 defines it."""
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
