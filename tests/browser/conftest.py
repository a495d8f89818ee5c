"""A browser without a network, and a report that has every section."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from ensemble.report.analysis.report import Report, analyse
from ensemble.report.load.evaluation import Evaluation, HeadOutput, Number
from ensemble.report.load.runs import TrainingRun
from ensemble.report.render.page import write_report

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
TASKS = {
    "mask": ["wear", "incorrect", "normal"],
    "gender": ["male", "female"],
    "age": ["under 30", "30 to 59", "60 and over"],
}
PEOPLE, SHOTS = 40, 7


@dataclass(frozen=True)
class Report:
    """The page and what it was made from."""

    path: Path
    findings: Report


@pytest.fixture(scope="session")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.execute_cdp_cmd("Network.enable", {})
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("report")
    evaluation = _evaluation(np.random.default_rng(0))
    history = {"epoch": [1.0, 2.0, 3.0], "train_loss": [1.0, 0.6, 0.5], "macro_f1": [0.4, 0.6, 0.7]}
    runs = [
        TrainingRun(task, history, f"task: {task}\n" + "steps: [" + "long, " * 80 + "]\n", 1.5, {}, {}, {})
        for task in TASKS
    ]
    findings = analyse(evaluation, runs, ["A note."])
    for mistake in findings.mistakes:
        Image.new("RGB", (72, 96), "teal").save(folder / mistake.image)
    write_report(folder / "report.html", findings, images=folder)
    return Report(folder / "report.html", findings)


def _evaluation(generator: np.random.Generator) -> Evaluation:
    """Forty people of seven images, names as long as the challenge's, two submissions."""
    count = PEOPLE * SHOTS
    years = np.repeat(generator.integers(18, 80, PEOPLE), SHOTS)
    truth = {
        "mask": np.tile([0, 0, 0, 0, 0, 1, 2], PEOPLE),
        "gender": np.repeat(generator.integers(0, 2, PEOPLE), SHOTS),
        "age": np.searchsorted([30, 60], years, side="right"),
    }
    heads, codes, plain = {}, np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    answers = np.zeros(count, dtype=np.int64)
    for task, names in TASKS.items():
        logits = generator.normal(size=(2, count, len(names))) + 2 * np.eye(len(names))[truth[task]]
        merged, identity = (np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)).astype(np.float32)
        heads[task] = HeadOutput(merged, identity)
        codes = codes * len(names) + truth[task]
        answers, plain = answers * len(names) + merged.argmax(1), plain * len(names) + identity.argmax(1)
    return Evaluation(
        TASKS,
        [f"{number:040x}.jpg" for number in range(count)],
        codes,
        {"out/submission.csv": answers, "out/plain_view.csv": plain},
        np.repeat([f"{number:06d}" for number in range(PEOPLE)], SHOTS),
        [Number("age", {"age": [30, 60]}, years.astype(float))],
        heads,
        dict.fromkeys(TASKS, 1.2),
    )
