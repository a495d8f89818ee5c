"""The plain loop, as one writes it without thinking, which everything else is measured against.

PlainImages are decoded by Pillow anew for every pass; NCHW, float32, eager PyTorch; one head after the other, one
view after the other; in training the whole backbone learns. It answers as `combine.py` does.

python -m bench.plain answer --runs RUNS --data DIR --out FILE
python -m bench.plain train --task NAME --data DIR --runs RUNS
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from data.annotations.listing import read_listing
from data.runtime.errors import add_debug_option, run_script
from data.runtime.processes import usable_workers
from data.transforms.pipeline import Pipeline
from ensemble.config import load_tasks
from ensemble.files.predictions import FILE_NAME, TaskOutput, write_probabilities
from ensemble.files.predictions import Predictions as JointPredictions
from ensemble.files.submission import write_submission
from ensemble.inference.views import MERGES, make_views
from ensemble.joint import argmax
from heads.build import (
    TrainedHead,
    build_head,
    build_loss,
    build_target,
    describe_outputs,
    load_backbone_weights,
    load_head,
)
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from heads.model.head import Head
from heads.objective.targets import Target
from heads.run.folder import run_folder, save_head, write_json
from heads.train.optimiser import make_optimiser, make_schedule
from heads.train.rows import split_rows
from heads.train.sampler import BalancedSampler, class_counts
from heads.train.settings import FitSettings, Record
from heads.train.validation import Predictions, compute_metrics

BATCH = 64


class PlainImages(Dataset[tuple[Tensor, Tensor]]):
    """Images decoded each time that they are asked for: float pixels [3, H, W] in 0..1, and targets."""

    def __init__(self, paths: Sequence[Path | str], pipeline: Pipeline, targets: Tensor | None = None) -> None:
        self.paths, self.pipeline = paths, pipeline
        self.targets = torch.zeros(len(paths)) if targets is None else targets

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        with Image.open(self.paths[row]) as image:
            pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        shown = self.pipeline(pixels, (int(torch.randint(2**31, ())),))
        return torch.from_numpy(shown.transpose(2, 0, 1) / np.float32(255)), self.targets[row]


class PlainHead(nn.Module):
    """A head's layers in NCHW: float pixels [N, 3, H, W] in 0..1 to logits."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head.to(memory_format=torch.contiguous_format)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head.classifier(self.head.backbone((pixels - self.head.mean) / self.head.std))
        return logits


def answer(
    heads: Mapping[str, TrainedHead], paths: Sequence[Path], workers: int
) -> dict[str, npt.NDArray[np.float32]]:
    """Each head's probabilities [N, C] of images, over its own views."""
    answers = {}
    for name, trained in heads.items():
        assert isinstance(trained.head, Head)  # out of its file, not made by an engine
        net, config, target = PlainHead(trained.head).eval(), trained.config, trained.target
        views = []
        for view in make_views(config.views.steps).values():
            loader = DataLoader(
                PlainImages(paths, Pipeline(config.pixels.evaluate)), BATCH, num_workers=workers
            )
            with torch.no_grad():
                views.append(torch.cat([target.probabilities(net(view(pixels))) for pixels, _ in loader]))
        answers[name] = MERGES[config.views.merge](torch.stack(views)).numpy()
    return answers


