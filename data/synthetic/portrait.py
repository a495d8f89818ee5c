"""An image of a person: background, body, face, mask and light."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from data.synthetic.canvas import BLACK, COLOURS, MIRROR, WHITE, Canvas, Points, curve, ellipse, ink, mix, symmetric
from data.synthetic.person import Person

# True: a mask worn as it should be; False: worn incorrectly; None: no mask.
SHOTS: dict[str, bool | None] = {
    **dict.fromkeys(["mask1", "mask2", "mask3", "mask4", "mask5"], True),
    "incorrect_mask": False,
    "normal": None,
}
HEAD = 0.315  # half the height of the head as a share of the image's height
SUPERSAMPLING = 3
EYE_X, EYE_Y = 0.315, -0.06  # the middle of the right eye


def draw_portrait(
    person: Person, shot: str, rng: np.random.Generator, size: tuple[int, int] = (96, 128)
) -> NDArray[np.uint8]:
    """Draw `person` in one `shot` of the challenge ("mask1" to "mask5", "incorrect_mask", "normal").

    `size` is (width, height) in pixels; the image is uint8 RGB [height, width, 3]. Pose, background, mask and
    light come from `rng`; the person stays the same.
    """
    width, height = (side * SUPERSAMPLING for side in size)
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image, "RGBA")
    scale = HEAD * min(height, 1.4 * width) * rng.uniform(0.91, 1.09)
    centre = (width * (0.5 + rng.normal(0.0, 0.025)), height * (0.50 + rng.normal(0.0, 0.02)))
    head = Canvas(draw, centre, scale, roll=rng.uniform(-0.1, 0.1))
    _draw_background(draw, width, height, rng)
    _draw_body(Canvas(draw, centre, scale), person)
    _draw_face(head, person)
    worn = SHOTS[shot]
    if worn is not None:
        _draw_mask(head, person.face_width, worn, rng)
    _draw_hair(head, person)
    return _expose(np.asarray(image.reduce(SUPERSAMPLING), dtype=np.float32), rng)


def _draw_background(draw: ImageDraw.ImageDraw, width: int, height: int, rng: np.random.Generator) -> None:
    """Draw a wall whose colour changes downwards, and before it nothing, panels or blurred lights."""
    first, last = (COLOURS[index] for index in rng.integers(len(COLOURS), size=2))
    for band in range(24):
        box = (0, height * band // 24, width, height * (band + 1) // 24)
        draw.rectangle(box, fill=ink(mix(first, last, 0.5 * band / 24)))
    scene = rng.choice(["plain", "panels", "lights"])
    for _ in range(0 if scene == "plain" else 12):
        x, y, radius = width * rng.random(), height * rng.random(), width * rng.uniform(0.03, 0.12)
        if scene == "panels":
            draw.rectangle((x, 0, x + radius, height), fill=ink(mix(last, BLACK, rng.uniform(0.0, 0.4)), 0.5))
        else:
            colour = mix(COLOURS[rng.integers(len(COLOURS))], WHITE, 0.3)
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink(colour, 0.35))


def _draw_body(canvas: Canvas, person: Person) -> None:
    """Draw neck, shoulders and clothes."""
    neck, cloth = person.neck, person.clothes
    column = curve([(neck, 0.55), (neck, 1.05), (neck + 0.08, 1.35), (neck + 0.10, 1.75)])
    canvas.fill(symmetric(column), mix(person.skin, BLACK, 0.14))
    shoulder = 2.6 * neck + 0.22
    neckline = curve([(0.0, 1.40), (0.6 * neck, 1.35), (neck + 0.06, 1.14)])
    side = curve([(neck + 0.13, 1.30), (shoulder - 0.28, 1.46), (shoulder, 1.70), (shoulder + 0.12, 2.6)])
    torso = symmetric(np.concatenate([neckline, side]))
    canvas.fill(torso * [1.015, 0.99], mix(cloth, BLACK, 0.4), 0.6)
    canvas.fill(torso, cloth)
    canvas.stroke(neckline, 0.05, mix(cloth, BLACK, 0.28), 0.8, both=True)


def _draw_face(canvas: Canvas, person: Person) -> None:
    """Draw the bare head without its hair."""
    width, jaw = person.face_width, person.jaw
    outline = curve(
        [
            (0.0, -1.0), (0.42, -0.92), (width - 0.06, -0.55), (width, -0.1), (width - 0.03, 0.22),
            (jaw, 0.60), (0.5 * jaw + 0.05, 0.88), (0.25 * jaw, 0.985), (0.0, 1.0),
        ]
    )  # fmt: skip
    canvas.fill(ellipse(width + 0.015, 0.05, 0.09, 0.18), mix(person.skin, BLACK, 0.12), both=True)
    canvas.fill(symmetric(outline) * 1.012, mix(person.skin, BLACK, 0.35))
    canvas.fill(symmetric(outline), person.skin)
    _draw_wrinkles(canvas, person)
    if person.beard:
        low = outline[outline[:, 1] > 0.10][::-1]  # from the chin up, and back to the lip
        lip = curve([(0.63, 0.08), (0.56, 0.25), (0.42, 0.46), (0.30, 0.52), (0.17, 0.42), (0.0, 0.40)])
        alpha = 0.16 + 0.3 * person.beard if person.beard < 0.6 else 0.92
        canvas.fill(symmetric(np.concatenate([low, lip])), mix(person.hair, BLACK, 0.15), alpha)
    _draw_eyes(canvas, person)
    _draw_nose_and_mouth(canvas, person)


def _draw_wrinkles(canvas: Canvas, person: Person) -> None:
    """Draw lines on forehead and cheeks, crow's feet, and bags below the eyes."""
    crease = mix(mix(person.skin, (110, 50, 40), 0.55), BLACK, 0.20)
    for row, y in enumerate((-0.42, -0.52, -0.61)):
        strength = float(np.clip(2.2 * person.wrinkles - 0.45 * row, 0.0, 1.0))
        half = 0.22 + 0.16 * strength
        canvas.stroke(curve([(-half, y + 0.02), (0.0, y - 0.01), (half, y + 0.02)]), 0.045, crease, 0.8 * strength)
    cheek = curve([(0.17, 0.30), (0.27, 0.44), (0.29, 0.58)])
    canvas.stroke(cheek, 0.04, crease, 0.6 * person.wrinkles, both=True)
    for drop in (-0.06, 0.0, 0.06):
        foot = curve([(EYE_X + 0.18, EYE_Y + 0.35 * drop), (EYE_X + 0.30, EYE_Y + 0.02 + 1.5 * drop)])
        canvas.stroke(foot, 0.026, crease, 0.85 * max(0.0, person.wrinkles - 0.12), both=True)
    bag = curve([(EYE_X - 0.14, EYE_Y + 0.09), (EYE_X - 0.02, EYE_Y + 0.165), (EYE_X + 0.13, EYE_Y + 0.10)])
    canvas.stroke(bag, 0.06, crease, 0.7 * person.wrinkles, both=True)


