"""What is around the face: the place behind it, and neck, shoulders and clothes below it."""

import numpy as np
from PIL import ImageDraw

from data.synthetic.canvas import BLACK, WHITE, Colour, Sketch, curve, mirrored, mix
from data.synthetic.person import Person

WALLS: list[Colour] = [
    (226, 222, 214), (198, 208, 216), (214, 200, 180), (150, 160, 168), (176, 190, 170), (120, 132, 146),
    (232, 214, 204), (92, 98, 106), (186, 172, 190), (204, 180, 140), (70, 84, 92), (244, 242, 238),
]  # fmt: skip


def draw_background(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator) -> None:
    """A wall, and before it nothing, panels, shelves, lights out of focus or a window; `size` in pixels."""
    width, height = size
    wall, other = (WALLS[index] for index in rng.integers(len(WALLS), size=2))
    other = mix(wall, other, rng.uniform(0.2, 0.7))
    bands = 24
    for band in range(bands):
        top, bottom = height * band // bands, height * (band + 1) // bands
        draw.rectangle((0, top, width, bottom), fill=_ink(mix(wall, other, band / bands)))
    scene = str(rng.choice(["plain", "panels", "shelves", "lights", "window"]))
    if scene == "panels":
        step = width * rng.uniform(0.12, 0.3)
        for x in np.arange(rng.uniform(0, step), width, step):
            draw.line((x, 0, x, height), fill=_ink(mix(other, BLACK, 0.25), 0.5), width=3)
    elif scene == "shelves":
        _draw_shelves(draw, width, height, other, rng)
    elif scene == "lights":
        for _ in range(14):
            x, y, radius = rng.uniform(0, width), rng.uniform(0, height), width * rng.uniform(0.03, 0.12)
            colour = mix(WALLS[rng.integers(len(WALLS))], WHITE, 0.3)
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_ink(colour, 0.35))
    elif scene == "window":
        left = width * rng.uniform(-0.2, 0.7)
        draw.rectangle((left, height * 0.06, left + width * 0.5, height * 0.55), fill=_ink(WHITE, 0.65))
        draw.line(
            (left + width * 0.25, height * 0.06, left + width * 0.25, height * 0.55), fill=_ink(wall), width=5
        )


def _draw_shelves(
    draw: ImageDraw.ImageDraw, width: int, height: int, board: Colour, rng: np.random.Generator
) -> None:
    for floor in np.arange(rng.uniform(0.1, 0.25), 1.0, 0.24) * height:
        x = 0.0
        while x < width:
            thick, tall = width * rng.uniform(0.03, 0.07), height * rng.uniform(0.10, 0.18)
            spine = mix(WALLS[rng.integers(len(WALLS))], BLACK, rng.uniform(0.0, 0.4))
            draw.rectangle((x, floor - tall, x + thick - 1, floor), fill=_ink(spine, 0.7))
            x += thick
        draw.rectangle((0, floor, width, floor + 5), fill=_ink(mix(board, BLACK, 0.4)))


def _ink(colour: Colour, alpha: float = 1.0) -> tuple[int, int, int, int]:
    red, green, blue = (round(channel) for channel in colour)
    return red, green, blue, round(255 * alpha)


def draw_body(sketch: Sketch, person: Person) -> None:
    """Neck, shoulders and what the person wears; one body for everybody but for the neck's width."""
    neck, cloth, skin = person.neck, person.clothes, person.skin
    column = curve([(neck, 0.55), (neck, 1.05), (neck + 0.08, 1.35), (neck + 0.10, 1.75)])
    sketch.fill(np.concatenate([column, mirrored(column, -1.0)[::-1]]), mix(skin, BLACK, 0.14))
    chin_shadow = curve([(-0.42, 0.75), (-0.25, 1.08), (0.0, 1.15), (0.25, 1.08), (0.42, 0.75)])
    sketch.fill(chin_shadow, mix(skin, BLACK, 0.5), 0.35)
    collar = {"tee": 1.42, "vee": 1.46, "hood": 1.36, "turtleneck": 1.06, "shirt": 1.52}[person.garment]
    wide = neck + (0.02 if person.garment == "turtleneck" else 0.10)
    shoulder = 2.6 * neck + 0.22
    half = [
        (wide, collar - 0.26),
        (wide + 0.05, 1.30),
        (shoulder - 0.28, 1.46),
        (shoulder, 1.70),
        (shoulder + 0.12, 2.6),
    ]
    neckline = curve(
        [(-wide, collar - 0.26), (-0.6 * wide, collar - 0.05), (0.0, collar), (0.6 * wide, collar - 0.05)]
    )
    right = curve(half)
    torso = np.concatenate([neckline, right, mirrored(right, -1.0)[::-1]])
    sketch.fill(torso * np.array([1.015, 0.99]), mix(cloth, BLACK, 0.4), 0.6)
    sketch.fill(torso, cloth)
    sketch.stroke(np.concatenate([neckline, right[:1]]), 0.05, mix(cloth, BLACK, 0.28), 0.8, taper=0.2)
    for side in (1.0, -1.0):
        fold = curve([(side * (shoulder - 0.25), 1.60), (side * (shoulder - 0.33), 2.1)])
        sketch.stroke(fold, 0.04, mix(cloth, BLACK, 0.35), 0.5)
        if person.garment == "shirt":
            flap = np.array(
                [[0.0, 1.54], [side * wide, 1.24], [side * (wide + 0.10), 1.40], [side * 0.22, 1.72]]
            )
            sketch.fill(flap, mix(cloth, WHITE, 0.35))
            sketch.stroke(curve([tuple(flap[0]), tuple(flap[3])]), 0.03, mix(cloth, BLACK, 0.35), 0.6)
        if person.garment == "hood":
            hood = curve([(0.10, 1.45), (0.40, 1.30), (0.62, 1.16), (0.72, 1.36), (0.40, 1.60)], closed=True)
            sketch.fill(mirrored(hood, side), mix(cloth, BLACK, 0.16))
