"""Who is drawn: a person's lasting looks, drawn at random around what their age and gender make likely.

No single trait decides: every one overlaps between the genders, and each sign of age has its own scatter, so
that people near a class border can look a few years younger or older than they are.
"""

from dataclasses import dataclass

import numpy as np

from data.synthetic.canvas import BLACK, SILVER, Colour, along, mix

SKINS: list[Colour] = [
    (252, 226, 205), (243, 208, 178), (229, 187, 150), (203, 155, 115), (160, 110, 78), (108, 72, 54),
]  # fmt: skip
HAIRS: list[Colour] = [
    (28, 24, 27), (46, 33, 29), (74, 49, 36), (112, 70, 42), (150, 86, 48), (196, 150, 88), (226, 196, 134),
]  # fmt: skip
DYES: list[Colour] = [(170, 96, 120), (90, 110, 160), (140, 60, 50)]
IRISES: list[Colour] = [(44, 28, 22), (78, 50, 30), (96, 88, 50), (84, 116, 96), (86, 122, 160)]
LIPS: list[Colour] = [(200, 60, 80), (176, 40, 60), (214, 100, 110), (150, 50, 80)]
SHADES: list[Colour] = [(120, 70, 130), (60, 100, 150), (150, 80, 60), (60, 120, 110), (190, 90, 120)]
CLOTHES: list[Colour] = [
    (240, 240, 238), (36, 38, 46), (150, 196, 222), (40, 62, 108), (206, 92, 84), (116, 140, 108),
    (232, 190, 196), (128, 128, 134), (222, 196, 152), (92, 60, 86), (224, 168, 62), (70, 128, 132),
]  # fmt: skip
FRAMES: list[Colour] = [(30, 28, 30), (88, 58, 40), (150, 150, 156), (150, 110, 60), (110, 40, 50)]


@dataclass(frozen=True)
class Hair:
    """A hairstyle, in head units: where it ends, where the forehead begins and how it falls."""

    colour: Colour
    grey: float  # share of grey, 0..1
    volume: float  # how far it stands off the skull
    length: float  # y where it ends: -0.1 above the ears, 1.0 at the chin, 1.8 on the shoulders
    hairline: float  # y of the middle of the hairline
    recess: float  # how far the temples have receded
    fringe: float  # 0 none, 1 down to the brows
    part: float  # x of the parting
    wave: float  # 0 straight, 1 curly
    bun: bool
    gloss: float  # the light on young hair, 0..1
    bald: bool  # hair on the sides only


@dataclass(frozen=True)
class Person:
    """The looks that all images of one person share. Shares are in 0..1, factors around 1."""

    age: int
    gender: str
    skin: Colour
    hair: Hair
    face_width: float
    jaw: float
    sag: float
    lines: float
    bags: float
    spots: float
    eye_size: float
    eye_spacing: float
    iris: Colour
    lashes: float
    eyelids: Colour
    brow: Colour
    brow_width: float
    brow_arch: float
    nose: float
    lips: Colour
    lip_fullness: float
    blush: float
    beard: float
    frames: Colour | None
    round_frames: bool
    earrings: bool
    neck: float
    clothes: Colour
    garment: str


def imagine_person(age: int, gender: str, rng: np.random.Generator) -> Person:
    """Draw a person of `age` years and `gender` ("male" or "female") from `rng`."""
    female = gender == "female"
    looks = age + rng.normal(0.0, 1.3)  # people look a little older or younger than they are
    lean = (1.0 if female else -1.0) + rng.normal(0.0, 0.30)  # feminine above 0; the two overlap
    ageing = _ramp(looks, 25.0, 72.0)
    skin = _skin(ageing, rng)
    hair = _hair(looks, female, rng)
    natural_lips = mix(skin, (176, 70, 72), 0.45)
    made_up = rng.random() < (0.68 if female else 0.02)
    beard = 0.0 if female or rng.random() < 0.45 else rng.uniform(0.15, 1.0)
    brow = mix(mix(hair.colour, (40, 30, 28), 0.55), SILVER, 0.75 * hair.grey**2)
    return Person(
        age=age,
        gender=gender,
        skin=skin,
        hair=hair,
        face_width=0.735 - 0.012 * lean + rng.normal(0.0, 0.022),
        jaw=0.585 - 0.042 * lean + rng.normal(0.0, 0.02),
        sag=_ramp(looks + rng.normal(0.0, 3.0), 45.0, 72.0),
        lines=_signs(looks + rng.normal(0.0, 1.0)),
        bags=_signs(looks + rng.normal(0.0, 1.0)),
        spots=_ramp(looks + rng.normal(0.0, 4.0), 45.0, 80.0),
        eye_size=1.16 + 0.05 * lean - 0.30 * _signs(looks) + rng.normal(0.0, 0.03),
        eye_spacing=0.315 + rng.normal(0.0, 0.012),
        iris=along(IRISES, float(rng.beta(1.0, 2.2))),
        lashes=float(np.clip(0.5 + 0.36 * lean + rng.normal(0.0, 0.15), 0.0, 1.0)),
        eyelids=mix(mix(skin, BLACK, 0.6), SHADES[rng.integers(len(SHADES))], 0.75 if made_up else 0.0),
        brow=brow,
        brow_width=float(np.clip(0.064 - 0.021 * lean + rng.normal(0.0, 0.008), 0.03, 0.1)),
        brow_arch=0.035 + 0.018 * lean + rng.normal(0.0, 0.012),
        nose=1.0 - 0.06 * lean + 0.12 * ageing + rng.normal(0.0, 0.07),
        lips=mix(natural_lips, LIPS[rng.integers(len(LIPS))], 0.75) if made_up else natural_lips,
        lip_fullness=1.0 + 0.12 * lean - 0.35 * ageing + rng.normal(0.0, 0.1),
        blush=float(np.clip(0.22 + 0.10 * lean - 0.25 * ageing + rng.normal(0.0, 0.07), 0.0, 0.5)),
        beard=beard,
        frames=FRAMES[rng.integers(len(FRAMES))] if rng.random() < 0.15 + 0.35 * ageing else None,
        round_frames=bool(rng.random() < 0.4),
        earrings=bool(rng.random() < (0.45 if female else 0.04)),
        neck=0.40 - 0.042 * lean + rng.normal(0.0, 0.012),
        clothes=_jitter(CLOTHES[rng.integers(len(CLOTHES))], 12.0, rng),
        garment=str(rng.choice(["tee", "vee", "hood", "turtleneck", "shirt"], p=_wardrobe(ageing))),
    )