def _draw_eyes(canvas: Canvas, person: Person) -> None:
    wide, high = 0.155 * person.eye_size, 0.085 * person.eye_size
    across = np.linspace(-1.0, 1.0, 15)
    lid = high * (1 - across**2)
    upper = np.stack([EYE_X + wide * across, EYE_Y - lid], axis=1)
    lower = np.stack([EYE_X + wide * across, EYE_Y + 0.75 * lid], axis=1)
    white = mix(WHITE, (222, 205, 190), person.wrinkles)
    canvas.fill(np.concatenate([upper, lower[::-1]]), white, both=True)
    radius = 0.07 * person.eye_size
    canvas.fill(ellipse(EYE_X, EYE_Y - 0.01, radius, min(radius, 0.8 * high)), (60, 40, 30), both=True)
    canvas.fill(ellipse(EYE_X, EYE_Y - 0.01, 0.5 * radius, 0.5 * radius), BLACK, both=True)
    canvas.stroke(upper, 0.016 + 0.04 * person.lashes, (38, 28, 28), 0.95, both=True)
    brow = curve([(EYE_X - 0.17, EYE_Y - 0.18), (EYE_X, EYE_Y - 0.24), (EYE_X + 0.2, EYE_Y - 0.17)])
    canvas.stroke(brow, person.brow_width, mix(person.hair, BLACK, 0.4), 0.9, both=True)


def _draw_nose_and_mouth(canvas: Canvas, person: Person) -> None:
    shade = mix(person.skin, (96, 40, 30), 0.5)
    canvas.stroke(curve([(0.07, -0.08), (0.055, 0.10), (0.10, 0.25)]), 0.03, shade, 0.35)
    wings = [(-0.125, 0.27), (-0.07, 0.325), (0.0, 0.345), (0.07, 0.325), (0.125, 0.27)]
    canvas.stroke(curve(wings), 0.032, shade, 0.75)
    canvas.fill(ellipse(0.058, 0.318, 0.026, 0.014), mix(shade, BLACK, 0.5), 0.7, both=True)
    corner = (0.215, 0.585)
    upper, lower = curve([corner, (0.06, 0.545), (0.0, 0.56)]), curve([(0.0, 0.675), (0.11, 0.655), corner])
    canvas.fill(symmetric(np.concatenate([lower, upper])), person.lips)
    line = symmetric(curve([corner, (0.09, 0.606), (0.0, 0.614)]))
    canvas.stroke(line, 0.025, mix(person.lips, BLACK, 0.6), 0.8)


