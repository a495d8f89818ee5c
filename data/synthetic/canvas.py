"""A drawing surface in the face's own coordinates: soft shapes on a turned, tilted, zoomed head.

The unit is half the height of the head: (0, 0) is the middle of the face, y = -1 the top of the skull and
y = 1 the chin; x grows to the right of the image and y downwards. Colours are RGB in 0..255.
"""

import cmath
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

Colour = tuple[float, float, float]
Points = NDArray[np.float64]

BLACK: Colour = (20.0, 17.0, 20.0)
WHITE: Colour = (252.0, 251.0, 248.0)
SILVER: Colour = (205.0, 205.0, 208.0)

# Where the bulge of the face ends: the outline of the head stays put while its middle turns.
BULGE = (0.80, 1.10)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour `share` of the way from `first` to `second` (0..1, clipped).

    >>> mix((0, 0, 0), (100, 200, 50), 0.5)
    (50.0, 100.0, 25.0)
    """
    share = min(max(share, 0.0), 1.0)
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return red, green, blue


def along(anchors: Sequence[Colour], place: float) -> Colour:
    """The colour at `place` (0..1) on the polyline through `anchors`."""
    steps = np.linspace(0.0, 1.0, len(anchors))
    red, green, blue = (float(np.interp(place, steps, channel)) for channel in np.array(anchors).T)
    return red, green, blue


def curve(points: Sequence[tuple[float, float]], closed: bool = False, steps: int = 6) -> Points:
    """A Catmull-Rom spline through `points`, `steps` samples from each to the next: float [N, 2].

    >>> curve([(0, 0), (1, 0), (2, 0)], steps=2)[:, 0].tolist()
    [0.0, 0.4375, 1.0, 1.5625, 2.0]
    """
    knots = np.array(points, dtype=np.float64)
    first, last = (knots[-1:], knots[:2]) if closed else (knots[:1], knots[-1:])
    padded = np.concatenate([first, knots, last])
    pieces = len(padded) - 3
    around = padded[np.arange(pieces)[:, None] + np.arange(4)]  # the four knots that shape each piece
    spline: Points = (_catmull_rom(steps) @ around).reshape(-1, 2)
    return spline if closed else np.concatenate([spline, knots[-1:]])


@cache
def _catmull_rom(steps: int) -> Points:
    """The weights [steps, 4] of the four surrounding knots, from one knot up to the next."""
    t = np.arange(steps) / steps
    weights: Points = 0.5 * np.stack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2], axis=1
    )
    return weights


def ellipse(x: float, y: float, across: float, down: float, steps: int = 28) -> Points:
    """An ellipse with half-axes `across` and `down`: float [steps, 2]."""
    placed: Points = _circle(steps) * np.array([across, down]) + np.array([x, y])
    return placed


@cache
def _circle(steps: int) -> Points:
    turn = np.linspace(0.0, 2 * np.pi, steps, endpoint=False)
    circle: Points = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return circle


@cache
def _from_middle(count: int) -> Points:
    return np.linspace(-1.0, 1.0, count)


def mirrored(points: Points, side: float) -> Points:
    """`points` with x multiplied by `side` (1 or -1)."""
    reflected: Points = points * np.array([side, 1.0])
    return reflected


def _as_complex(points: Points) -> NDArray[np.complex128]:
    """x + iy for each point: turning, zooming and shifting are then one multiplication and one addition."""
    return np.ascontiguousarray(points).view(np.complex128)[:, 0]


@dataclass(frozen=True)
class Sketch:
    """An image being drawn and the pose of the head in it.

    `centre` and `scale` are in pixels, `roll` in radians; `turn` and `nod` are how far, in head units, the
    middle of the face moves sideways and down (the outline stays, as on a ball seen from its side).
    """

    draw: ImageDraw.ImageDraw
    centre: tuple[float, float]
    scale: float
    roll: float = 0.0
    turn: float = 0.0
    nod: float = 0.0

    def fill(self, points: Points, colour: Colour, alpha: float = 1.0) -> None:
        """Fill the polygon `points`, laid over what is there with opacity `alpha`."""
        self._fill(_as_complex(points), colour, alpha)

    def stroke(
        self, points: Points, width: float, colour: Colour, alpha: float = 1.0, taper: float = 0.8
    ) -> None:
        """Draw a line `width` wide; `taper` (0..1) is how much thinner its ends are than its middle."""
        line = _as_complex(points)
        padded = np.concatenate([line[:1], line, line[-1:]])
        slope = padded[2:] - padded[:-2]
        swell = 0.5 * width * (1.0 - taper * _from_middle(len(line)) ** 2)
        offset = 1j * slope * (swell / np.maximum(np.abs(slope), 1e-9))
        self._fill(np.concatenate([line + offset, (line - offset)[::-1]]), colour, alpha)

    def _fill(self, points: NDArray[np.complex128], colour: Colour, alpha: float) -> None:
        if alpha <= 0.0:
            return
        across, down = points.real / BULGE[0], points.imag / BULGE[1]
        bulge = np.maximum(1.0 - across * across - down * down, 0.0)
        posed = points + bulge * complex(self.turn, self.nod)
        placed = posed * cmath.rect(self.scale, self.roll) + complex(*self.centre)
        red, green, blue = (round(min(max(channel, 0.0), 255.0)) for channel in colour)
        ink = (red, green, blue, round(255 * min(alpha, 1.0)))
        self.draw.polygon(placed.view(np.float64).tolist(), fill=ink)

    def glow(
        self, x: float, y: float, across: float, down: float, colour: Colour, alpha: float, rings: int = 4
    ) -> None:
        """A soft spot: rings that add up to about `alpha` in the middle and fade to nothing at the edge."""
        ring = 1.0 - (1.0 - min(alpha, 0.99)) ** (1.0 / rings)
        for share in np.linspace(1.0, 0.3, rings):
            self.fill(ellipse(x, y, across * share, down * share), colour, ring)
