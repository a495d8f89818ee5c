"""What TensorBoard shows of a run: its figures, and images with what the head made of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

PICTURES = 12
COLUMNS = 6


class Monitor:
    """Writes to `folder`; going on with a run drops what stands there from its next epoch on.

    What is added stands in the file at once: a run that is stopped or diverges does not close it.
    """

    def __init__(self, folder: Path, next_epoch: int = 0) -> None:
        self.writer = SummaryWriter(str(folder), purge_step=next_epoch + 1)

    def scalars(self, record: Mapping[str, float]) -> None:
        """Add one epoch's figures."""
        for name, value in record.items():
            if name != "epoch":
                self.writer.add_scalar(name, value, int(record["epoch"]))
        self.writer.flush()

    def images(self, epoch: int, figure: Figure) -> None:
        """Add an image of predictions."""
        self.writer.add_figure("predictions", figure, epoch)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


def draw_predictions(
    pixels: Sequence[Tensor],
    probabilities: npt.NDArray[np.float32],
    indices: npt.NDArray[np.int64],
    classes: Sequence[str],
) -> Figure:
    """Images [3, H, W] uint8 in a grid, each with its answer, and its label where that is wrong."""
    rows = -(-len(pixels) // COLUMNS)
    figure = Figure(figsize=(2 * COLUMNS, 2.8 * rows), layout="constrained")
    for place, axes in enumerate(figure.subplots(rows, COLUMNS, squeeze=False).flat):
        axes.axis("off")
        if place >= len(pixels):
            continue
        axes.imshow(pixels[place].permute(1, 2, 0).numpy())
        answer = int(probabilities[place].argmax())
        title = f"{classes[answer]} {probabilities[place, answer]:.0%}"
        right = answer == indices[place]
        axes.set_title(
            title if right else f"{title}\nlabel: {classes[int(indices[place])]}",
            fontsize=8,
            color="black" if right else "firebrick",
        )
    return figure
