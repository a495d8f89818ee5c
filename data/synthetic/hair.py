"""Hair, behind the head and in front of it, from bald to shoulder-long."""

import numpy as np

from data.synthetic.canvas import BLACK, SILVER, WHITE, Colour, Points, Sketch, curve, ellipse, mirrored, mix
from data.synthetic.person import Hair

SIDE = 0.75  # half the width of the head at the temples
HANGING = 0.3  # hair that ends below this hangs beside the face


def draw_hair_behind(sketch: Sketch, hair: Hair) -> None:
    """What of the hair is seen past the neck and above the skull: long hair and the bun."""
    shade = mix(hair.colour, BLACK, 0.30)
    if hair.bun:
        sketch.fill(ellipse(0.35 * hair.part, -1.10, 0.30, 0.24), shade)
        sketch.fill(ellipse(0.35 * hair.part - 0.02, -1.13, 0.25, 0.19), hair.colour)
    if hair.length > HANGING:
        wide = SIDE + 0.6 * hair.volume
        right = _wavy([(wide, -0.30), (wide + 0.04, 0.35), (wide, hair.length)], hair.wave)
        sketch.fill(np.concatenate([right, mirrored(right, -1.0)[::-1]]), shade)


def draw_hair_front(sketch: Sketch, hair: Hair, rng: np.random.Generator) -> None:
    """The hair on the skull, its fringe, the locks beside the face, and single strands."""
    if hair.bald:
        _draw_sides(sketch, hair)
        return
    x = np.linspace(-0.66, 0.66, 41)
    inner = np.stack([x, _hairline(hair, x)], axis=1)
    outer = _skull(hair, np.linspace(0.0, np.pi, 40))
    end = min(hair.length, 0.12)
    left = np.array([[-SIDE - 0.5 * hair.volume, end], [-0.70, end], [-0.69, -0.2]])
    right = mirrored(left, -1.0)[::-1]
    shadow = np.concatenate([inner, inner[::-1] + np.array([0.0, 0.04])])
    sketch.fill(shadow, mix(hair.colour, BLACK, 0.6), 0.28)
    sketch.fill(np.concatenate([outer, right[::-1], inner[::-1], left[::-1]]), hair.colour)
    _draw_strands(sketch, hair, rng)
    if hair.length > HANGING:
        for side in (1.0, -1.0):
            _draw_lock(sketch, hair, side, rng)


def _hairline(hair: Hair, x: Points) -> Points:
    """The y of the edge between forehead and hair at each x."""
    u = np.abs(x) / 0.66
    edge = hair.hairline + 0.32 * u**4 - hair.recess * np.exp(-(((u - 0.68) / 0.24) ** 2))
    away_from_part = 1.0 - np.exp(-(((x - hair.part) / 0.13) ** 2))
    tips = 0.05 * np.abs(np.sin(11.0 * x + 9.0 * hair.part))
    line: Points = edge + hair.fringe * (1.0 - u**4) * (0.26 * away_from_part + tips)
    return line


def _skull(hair: Hair, turn: Points) -> Points:
    """The outer edge of the hair, from the left ear (turn 0) over the top to the right ear (pi)."""
    curls = 1.0 + 0.022 * hair.wave * np.sin(13.0 * turn)
    across = (SIDE + 0.6 * hair.volume) * curls
    up = (0.80 + hair.volume) * curls
    return np.stack([-across * np.cos(turn), -0.22 - up * np.sin(turn)], axis=1)


def _draw_strands(sketch: Sketch, hair: Hair, rng: np.random.Generator) -> None:
    """Single hairs from the hairline over the skull; grey ones come first at the temples."""
    start = rng.uniform(-0.62, 0.62, 30)
    roots = np.stack([start, _hairline(hair, start) - 0.01], axis=1)
    tips = _skull(hair, np.pi / 2 + start / 0.66 * 1.25)
    ends = roots + (tips - roots) * rng.uniform(0.5, 0.95, (len(start), 1))
    bends = (roots + ends) / 2 + np.stack(
        [0.04 * np.sign(start - hair.part), np.full(len(start), -0.02)], axis=1
    )
    t = np.linspace(0.0, 1.0, 6)[:, None]
    for root, bend, end in zip(roots, bends, ends, strict=True):
        line = root * (1 - t) ** 2 + bend * 2 * t * (1 - t) + end * t**2
        sketch.stroke(line, 0.022, _strand(hair, float(abs(root[0])), rng), 0.5)
    shine = curve([(-0.34, -0.83), (-0.1, -0.93 - 0.4 * hair.volume), (0.2, -0.9)], steps=5)
    sketch.stroke(shine, 0.10, mix(hair.colour, WHITE, 0.55), 0.08 + 0.50 * hair.gloss)


def _strand(hair: Hair, out: float, rng: np.random.Generator) -> Colour:
    if rng.random() < 2.2 * hair.grey * out + hair.grey - 0.12:
        return mix(SILVER, WHITE, rng.uniform(0.0, 0.8))
    return mix(hair.colour, BLACK if rng.random() < 0.6 else WHITE, rng.uniform(0.1, 0.32))


def _draw_lock(sketch: Sketch, hair: Hair, side: float, rng: np.random.Generator) -> None:
    """Hair that hangs beside the face, over ear and cheek."""
    wide, end = SIDE + 0.8 * hair.volume, hair.length
    outer = _wavy([(wide - 0.02, -0.45), (wide + 0.05, 0.35), (wide + 0.02, end)], hair.wave)
    inner = _wavy([(0.60, -0.42), (0.67, 0.05), (0.66, 0.5), (0.62, end + 0.04)], 0.7 * hair.wave)
    sketch.fill(mirrored(np.concatenate([outer, inner[::-1]]), side), hair.colour)
    for share in rng.uniform(0.1, 0.9, 6):
        rows = np.linspace(0, 1, 12)
        take = [np.minimum((rows * (len(edge) - 1)).astype(int), len(edge) - 1) for edge in (inner, outer)]
        line = inner[take[0]] * (1 - share) + outer[take[1]] * share
        sketch.stroke(mirrored(line, side), 0.026, _strand(hair, 0.3, rng), 0.5)


def _draw_sides(sketch: Sketch, hair: Hair) -> None:
    """What is left on a bald head, and the light on its crown."""
    patch = curve(
        [(0.71, 0.0), (0.66, -0.2), (0.63, -0.5), (0.69, -0.6), (0.78, -0.42), (0.81, -0.2), (0.77, 0.06)],
        True,
    )
    for side in (1.0, -1.0):
        sketch.fill(mirrored(patch, side), hair.colour)
    sketch.glow(-0.2, -0.76, 0.26, 0.12, WHITE, 0.3)


def _wavy(points: list[tuple[float, float]], wave: float) -> Points:
    """A smooth line through `points` that swings sideways, the more the lower."""
    line = curve(points, steps=12)
    swing = 0.07 * wave * np.sin(7.0 * line[:, 1]) * np.clip(line[:, 1] + 0.3, 0.0, 1.0)
    return line + np.stack([swing, np.zeros(len(line))], axis=1)
