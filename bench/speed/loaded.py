"""A loaded ensemble: milliseconds for one image, and what shared layers save."""

import time
from pathlib import Path

import numpy as np
import torch

from bench.markdown import table
from bench.speed.images import read_heads, shared_images
from bench.speed.results import ratio, spread
from data.runtime.machine import reuse_freed_memory
from ensemble import Ensemble
from ensemble.backends.engines import EngineBackend
from ensemble.inference.predictor import Predictor, load_batches
from ensemble.joint import load_tasks

PREDICTIONS, BATCH = 50, 64


def measure_image(runs: Path, config: Path) -> str:
    """Write the section: milliseconds for one image, from its path to the answers, as Markdown."""
    tasks = load_tasks(config)
    paths, _ = shared_images(read_heads(runs, list(tasks)), [len(names) for names in tasks.values()])
    model, milliseconds = Ensemble.load(runs, config), []
    for place in range(PREDICTIONS + 1):
        start = time.perf_counter()
        model.predict(paths[place % len(paths)])
        milliseconds.append(1000 * (time.perf_counter() - start))
    row = [f"{milliseconds[0]:.0f}", spread(milliseconds[1:])]
    return table(["the first one", f"milliseconds for an image, {PREDICTIONS} more"], [row])


def measure_shared(runs: Path, config: Path, images: int, rounds: int) -> str:
    """Write the section: all views in float32 by PyTorch, with shared layers and without, as Markdown.

    One after the other in each round, on decoded pixels, since a process of each would add the same start to both.
    """
    reuse_freed_memory()
    tasks = load_tasks(config)
    paths, _ = shared_images(read_heads(runs, list(tasks)), [len(names) for names in tasks.values()])
    chosen = [paths[place] for place in np.linspace(0, len(paths) - 1, min(images, len(paths))).astype(int)]
    loaded = Ensemble.load(runs, config, views="all").tasks
    predictors = {share: Predictor(loaded, EngineBackend(share=share), torch.device("cpu")) for share in (False, True)}
    batches = list(load_batches(chosen, predictors[True].pipelines, BATCH))
    seconds: dict[bool, list[float]] = {share: [] for share in predictors}
    answers = {share: [predictor(batches[0])] for share, predictor in predictors.items()}  # not timed
    for _ in range(rounds):
        for share, predictor in predictors.items():
            start = time.perf_counter()
            answers[share] = [predictor(batch) for batch in batches]
            seconds[share].append(time.perf_counter() - start)
    same = all(
        np.array_equal(one.tasks[name].probabilities, other.tasks[name].probabilities)
        for one, other in zip(answers[False], answers[True], strict=True)
        for name in tasks
    )
    rows = [
        [name, spread(seconds[share]), ratio(seconds[share], seconds[False], smaller_is_better=True)]
        for name, share in (("each head alone", False), ("shared layers", True))
    ]
    equal = "are equal bit for bit" if same else "DIFFER"
    intro = f"{len(chosen)} images, all views, PyTorch in float32, without decoding; the probabilities {equal}."
    return f"{intro}\n\n{table(['', 'seconds', 'times alone'], rows)}"
