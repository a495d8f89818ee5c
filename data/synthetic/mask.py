"""A mask, worn as it should be or not, in one of many colours and patterns."""

from dataclasses import dataclass

import numpy as np

from data.synthetic.canvas import BLACK, WHITE, Colour, Points, Sketch, ellipse, mix

FABRICS: list[Colour] = [
    (246, 247, 248), (176, 210, 234), (40, 41, 46), (240, 196, 206), (150, 152, 158), (44, 62, 104),
    (150, 196, 176), (222, 192, 162), (188, 64, 66), (196, 178, 214), (108, 76, 60), (236, 214, 130),
]  # fmt: skip
PATTERNS = ["plain", "plain", "pleats", "pleats", "seam", "stripes", "dots"]


@dataclass(frozen=True)
class Mask:
    """Where a mask sits (`top` and `bottom` are the y of its edges in the middle) and what it is made of."""

    top: float
    bottom: float
    bridge: float  # how far the upper edge rises over the nose
    droop: float  # how much higher the upper edge is at the sides than in the middle
    fabric: Colour
    pattern: str
    strap: Colour


def choose_mask(worn: bool, rng: np.random.Generator) -> Mask:
    """A mask over nose and chin if `worn`, else one below the nose or down on the chin."""
    fabric = FABRICS[rng.integers(len(FABRICS))]
    red, green, blue = np.clip(np.array(fabric) + rng.normal(0.0, 7.0, 3), 0.0, 255.0).tolist()
    if worn:
        top, bottom, bridge, droop = rng.uniform(0.02, 0.14), rng.uniform(1.03, 1.10), 0.07, 0.0
    elif rng.random() < 0.6:
        top, bottom, bridge, droop = rng.uniform(0.39, 0.47), rng.uniform(1.05, 1.12), 0.0, 0.05
    else:
        top, bottom, bridge, droop = rng.uniform(0.72, 0.80), rng.uniform(1.14, 1.22), 0.0, 0.16
    strap = WHITE if rng.random() < 0.6 else (red, green, blue)
    pattern = PATTERNS[rng.integers(len(PATTERNS))]
    return Mask(top, bottom, bridge, droop, (red, green, blue), pattern, strap)


def draw_mask(sketch: Sketch, mask: Mask, width: float) -> None:
    """Draw `mask` on a face `width` wide (half of it, in head units)."""
    u = np.linspace(-1.0, 1.0, 31)
    top, bottom = _across(mask, width, u, 0.0), _across(mask, width, u, 1.0)
    for side in (1.0, -1.0):
        for y, edge in ((-0.10, 0.12), (0.14, 0.75)):
            hook = np.array([side * (width + 0.02), y])
            corner = _across(mask, width, np.array([side * 0.97]), edge)[0]
            sketch.stroke(np.linspace(corner, hook, 3), 0.026, mask.strap, 0.95, taper=0.0)
    sketch.fill(np.concatenate([bottom + [0.0, 0.03], top[::-1] + [0.0, -0.015]]), BLACK, 0.22)
    sketch.fill(np.concatenate([top, bottom[::-1]]), mask.fabric)
    shade = mix(mask.fabric, BLACK, 0.35)
    lower = _across(mask, width, u, 0.72)
    sketch.fill(np.concatenate([lower, bottom[::-1]]), shade, 0.16)
    sketch.glow(-0.12, 0.6 * mask.top + 0.4 * mask.bottom, 0.26, 0.16, mix(mask.fabric, WHITE, 0.6), 0.22)
    _draw_pattern(sketch, mask, width)
    sketch.stroke(_across(mask, width, u, 0.04), 0.02, shade, 0.5, taper=0.3)


def _across(mask: Mask, width: float, u: Points, down: float) -> Points:
    """Points of the fabric: `u` from -1 (left edge) to 1 (right edge), `down` from 0 (top) to 1 (bottom)."""
    side = 0.93 * width
    top = mask.top + 0.04 * u**2 - mask.droop * u**2 - mask.bridge * np.exp(-((u / 0.24) ** 2))
    bottom = mask.bottom - 0.40 * np.abs(u) ** 3.5
    bottom = np.maximum(bottom, top + 0.12)
    x = u * side * (1.0 - 0.10 * down)
    return np.stack([x, top + (bottom - top) * down], axis=1)


def _draw_pattern(sketch: Sketch, mask: Mask, width: float) -> None:
    u = np.linspace(-0.97, 0.97, 17)
    dark = sum(mask.fabric) < 260
    ink = mix(mask.fabric, WHITE if dark else BLACK, 0.35)
    if mask.pattern == "pleats":
        for down in (0.3, 0.48, 0.66):
            sketch.stroke(_across(mask, width, u, down), 0.024, ink, 0.55)
    elif mask.pattern == "seam":
        middle = np.concatenate([_across(mask, width, np.array([0.0]), down) for down in (0.0, 0.5, 1.0)])
        sketch.stroke(middle, 0.028, ink, 0.5, taper=0.2)
        flap = np.concatenate([_across(mask, width, np.array([v]), 0.5 - 0.22 * v**2) for v in u])
        sketch.stroke(flap, 0.02, ink, 0.4)
    elif mask.pattern == "stripes":
        for down in (0.15, 0.35, 0.55, 0.75, 0.92):
            sketch.stroke(_across(mask, width, u, down), 0.055, mix(ink, WHITE, 0.4), 0.7, taper=0.1)
    elif mask.pattern == "dots":
        for row, down in enumerate((0.2, 0.42, 0.64, 0.86)):
            places = np.linspace(-0.8, 0.8, 7) + (0.13 if row % 2 else 0.0)
            for x, y in _across(mask, width, places, down):
                sketch.fill(ellipse(x, y, 0.028, 0.028, 8), mix(ink, WHITE, 0.3), 0.8)