def split(config: TaskConfig, sources: Sequence[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows to train on and to validate on, the same as `train_task.py` takes."""
    return split_rows(config, list(sources), build_target(config.label))


def train(config: TaskConfig, sources: Sequence[Path], runs: Path, workers: int) -> Iterator[Record]:
    """Train a head as its YAML says, its whole backbone; yield each epoch's compute_metrics, keep the best in `runs`."""
    t, o, s = config.training, config.optimiser, config.schedule
    target = build_target(config.label)
    rows, valid_rows = split(config, sources)
    labels, persons = target.class_indices(rows), rows["person"].tolist()
    sampler = BalancedSampler(labels, persons, config.sampler.power, config.sampler.per_person, t.seed)

    torch.manual_seed(t.seed)
    head = build_head(config)
    meaning = describe_outputs(config.label, config.classifier.factored)
    load_backbone_weights(head, config.backbone.model_copy(update={"freeze": "none"}), runs, None, meaning)
    net, backbone, classifier = PlainHead(head), head.backbone, head.classifier
    loss = build_loss(config.loss, class_counts(labels, target.classes), target)
    optimiser = make_optimiser(
        backbone, classifier, o.name, o.lr, o.trunk_lr, o.weight_decay, o.momentum, o.stage_lr
    )
    steps = -(-len(sampler) // t.batch_size)
    schedule = make_schedule(optimiser, s.name, t.epochs, steps, s.warmup, s.step_epochs, s.step_factor)
    images = PlainImages(rows["path"].tolist(), Pipeline(config.pixels.train), target.encode(rows))
    still = PlainImages(valid_rows["path"].tolist(), Pipeline(config.pixels.evaluate))
    history: list[Record] = []
    for epoch in range(t.epochs):
        order = sampler.rows(epoch).tolist()
        net.train()
        for pixels, targets in DataLoader(images, t.batch_size, sampler=order, num_workers=workers):
            optimiser.zero_grad()
            loss(net(pixels), targets).backward()
            if t.clip_norm is not None:
                nn.utils.clip_grad_norm_(net.parameters(), t.clip_norm)
            optimiser.step()
            schedule.step()
        history.append(validate(net.eval(), target, valid_rows, DataLoader(still, BATCH, num_workers=workers)))
        if FitSettings(t.epochs, t.select_by).best(history) == epoch:
            save_head(run_folder(runs, config.task).best, head, config.model_dump(), history[-1])
        yield history[-1]


def validate(net: nn.Module, target: Target, rows: pd.DataFrame, batches: DataLoader[Any]) -> Record:
    """Figures on the validation rows, one plain view."""
    with torch.no_grad():
        logits = torch.cat([net(pixels) for pixels, _ in batches])
    probabilities = target.probabilities(logits).numpy()
    if not target.numbers:
        return compute_metrics(Predictions(probabilities, None), target.class_indices(rows), None)
    predictions = Predictions(probabilities, target.expectation(logits).numpy())
    return compute_metrics(predictions, target.class_indices(rows), target.values(rows).numpy())


def answer_listing(args: argparse.Namespace) -> None:
    """Write a submission and probabilities, as `combine.py` does."""
    classes = load_tasks(args.config)
    heads = {name: load_head(run_folder(args.runs, name).best) for name in classes}
    ids = read_listing(args.data / "info.csv")
    answers = answer(heads, [args.data / "images" / name for name in ids], usable_workers(args.workers))
    write_submission(args.out, ids, argmax(list(answers.values())).tolist())
    predictions = JointPredictions(
        {name: TaskOutput(each, each) for name, each in answers.items()}, [""] * len(ids)
    )
    write_probabilities(args.out.parent / FILE_NAME, ids, classes, [predictions])


def train_head(args: argparse.Namespace) -> None:
    """Train one head, a line an epoch; its best compute_metrics go to metrics.json as `train_task.py` writes them."""
    config = load_config(TaskConfig, args.config / f"{args.task}.yaml", args.set)
    history, began = [], time.perf_counter()
    for record in train(config, args.data, args.runs, usable_workers(args.workers)):
        history.append(record)
        told = ", ".join(f"{name} {value:.4g}" for name, value in record.items())
        print(f"epoch {len(history)}: {told}, {time.perf_counter() - began:.1f} s", flush=True)
    best = history[FitSettings(len(history), config.training.select_by).best(history)]
    write_json(run_folder(args.runs, config.task).metrics, best)


def main() -> None:
    """Read the command line; answer or train."""
    parser = argparse.ArgumentParser(prog="python -m bench.plain", description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(required=True)
    answering = actions.add_parser("answer")
    answering.set_defaults(action=answer_listing)
    answering.add_argument("--config", type=Path, default=Path("configs/joint.yaml"), metavar="FILE")
    answering.add_argument("--data", type=Path, required=True, metavar="DIR", help="holds info.csv and images/")
    answering.add_argument("--out", type=Path, required=True, metavar="FILE")
    training = actions.add_parser("train")
    training.set_defaults(action=train_head)
    training.add_argument("--task", required=True, metavar="NAME")
    training.add_argument("--config", type=Path, default=Path("configs"), metavar="DIR")
    training.add_argument("--data", type=Path, action="append", required=True, metavar="DIR")
    training.add_argument("--set", action="append", default=[], metavar="key.sub=value")
    for each in (answering, training):
        each.add_argument("--runs", type=Path, required=True, metavar="DIR")
        each.add_argument("--workers", type=int, help="decoding processes (default: one a core)")
    add_debug_option(parser)
    args = parser.parse_args()
    args.action(args)


if __name__ == "__main__":
    run_script(main)