def _ramp(years: float, start: float, end: float) -> float:
    """0 up to `start`, 1 from `end`, a straight line between."""
    return float(np.clip((years - start) / (end - start), 0.0, 1.0))


def _signs(years: float) -> float:
    """How far the years have marked a face, 0..1: mostly around 30 and 60, so that the classes can be told."""
    return float(np.interp(years, [23.0, 33.0, 56.0, 64.0, 75.0], [0.0, 0.45, 0.58, 0.90, 1.0]))


def _jitter(colour: Colour, spread: float, rng: np.random.Generator) -> Colour:
    red, green, blue = np.clip(np.array(colour) + rng.normal(0.0, spread, 3), 0.0, 255.0).tolist()
    return red, green, blue


def _wardrobe(ageing: float) -> list[float]:
    """Chances of the five garments; shirts grow a little likelier with age and hoods rarer."""
    shirt, hood = 0.15 + 0.25 * ageing, 0.22 - 0.17 * ageing
    rest = 1.0 - shirt - hood
    return [0.45 * rest, 0.3 * rest, hood, 0.25 * rest, shirt]


def _skin(ageing: float, rng: np.random.Generator) -> Colour:
    skin = _jitter(along(SKINS, float(rng.beta(1.2, 1.8))), 4.0, rng)
    grey = sum(skin) / 3.0
    return mix(skin, (grey + 6.0, grey, grey - 6.0), 0.22 * ageing)


def _hair(looks: float, female: bool, rng: np.random.Generator) -> Hair:
    grey = 1.0 / (1.0 + np.exp(-(looks - rng.normal(57.5, 2.2)) / 3.2))
    if rng.random() < (0.08 if female else 0.03):
        grey *= 0.35  # dyed, with the roots showing
    colour = along(HAIRS, float(rng.beta(1.1, 2.4)))
    if looks < 45.0 and rng.random() < 0.05:
        colour = DYES[rng.integers(len(DYES))]
    receding = 0.0 if female else max(0.0, rng.normal(0.0, 0.6)) * _ramp(looks, 26.0, 50.0)
    style = str(rng.choice(["short", "medium", "long", "bun"], p=_styles(female, looks)))
    length = {
        "short": rng.uniform(-0.20, 0.08), "medium": rng.uniform(0.45, 1.05),
        "long": rng.uniform(1.2, 1.9), "bun": rng.uniform(-0.15, 0.0),
    }[style]  # fmt: skip
    volume = {"short": 0.09, "medium": 0.12, "long": 0.12, "bun": 0.06}[style] + rng.uniform(-0.03, 0.05)
    hairline = -0.60 - 0.22 * receding + rng.normal(0.0, 0.03)
    fringe = rng.uniform(0.35, 0.95) if rng.random() < 0.60 - 0.50 * _ramp(looks, 25.0, 45.0) else 0.0
    return Hair(
        colour=mix(_jitter(colour, 5.0, rng), SILVER, 0.92 * grey),
        grey=float(grey),
        volume=float(volume - 0.03 * _ramp(looks, 40.0, 75.0)),
        length=float(length),
        hairline=max(hairline, -0.86),
        recess=float(min(0.30 * receding, 0.28)),
        fringe=float(fringe * (receding < 0.5)),
        part=float(rng.uniform(-0.4, 0.4)),
        wave=float(rng.beta(1.0, 2.0)),
        bun=style == "bun",
        gloss=1.0 - _ramp(looks + rng.normal(0.0, 1.5), 25.0, 36.0),
        bald=bool(receding > 0.75 and rng.random() < 0.75),
    )


def _styles(female: bool, looks: float) -> list[float]:
    """Chances of short, medium, long hair and a bun: a lean, never a rule."""
    if not female:
        return [0.88, 0.07, 0.03, 0.02]
    short = 0.08 + 0.12 * _ramp(looks, 40.0, 75.0)
    return [short, 0.36, 0.74 - 0.36 - short, 0.26]
