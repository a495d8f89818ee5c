"""Images, heads, predictions and training of the plain loop."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bench.plain.good import predict_well
from data.annotations.table import number_people
from data.dataset import Sample
from data.images.find import read_listing
from data.runtime.processes import usable_workers
from data.transforms.pipeline import Pipeline
from data.transforms.views import make_views
from ensemble.files.predictions import FILE_NAME, Predictions, TaskOutput, write_probabilities
from ensemble.files.submission import write_submission
from ensemble.inference.predictor import MERGES
from ensemble.joint import argmax, load_tasks
from heads.build import build_loss, build_split, build_train_state, init_head
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from heads.load import TrainedHead, load_head
from heads.model.head import Head
from heads.objective.metrics import compute_metrics
from heads.run.folder import run_folder, save_head, write_json
from heads.train.loop import FitSettings, predict
from heads.train.sampler import BalancedSampler

BATCH = 64


class PlainImages(Dataset[Sample]):
    """Images decoded anew each time: float pixels [3, H, W] in 0..1, and targets."""

    def __init__(self, paths: Sequence[Path | str], pipeline: Pipeline, targets: Tensor | None = None) -> None:
        self.paths, self.pipeline = paths, pipeline
        self.targets = torch.zeros(len(paths)) if targets is None else targets

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Sample:
        with Image.open(self.paths[row]) as image:
            decoded = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        pixels = self.pipeline(decoded, (int(torch.randint(2**31, ())),))
        return Sample((torch.from_numpy(pixels.transpose(2, 0, 1) / np.float32(255)),), self.targets[row], "")


class PlainHead(nn.Module):
    """A head's layers in NCHW: float pixels [N, 3, H, W] in 0..1 to logits."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head.to(memory_format=torch.contiguous_format)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head.classifier(self.head.backbone((pixels - self.head.mean) / self.head.std))
        return logits


def predict_head(trained: TrainedHead, paths: Sequence[Path], workers: int) -> TaskOutput:
    """Predict images with one head, each of its views, by default or not, in a pass of its own."""
    assert isinstance(trained.head, Head)  # loaded from a checkpoint, not made by a backend
    net, config = PlainHead(trained.head).eval(), trained.config
    images, views = PlainImages(paths, Pipeline(config.pixels.evaluate)), []
    for view in make_views([*config.views.steps, *config.views.further]).values():
        with torch.no_grad():
            batches = DataLoader(images, BATCH, num_workers=workers)
            outputs = [trained.target.probabilities(net(view(batch.pixels[0]))) for batch in batches]
        views.append(torch.cat(outputs))
    return TaskOutput(MERGES[config.views.merge](torch.stack(views)).numpy(), views[0].numpy())


def answer(args: argparse.Namespace) -> None:
    """Write a submission and probabilities, as `combine.py` does, of this loop or the good one."""
    classes = load_tasks(args.config)
    heads = {name: load_head(run_folder(args.runs, name).best) for name in classes}
    ids, workers = read_listing(args.data / "info.csv"), usable_workers(args.workers)
    paths = [args.data / "images" / name for name in ids]
    if args.good:
        outputs = predict_well(heads, paths, workers, args.compile)
    else:
        outputs = {name: predict_head(head, paths, workers) for name, head in heads.items()}
    write_submission(args.out, ids, argmax([output.probabilities for output in outputs.values()]).tolist())
    write_probabilities(args.out.parent / FILE_NAME, ids, classes, [Predictions(outputs, [""] * len(ids))], {})


def train(args: argparse.Namespace) -> None:
    """Train a head by its YAML, but its whole backbone; print a line per epoch and save the best one."""
    config, start = load_config(TaskConfig, args.config / f"{args.task}.yaml", args.set), time.perf_counter()
    t = config.training
    split, workers = build_split(config, args.data), usable_workers(args.workers)
    sampler = BalancedSampler(
        split.labels, number_people(split.train), config.sampler.power, config.sampler.per_person, t.seed
    )

    accelerator, moving = Accelerator(cpu=True), config.backbone.model_copy(update={"freeze": "none"})
    head = init_head(config.model_copy(update={"backbone": moving}), args.runs, None, accelerator)
    net, loss = PlainHead(head), build_loss(config.loss, split.counts, split.target)
    state = build_train_state(config, head, -(-len(sampler) // t.batch_size), accelerator)
    images = PlainImages(split.train["path"].tolist(), Pipeline(config.pixels.train), split.targets)
    valid_images = PlainImages(split.valid["path"].tolist(), Pipeline(config.pixels.evaluate))
    settings, history, run = FitSettings(t.epochs, t.select_by), [], run_folder(args.runs, config.task)
    for epoch in range(t.epochs):
        order = sampler.rows(epoch).tolist()
        net.train()
        for batch in DataLoader(images, t.batch_size, sampler=order, num_workers=workers):
            state.optimiser.zero_grad()
            loss(net(batch.pixels[0]), batch.target).backward()
            if t.clip_norm is not None:
                nn.utils.clip_grad_norm_(net.parameters(), t.clip_norm)
            state.optimiser.step()
            state.schedule.step()
        batches = (batch.pixels[0] for batch in DataLoader(valid_images, BATCH, num_workers=workers))
        output = predict(net, split.target, batches)
        truth, numbers = split.valid_labels, split.valid_values
        history.append(compute_metrics(output.probabilities, truth, output.expected, numbers))
        if settings.best_epoch(history) == epoch:
            save_head(run.best, head, config.model_dump(), history[-1])
            write_json(run.metrics, history[-1])
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in history[-1].items())
        print(f"epoch {epoch + 1}: {metrics}, {time.perf_counter() - start:.1f} s", flush=True)
