"""The lasting looks of a person, drawn at random around what age and gender make likely.

No single trait decides: every one overlaps between the genders, and each sign of age has its own scatter, so
that people near a class border can look a few years younger or older than they are.
"""

from dataclasses import dataclass

import numpy as np

from data.synthetic.canvas import BLACK, COLOURS, Colour, mix

SILVER: Colour = (205.0, 205.0, 208.0)
SKINS: list[Colour] = [(252, 226, 205), (236, 198, 166), (215, 170, 132), (160, 110, 78), (108, 72, 54)]
HAIRS: list[Colour] = [(28, 24, 27), (46, 33, 29), (74, 49, 36), (126, 76, 44), (206, 168, 108)]


@dataclass(frozen=True)
class Person:
    """The looks that all images of one person share. Shares are in 0..1, sizes in head units or factors."""

    skin: Colour
    hair: Colour
    gloss: float  # the light on young hair
    hair_length: float  # y where the hair ends: 0 at the ears, 1 at the chin, 1.8 on the shoulders
    volume: float  # how far the hair stands off the skull
    hairline: float  # y of the middle of the hairline
    face_width: float
    jaw: float
    neck: float
    wrinkles: float
    eye_size: float
    lashes: float
    brow_width: float
    lips: Colour
    beard: float
    clothes: Colour


def imagine_person(age: int, gender: str, rng: np.random.Generator) -> Person:
    """Draw the looks of a person of `age` years and `gender` ("male" or "female") from `rng`."""
    female = gender == "female"
    looks = age + rng.normal(0.0, 1.3)  # people look a little older or younger than they are
    lean = (1.0 if female else -1.0) + rng.normal(0.0, 0.30)  # feminine above 0; the two overlap
    ageing = _ramp(looks, 25.0, 72.0)
    skin = _pick(SKINS, rng)
    grey = float(1.0 / (1.0 + np.exp(-(looks - rng.normal(57.5, 2.2)) / 3.2)))
    receding = 0.0 if female else max(0.0, rng.normal(0.0, 0.6)) * _ramp(looks, 26.0, 50.0)
    bald = receding > 0.75
    fringe = 0.2 if rng.random() < 0.6 - 0.5 * _ramp(looks, 25.0, 45.0) else 0.0
    made_up = rng.random() < (0.68 if female else 0.02)
    return Person(
        skin=mix(skin, (150.0, 145.0, 140.0), 0.12 * ageing),
        hair=mix(_pick(HAIRS, rng), SILVER, 0.92 * grey),
        gloss=1.0 - _ramp(looks + rng.normal(0.0, 1.5), 25.0, 36.0),
        hair_length=rng.uniform(0.5, 1.9) if rng.random() < (0.72 if female else 0.09) else 0.0,
        volume=0.0 if bald else 0.1,
        hairline=-1.0 if bald else -0.60 - 0.22 * receding + fringe + rng.normal(0.0, 0.03),
        face_width=0.735 - 0.012 * lean + rng.normal(0.0, 0.022),
        jaw=0.585 - 0.042 * lean + rng.normal(0.0, 0.02),
        neck=0.40 - 0.042 * lean + rng.normal(0.0, 0.012),
        wrinkles=_marks(looks + rng.normal(0.0, 1.0)),
        eye_size=1.16 + 0.05 * lean - 0.30 * _marks(looks) + rng.normal(0.0, 0.03),
        lashes=_ramp(lean + rng.normal(0.0, 0.4), -1.4, 1.4),
        brow_width=max(0.064 - 0.021 * lean + rng.normal(0.0, 0.008), 0.03),
        lips=mix(skin, (190, 50, 75) if made_up else (176, 70, 72), 0.75 if made_up else 0.45),
        beard=0.0 if female or rng.random() < 0.45 else rng.uniform(0.15, 1.0),
        clothes=_pick(COLOURS, rng),
    )


def _ramp(value: float, start: float, end: float) -> float:
    """0 up to `start`, 1 from `end`, a straight line between."""
    return float(np.clip((value - start) / (end - start), 0.0, 1.0))


def _marks(years: float) -> float:
    """How far the years have marked a face, 0..1: mostly around 30 and 60, so that the classes differ."""
    return float(np.interp(years, [23.0, 33.0, 56.0, 64.0, 75.0], [0.0, 0.45, 0.58, 0.90, 1.0]))


def _pick(colours: list[Colour], rng: np.random.Generator) -> Colour:
    """A random shade between two neighbours of `colours`, a little lighter or darker."""
    index = int(rng.integers(len(colours) - 1))
    return mix(mix(colours[index], colours[index + 1], rng.random()), BLACK, rng.uniform(0.0, 0.1))
