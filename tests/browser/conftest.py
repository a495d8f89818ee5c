"""A browser without a network, and a report that has every section."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from ensemble.files.predictions import TaskOutput
from ensemble.joint import argmax, decode
from ensemble.report.analysis.report import Report, analyse
from ensemble.report.load.evaluation import Evaluation, NumericLabel
from ensemble.report.load.runs import TrainingRun
from ensemble.report.render.page import render_report

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
TASKS = {"mask": ["wear", "incorrect", "normal"], "gender": ["male", "female"]}
TASKS |= {"age": ["under 30", "30 to 59", "60 and over"]}
PEOPLE, SHOTS = 40, 7


@dataclass(frozen=True)
class Page:
    """The page and the report that it renders."""

    path: Path
    report: Report


@contextmanager
def start_chromium(*arguments: str) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", *arguments):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.execute_cdp_cmd("Network.enable", {})
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="session")
def browser() -> Iterator[webdriver.Chrome]:
    with start_chromium() as driver:
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
        yield driver


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Forty people of seven images, names as long as the challenge's, two submissions, three runs."""
    generator = np.random.default_rng(0)
    ages = np.repeat(generator.integers(18, 80, PEOPLE), SHOTS)
    gender = np.repeat(generator.integers(0, 2, PEOPLE), SHOTS)
    truth = np.tile([0, 0, 0, 0, 0, 6, 12], PEOPLE) + 3 * gender + np.searchsorted([30, 60], ages, side="right")
    outputs = {}
    for (task, names), classes in zip(TASKS.items(), decode(truth, (3, 2, 3)), strict=True):
        logits = generator.normal(size=(2, len(truth), len(names))) + 2 * np.eye(len(names))[classes]
        outputs[task] = TaskOutput(*(np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)).astype("f4"))
    codes = [argmax(heads) for heads in zip(*(output[:2] for output in outputs.values()), strict=True)]
    ids = [f"{number:040x}.jpg" for number in range(len(truth))]
    people = np.repeat([f"{number:06d}" for number in range(PEOPLE)], SHOTS)
    submissions = {"out/submission.csv": codes[0], "out/plain_view.csv": codes[1]}
    numbers = [NumericLabel("age", {"age": [30, 60]}, ages.astype(float))]
    evaluation = Evaluation(TASKS, ids, truth, submissions, people, numbers, outputs, dict.fromkeys(TASKS, 1.2))
    history = {"epoch": [1.0, 2.0, 3.0], "train_loss": [1.0, 0.6, 0.5], "macro_f1": [0.4, 0.6, 0.7]}
    config = "steps: [" + "long, " * 80 + "]\n"
    report = analyse(evaluation, [TrainingRun(t, history, config, 1.5, {}, {}, {}) for t in TASKS], ["A note."])
    folder = tmp_path_factory.mktemp("report")
    for name in ids:
        Image.new("RGB", (72, 96), "teal").save(folder / name)
    (folder / "report.html").write_text(render_report(report, {}, folder), encoding="utf-8")
    return Page(folder / "report.html", report)
