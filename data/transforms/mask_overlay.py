"""Masks drawn on bare faces, so that labelled faces without masks can be used to train for faces with masks."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from data.transforms.face_geometry import Box, Face

Pixels = npt.NDArray[np.uint8]
Image3 = npt.NDArray[np.float32]

SUPERSAMPLING = 2


@dataclass(frozen=True)
class Way:
    """A way to wear a mask."""

    top: float  # of the mask at the middle of the face; 0 is the height of the eyes, 1 of the mouth
    bottom: float
    width: float = 1.0  # share of the width of a mask worn correctly
    aside: float = 0.0  # distance of its middle from the face's, in halves of the cheeks' width
    tilt: float = 0.0  # rotation outwards and down, in degrees


WORN = "worn"
WAYS = {
    WORN: Way(0.45, 1.85),
    "under_nose": Way(0.88, 1.95),
    "on_chin": Way(1.3, 2.15),
    "mouth_only": Way(0.7, 1.4, width=0.5),
    "one_ear": Way(0.5, 1.8, width=0.6, aside=0.85, tilt=60.0),
    "on_eyes": Way(-0.35, 0.45),
}


def choose_way(wrong: bool, rng: np.random.Generator) -> str:
    """Choose one of the `WAYS` at random: worn, or if `wrong` one of the others."""
    return str(rng.choice([way for way in WAYS if (way != WORN) == wrong]))


def draw_mask(pixels: Pixels, face: Face, way: str, rng: np.random.Generator) -> Pixels:
    """Copy `pixels` (uint8 RGB [H, W, 3]) and draw a mask on the face, worn in one of the `WAYS`.

    Shape, colours and pattern of the mask come from `rng`.
    """
    outline = _outline(face, WAYS[way], rng)
    box = _bounding_box(outline, *pixels.shape[:2])
    masked, under = pixels.copy(), pixels[box]
    if not under.size:
        return masked
    cloth = _cloth(box, face.unit, rng) * _light(pixels, face.unit)[box]
    cloth += rng.normal(0, 3, (*under.shape[:2], 1)).astype(np.float32)
    blended = under + (cloth - under) * _cover(outline, box)
    masked[box] = blended.clip(0, 255).astype(np.uint8)
    return masked


def _outline(face: Face, way: Way, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """A closed outline [M, 2] in pixels: the upper edge rises over the nose, the lower goes round the chin."""
    across = np.linspace(-1, 1, 17)
    top, bottom = way.top + rng.normal(0, 0.06), way.bottom + rng.normal(0, 0.1)
    upper = top + rng.uniform(0.02, 0.25) * (across**2 - 1) + 0.1
    lower = upper + (bottom - upper) * (1 - np.abs(across) ** rng.uniform(2, 4)) ** 0.6
    side = 1.0 if rng.random() < 0.5 else -1.0
    middle = face.middle + face.half_width * (rng.normal(0, 0.05) + side * way.aside)
    x = middle + face.half_width * way.width * rng.uniform(0.88, 1.1) * across
    edges = np.stack([np.r_[x, x[::-1]], face.eyes + face.unit * np.r_[upper, lower[::-1]]], axis=1)
    tilt = np.radians(rng.normal(0, 3) + side * way.tilt)
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    center = np.array([middle, face.mouth])
    return np.asarray((edges - center) @ turn.T + center)


def _bounding_box(outline: npt.NDArray[np.float64], height: int, width: int) -> Box:
    """Rows and columns of an image that contain the outline; empty where it lies outside."""
    limits = np.array([width, height])
    left, top = np.floor(outline.min(axis=0)).clip(0, limits).astype(int).tolist()
    right, bottom = (np.floor(outline.max(axis=0)) + 1).clip(0, limits).astype(int).tolist()
    return slice(top, bottom), slice(left, right)


def _cover(outline: npt.NDArray[np.float64], box: Box) -> Image3:
    """The share of each pixel of a box within the outline, 0..1, [h, w, 1]."""
    rows, columns = box
    height, width = rows.stop - rows.start, columns.stop - columns.start
    canvas = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
    inside = (outline - (columns.start, rows.start)) * SUPERSAMPLING
    ImageDraw.Draw(canvas).polygon([(x, y) for x, y in inside], fill=255)
    return np.asarray(canvas.reduce(SUPERSAMPLING), dtype=np.float32)[..., None] / np.float32(255)


def _light(pixels: Pixels, unit: float) -> Image3:
    """The blurred brightness of the face, relative to its mean, around 1, [H, W, 1]."""
    grey = Image.fromarray(pixels).convert("L").filter(ImageFilter.BoxBlur(max(unit / 2, 1)))
    light = np.asarray(grey, dtype=np.float32)[..., None]
    return 0.6 + 0.4 * light / np.float32(max(light.mean(), 1.0))


def _cloth(box: Box, unit: float, rng: np.random.Generator) -> Image3:
    """Plain, pleated, striped, dotted or checked cloth in one or two colours, 0..255, [h, w, 3]."""
    muted = rng.integers(90, 250) + rng.normal(0, 25, 3)
    first = muted if rng.random() < 0.6 else rng.uniform(10, 250, 3)
    second = first * 0.8 if rng.random() < 0.5 else rng.uniform(0, 255, 3)
    y, x = np.mgrid[box].astype(np.float32) / unit * rng.uniform(12, 40)
    turn = rng.uniform(0, np.pi)
    u, v = np.sin(x * np.cos(turn) + y * np.sin(turn)), np.sin(y * np.cos(turn) - x * np.sin(turn))
    pattern = rng.choice(["plain", "pleats", "stripes", "dots", "checks"], p=[0.35, 0.2, 0.15, 0.15, 0.15])
    inked = {
        "plain": np.zeros_like(u, dtype=bool),
        "pleats": np.sin(y / 3) > 0.9,
        "stripes": u > 0,
        "dots": u * v > 0.4,
        "checks": u * v > 0,
    }[str(pattern)]
    return np.where(inked[..., None], second, first).astype(np.float32)
