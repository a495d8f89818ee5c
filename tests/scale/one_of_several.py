"""One process of a training of coloured squares, started by a launcher; writes what it computed as .npz.

one_of_several.py SQUARES OUT LOSS BATCH: ten epochs of a small head without batch norm and dropout.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from data.dataset import ImageDataset, Sample, SequentialIndices
from data.transforms.pipeline import Pipeline
from heads.objective.losses import WeightedSum, make_loss
from heads.objective.targets import Target
from heads.train.distributed import WholeBatchLoss, prepare
from heads.train.loaders import ProcessBatches, make_loader
from heads.train.loop import FitSettings, TrainingData, ValidationOutput, fit
from heads.train.optimiser import make_optimiser, make_schedule
from heads.train.sampler import BalancedSampler
from heads.train.state import TrainState

CLASSES = ("red", "green", "blue")
EPOCHS = 10


class ScaledPixels(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.float() / 255


class RecordedDraws(ImageDataset):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.draws = []

    def __getitem__(self, draw: tuple[int, int, int]) -> Sample:
        self.draws.append(draw)
        return super().__getitem__(draw)


class RecordedOutputs(list[ValidationOutput]):
    """Callbacks that keep the validation outputs."""

    def after_epoch(self, state: TrainState, output: ValidationOutput | None, is_best: bool) -> None:
        self.append(output)

    def on_stop(self, state: TrainState) -> str:
        return ""


def main() -> None:
    squares, out, loss_name, batch = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    table = pd.read_csv(squares / "labels.csv")
    paths = [str(squares / "images" / name) for name in table["path"]]
    labels = np.array([CLASSES.index(colour) for colour in table["colour"]])
    steps = ["hflip", {"noise": {"std": 0.2, "p": 0.5}}, {"brightness_contrast": {"p": 0.5}}]
    train_set = RecordedDraws(paths, [Pipeline(steps)], torch.from_numpy(labels), 3)
    valid_set = ImageDataset(paths, [Pipeline([])], torch.from_numpy(labels))
    sampler = BalancedSampler(labels, table["person"].astype(str).tolist(), power=0.5, seed=3)

    torch.manual_seed(0)
    backbone = nn.Sequential(
        ScaledPixels(), nn.Conv2d(3, 8, 5, 4), nn.GroupNorm(2, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(2)
    )
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(32, 3))
    optimiser = make_optimiser(backbone, classifier, "sgd", 0.1, 0.5, 0.05)
    accelerator = Accelerator(cpu=True, mixed_precision="no")
    place = accelerator.process_index, accelerator.num_processes
    rows = SequentialIndices(len(valid_set))
    train = make_loader(train_set, ProcessBatches(sampler, batch, *place), 0, 3)
    valid = make_loader(valid_set, ProcessBatches(rows, batch, *place, whole=True), 0, 3)
    schedule = make_schedule(optimiser, "cosine", EPOCHS, len(train))
    head, optimiser = prepare(nn.Sequential(backbone, classifier), optimiser, accelerator)
    state, outputs = TrainState(head, optimiser, schedule), RecordedOutputs()
    weight = torch.tensor([0.5, 1.0, 3.0])
    loss, losses = WholeBatchLoss(WeightedSum([make_loss(loss_name)], [1.0], weight), accelerator), []
    loss.register_forward_hook(lambda _, __, value: losses.append(value.item()))
    data = TrainingData(Target("colour", CLASSES), train, valid, sampler, labels)
    fit(state, data, loss, FitSettings(EPOCHS, seed=3, clip_norm=5.0), accelerator, outputs)
    np.savez(
        out / f"{accelerator.process_index}.npz",
        losses=np.array(losses),
        draws=np.array(train_set.draws),
        probabilities=np.array([output.probabilities for output in outputs]),
        macro_f1=np.array([record["macro_f1"] for record in state.history]),
        train_loss=np.array([record["train_loss"] for record in state.history]),
        weights=torch.cat([p.detach().flatten() for p in state.head.parameters()]).numpy(),
    )
    accelerator.end_training()


if __name__ == "__main__":
    main()
