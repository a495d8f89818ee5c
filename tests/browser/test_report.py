import json
from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

from data.runtime.html.plots import CELL
from tests.browser.conftest import Report

PHONE, DESKTOP = (390, 844), (1280, 900)
# Colours as the browser has worked them out, of everything that holds text of its own.
COLOURS = """
const told = [];
const ground = (element) => getComputedStyle(element).backgroundColor;
for (const element of document.body.querySelectorAll("*")) {
  const own = Array.from(element.childNodes).some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!own || ["SCRIPT", "style", "OPTION"].includes(element.tagName)) continue;
  const style = getComputedStyle(element);
  let behind = element;
  while (behind !== document.body && ground(behind) === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
  const ink = element instanceof SVGElement ? style.fill : style.color;
  told.push([element.tagName, ink, ground(behind)]);
}
return told;
"""
OVERFLOWING = """
return Array.from(document.body.querySelectorAll("*"))
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, pre"))
  .map((e) => e.outerHTML.slice(0, 80));
"""


def show(browser: Chrome, report: Report, size: tuple[int, int] = DESKTOP, scheme: str = "light") -> None:
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(report.path.as_uri())


@pytest.fixture
def page(browser: Chrome, report: Report) -> Iterator[Chrome]:
    """The report on a desktop; the console must have stayed without errors when the test is over."""
    browser.get_log("browser")
    show(browser, report)
    yield browser
    assert browser.get_log("browser") == []


def column(table: WebElement, place: int) -> list[str]:
    return [
        row.find_elements(By.XPATH, "./*")[place].text
        for row in table.find_elements(By.CSS_SELECTOR, "tbody tr")
    ]


def shown(page: Chrome) -> list[WebElement]:
    return [item for item in page.find_elements(By.CSS_SELECTOR, "#wrong-answers .item") if item.is_displayed()]


def test_it_opens_from_disk_without_a_network_and_asks_for_nothing(browser: Chrome, report: Report) -> None:
    browser.get_log("performance")
    show(browser, report)
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [report.path.as_uri()]
    assert browser.title == "Evaluation"
    joint = report.findings.scores["joint"]
    assert browser.find_element(By.CSS_SELECTOR, ".tiles strong").text == f"{joint['macro_f1']:.3f}"
    assert browser.get_log("browser") == []


def test_tables_sort_by_any_column_both_ways(page: Chrome, report: Report) -> None:
    table = page.find_element(By.ID, "classes-joint")
    headings = table.find_elements(By.CSS_SELECTOR, "thead th")
    place = [heading.text for heading in headings].index("recall")
    recalls = sorted(each["recall"] for each in report.findings.scores["joint"]["classes"])
    button = headings[place].find_element(By.TAG_NAME, "button")
    button.click()
    assert column(table, place) == [f"{recall:.3f}" for recall in reversed(recalls)]
    assert headings[place].get_attribute("aria-sort") == "descending"
    button.send_keys(Keys.ENTER)
    assert column(table, place) == [f"{recall:.3f}" for recall in recalls]
    assert headings[place].get_attribute("aria-sort") == "ascending"
    headings[0].find_element(By.TAG_NAME, "button").click()
    names = [each["name"] for each in report.findings.scores["joint"]["classes"]]
    assert sorted(column(table, 0)) == sorted(names)
    assert column(table, 0)[0].startswith("incorrect / female")
    assert headings[place].get_attribute("aria-sort") is None


def test_cells_without_a_figure_stay_last(page: Chrome) -> None:
    table = page.find_element(By.ID, "scores")
    button = table.find_elements(By.CSS_SELECTOR, "thead button")[-1]
    for _ in range(2):
        button.click()
        assert column(table, 0)[-1] == "joint"