def _draw_hair(canvas: Canvas, person: Person) -> None:
    """Draw the hair on the skull, the light on it, and long hair beside the face."""
    x, turn = np.linspace(-0.66, 0.66, 41), np.linspace(0.0, np.pi, 40)
    hairline = np.stack([x, person.hairline + 0.32 * (x / 0.66) ** 4], axis=1)
    across, up, end = 0.75 + 0.6 * person.volume, 0.8 + person.volume, min(person.hair_length, 0.12)
    skull = np.stack([-across * np.cos(turn), -0.22 - up * np.sin(turn)], axis=1)  # from ear to ear
    side = np.array([[-across, end], [-0.70, end], [-0.69, -0.2]])
    canvas.fill(np.concatenate([skull, side * MIRROR, hairline[::-1], side[::-1]]), person.hair)
    shine = curve([(-0.34, -0.83), (-0.1, -0.97), (0.2, -0.9)])
    canvas.stroke(shine, 0.10, mix(person.hair, WHITE, 0.55), 0.08 + 0.50 * person.gloss)
    if person.hair_length > 0.3:
        end = person.hair_length
        outer = curve([(0.81, -0.45), (0.88, 0.35), (0.85, end)])
        inner = curve([(0.60, -0.42), (0.67, 0.05), (0.66, 0.5), (0.62, end + 0.04)])
        canvas.fill(np.concatenate([outer, inner[::-1]]), person.hair, both=True)


def _draw_mask(canvas: Canvas, width: float, worn: bool, rng: np.random.Generator) -> None:
    """Draw a mask over nose and chin if `worn`, else one below the nose or down on the chin.

    `width` is half the width of the face.
    """
    if worn:
        top, bottom, bridge, droop = rng.uniform(0.02, 0.14), rng.uniform(1.03, 1.10), 0.07, 0.0
    elif rng.random() < 0.6:
        top, bottom, bridge, droop = rng.uniform(0.39, 0.47), rng.uniform(1.05, 1.12), 0.0, 0.05
    else:
        top, bottom, bridge, droop = rng.uniform(0.72, 0.80), rng.uniform(1.14, 1.22), 0.0, 0.16
    fabric = mix(COLOURS[rng.integers(len(COLOURS))], BLACK, rng.uniform(0.0, 0.1))
    u = np.linspace(-1.0, 1.0, 31)
    upper = top + (0.04 - droop) * u**2 - bridge * np.exp(-((u / 0.24) ** 2))
    depth = np.maximum(bottom - 0.40 * np.abs(u) ** 3.5 - upper, 0.12)

    def row(down: float) -> Points:
        """A line across the fabric, at the top for `down` 0 and at the bottom for 1."""
        return np.stack([0.93 * width * u * (1.0 - 0.10 * down), upper + depth * down], axis=1)

    for y, corner in ((-0.10, row(0.12)[-1]), (0.14, row(0.75)[-1])):
        canvas.stroke(np.linspace(corner, (width + 0.02, y), 3), 0.035, WHITE, 0.95, both=True)
    canvas.fill(np.concatenate([row(1.0) + [0.0, 0.03], row(0.0)[::-1] - [0.0, 0.015]]), BLACK, 0.22)
    canvas.fill(np.concatenate([row(0.0), row(1.0)[::-1]]), fabric)
    contrast = mix(fabric, WHITE if sum(fabric) < 260 else BLACK, 0.35)
    plain, pleats, stripes = (), (0.3, 0.48, 0.66), (0.15, 0.35, 0.55, 0.75)
    for down in (0.04, *(plain, pleats, stripes)[rng.integers(3)]):
        canvas.stroke(row(down), 0.03, contrast, 0.6)


def _expose(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Add light from one side and from above, a colour cast, an exposure and the sensor's noise."""
    height, width, _ = image.shape
    across = np.linspace(-0.12, 0.12, width) * rng.uniform(-1.0, 1.0)
    down = np.linspace(0.08, -0.08, height) * rng.random()
    light = rng.uniform(0.82, 1.08) * (1.0 + across + down[:, None])
    noise = rng.normal(0.0, rng.uniform(1.0, 4.5), image.shape)
    exposed = image * light[..., None] * rng.normal(1.0, 0.022, 3) + noise
    return np.clip(np.rint(exposed), 0, 255).astype(np.uint8)
