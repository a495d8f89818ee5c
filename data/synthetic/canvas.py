"""A canvas in the coordinates of a head: polygons and tapered lines.

The unit is half the height of the head: (0, 0) is the middle of the face, y = -1 the top of the skull and
y = 1 the chin; x grows to the right of the image and y downwards. Colours are RGB in 0..255.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

Colour = tuple[float, float, float]
Points = NDArray[np.float64]

BLACK: Colour = (20.0, 17.0, 20.0)
WHITE: Colour = (252.0, 251.0, 248.0)
COLOURS: list[Colour] = [  # of clothes, masks and walls
    (240, 240, 238), (36, 38, 46), (150, 196, 222), (40, 62, 108), (206, 92, 84), (116, 140, 108),
    (186, 172, 190), (232, 190, 196), (128, 128, 134), (222, 196, 152), (92, 60, 86), (224, 188, 92),
    (70, 128, 132), (108, 76, 60),
]  # fmt: skip
MIRROR = np.array([-1.0, 1.0])


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Return the colour `share` of the way from `first` to `second` (0..1, clipped).

    >>> mix((0, 0, 0), (100, 200, 50), 0.5)
    (50.0, 100.0, 25.0)
    """
    share = min(max(share, 0.0), 1.0)
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return red, green, blue


def ink(colour: Colour, alpha: float = 1.0) -> tuple[int, int, int, int]:
    """Convert a colour and an opacity (0..1) to Pillow's RGBA."""
    red, green, blue, opacity = (round(min(max(value, 0.0), 255.0)) for value in (*colour, 255 * alpha))
    return red, green, blue, opacity


def curve(points: Sequence[tuple[float, float]] | Points, steps: int = 6) -> Points:
    """Interpolate `points` by a Catmull-Rom spline, `steps` samples from each to the next: float [N, 2].

    >>> curve([(0, 0), (1, 0), (2, 0)], steps=2)[:, 0].tolist()
    [0.0, 0.4375, 1.0, 1.5625, 2.0]
    """
    knots = np.array(points, dtype=np.float64)
    padded = np.concatenate([knots[:1], knots, knots[-1:]])
    a, b, c, d = (padded[start : len(padded) - 3 + start, None] for start in range(4))
    t = (np.arange(steps) / steps)[:, None]
    spline = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * b - a - 3 * c + d)))
    return np.concatenate([spline.reshape(-1, 2), knots[-1:]])


def ellipse(x: float, y: float, across: float, down: float, steps: int = 24) -> Points:
    """Return the outline of an ellipse with half-axes `across` and `down`: float [steps, 2]."""
    turn = np.linspace(0.0, 2 * np.pi, steps, endpoint=False)
    return np.stack([x + across * np.cos(turn), y + down * np.sin(turn)], axis=1)


def symmetric(half: Points) -> Points:
    """Close the right half [N, 2] of an outline with its mirror image: float [2N, 2]."""
    return np.concatenate([half, half[::-1] * MIRROR])


@dataclass(frozen=True)
class Canvas:
    """An image and the pose of the head in it: `centre` and `scale` in pixels, `roll` in radians."""

    draw: ImageDraw.ImageDraw
    centre: tuple[float, float]
    scale: float
    roll: float = 0.0

    def fill(self, points: Points, colour: Colour, alpha: float = 1.0, both: bool = False) -> None:
        """Fill a polygon with opacity `alpha`; with `both` its mirror image too."""
        if alpha <= 0.0:
            return
        x, y = points.T * self.scale
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        placed = np.stack([x * cos - y * sin, x * sin + y * cos], axis=1) + self.centre
        self.draw.polygon(placed.ravel().tolist(), fill=ink(colour, alpha))
        if both:
            self.fill(points * MIRROR, colour, alpha)

    def stroke(self, points: Points, width: float, colour: Colour, alpha: float = 1.0, both: bool = False) -> None:
        """Draw a line that is `width` wide in the middle and thinner at its ends; with `both` mirrored too."""
        slope = np.gradient(points, axis=0)
        slope /= np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-9)
        swell = 0.5 * width * (1.0 - 0.7 * np.linspace(-1.0, 1.0, len(points))[:, None] ** 2)
        offset = slope[:, ::-1] * MIRROR * swell
        self.fill(np.concatenate([points + offset, (points - offset)[::-1]]), colour, alpha, both)