def test_wrong_answers_are_filtered_by_head_and_by_truth(page: Chrome, report: Report) -> None:
    mistakes = report.findings.mistakes
    assert len(shown(page)) == len(mistakes)
    head, truth = (
        Select(page.find_element(By.CSS_SELECTOR, f"select[data-key={key}]")) for key in ("head", "truth")
    )
    for task in ("mask", "gender", "age"):
        head.select_by_visible_text(task)
        wanted = [m.image for m in mistakes if any(each.task == task and each.wrong for each in m.heads)]
        assert [item.find_element(By.TAG_NAME, "strong").text for item in shown(page)] == wanted
        counted = page.find_element(By.CSS_SELECTOR, "[data-counts=wrong-answers]").text
        assert counted == f"{len(wanted)} shown"
    truth.select_by_visible_text("gender: female")
    both = [m for m in mistakes if m.heads[2].wrong and m.heads[1].truth == "female"]
    assert 0 < len(shown(page)) == len(both)
    head.select_by_visible_text("all")
    truth.select_by_visible_text("all")
    assert len(shown(page)) == len(mistakes)


@pytest.mark.parametrize("size", [PHONE, (820, 1180), DESKTOP, (1920, 1080)])
def test_no_width_scrolls_the_page_sideways(browser: Chrome, report: Report, size: tuple[int, int]) -> None:
    show(browser, report, size)
    for details in browser.find_elements(By.TAG_NAME, "summary"):
        details.click()
    assert browser.execute_script("return innerWidth") == size[0]
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
    assert browser.execute_script(OVERFLOWING) == []


def test_on_paper_nothing_is_cut_off_and_plots_take_the_page(browser: Chrome, report: Report) -> None:
    width = 717  # A4 within Chrome's margins
    try:
        show(browser, report, (width, 1000), "dark")
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert browser.execute_script(OVERFLOWING.replace('.closest(".scroll, pre")', '.closest("pre")')) == []
        [joint, *_] = browser.find_elements(By.TAG_NAME, "svg")
        assert joint.size["width"] > 0.9 * width
        assert not browser.find_element(By.CLASS_NAME, "filters").is_displayed()
        assert browser.execute_script("return getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP])
def test_every_text_reads_by_day_and_by_night(
    browser: Chrome, report: Report, scheme: str, size: tuple[int, int]
) -> None:
    show(browser, report, size, scheme)
    found = browser.execute_script(COLOURS)
    assert {"H1", "TD", "text", "BUTTON", "FIGCAPTION"} <= {tag for tag, _, _ in found}
    page = rgb(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert (luminance(page) < 0.05) == (scheme == "dark")
    worst = {(tag, ink, behind) for tag, ink, behind in found if contrast(rgb(ink), rgb(behind)) < 4.5}
    assert worst == set()  # WCAG 2.2, 1.4.3 (AA)
    cell = tuple(int(CELL[i : i + 2], 16) for i in (1, 3, 5))
    darkest = tuple(0.75 * over + 0.25 * under for over, under in zip(cell, page, strict=True))
    ink = rgb(browser.execute_script("return getComputedStyle(document.body).color"))
    assert contrast(ink, darkest) > 4.5


def test_plots_and_images_have_alternative_text(page: Chrome, report: Report) -> None:
    plots = page.find_elements(By.TAG_NAME, "svg")
    told = [plot.get_attribute("aria-label") or "" for plot in plots]
    assert all(plot.aria_role in ("img", "image") for plot in plots)
    # Four confusions, years, three reliabilities, confidence, three trainings; no two say the same.
    assert len(plots) == len(set(told)) == 12
    assert all(len(each) > 30 for each in told)
    images = page.find_elements(By.TAG_NAME, "img")
    assert [each.get_attribute("alt").split(":")[0] for each in images] == [
        m.image for m in report.findings.mistakes
    ]
    assert all(page.execute_script("return arguments[0].naturalWidth", each) > 0 for each in images)


def rgb(colour: str) -> tuple[float, ...]:
    """The channels, 0..255, of rgb(r, g, b) as the browser tells it."""
    return tuple(float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3])


def luminance(colour: tuple[float, ...]) -> float:
    """Relative luminance, 0..1, as WCAG 2.2 defines it."""
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
