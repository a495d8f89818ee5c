"""What the years draw on a face: lines, bags and spots. Most of it shows above a mask, as in life."""

import numpy as np

from data.synthetic.canvas import BLACK, Colour, Sketch, curve, mix
from data.synthetic.face import EYE_Y
from data.synthetic.person import Person


def draw_ageing(sketch: Sketch, person: Person, rng: np.random.Generator) -> None:
    """Draw the person's signs of age on the bare head, before eyes, nose and mouth."""
    crease = mix(mix(person.skin, (110, 50, 40), 0.55), BLACK, 0.20)
    _draw_forehead(sketch, person, crease)
    _draw_around_eyes(sketch, person, crease)
    for side in (1.0, -1.0):
        fold = [(side * 0.17, 0.30), (side * 0.27, 0.44), (side * 0.29, 0.58)]
        sketch.stroke(curve(fold), 0.04, crease, 0.6 * person.lines)
        jowl = [(side * 0.34, 0.68), (side * 0.38, 0.80), (side * 0.33, 0.89)]
        sketch.stroke(curve(jowl), 0.04, crease, 0.5 * person.sag)
    for _ in range(round(9 * person.spots)):
        x, y = rng.uniform(-0.5, 0.5), rng.choice([rng.uniform(-0.7, -0.4), rng.uniform(0.1, 0.5)])
        sketch.glow(float(x), float(y), 0.04, 0.033, mix(person.skin, (110, 66, 40), 0.6), 0.5, 2)


def _draw_forehead(sketch: Sketch, person: Person, crease: Colour) -> None:
    """First one line across the forehead, later three, and the frown between the brows."""
    for row, y in enumerate((-0.42, -0.52, -0.61)):
        strength = float(np.clip(2.2 * person.lines - 0.45 * row, 0.0, 1.0))
        half = 0.22 + 0.16 * strength
        wave = [
            (-half, y + 0.02),
            (-0.5 * half, y - 0.012),
            (0.0, y + 0.008),
            (0.5 * half, y - 0.012),
            (half, y + 0.02),
        ]
        sketch.stroke(curve(wave), 0.026 + 0.020 * strength, crease, 0.80 * strength)
    for side in (1.0, -1.0):
        frown = curve([(side * 0.065, EYE_Y - 0.24), (side * 0.055, EYE_Y - 0.12)], steps=4)
        sketch.stroke(frown, 0.03, crease, 0.75 * max(0.0, person.lines - 0.25))


def _draw_around_eyes(sketch: Sketch, person: Person, crease: Colour) -> None:
    """Bags below the eyes, crow's feet beside them, a heavier fold above."""
    for side in (1.0, -1.0):
        x = side * person.eye_spacing
        shadow = mix(person.skin, (96, 60, 80), 0.6)
        sketch.glow(x, EYE_Y + 0.13, 0.19, 0.085, shadow, 0.75 * person.bags, 3)
        bag = [(x - 0.14, EYE_Y + 0.09), (x - 0.02, EYE_Y + 0.165), (x + 0.13, EYE_Y + 0.10)]
        sketch.stroke(curve(bag), 0.03, crease, 0.8 * person.bags)
        outer = x + side * 0.18
        for drop in (-0.06, 0.0, 0.06):
            foot = curve(
                [(outer, EYE_Y + 0.35 * drop), (outer + side * 0.12, EYE_Y + 0.02 + 1.5 * drop)], steps=4
            )
            sketch.stroke(foot, 0.026, crease, 0.85 * max(0.0, person.lines - 0.12))
        fold = [(x - 0.14, EYE_Y - 0.08), (x, EYE_Y - 0.135), (x + side * 0.17, EYE_Y - 0.04)]
        sketch.stroke(curve(fold), 0.024, crease, 0.25 + 0.5 * person.sag)
