"""An image of a person: background, body, face, mask and light."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from data.synthetic.canvas import BLACK, COLOURS, WHITE, Canvas, Points, curve, ink, mix, symmetric
from data.synthetic.face import draw_face, draw_hair
from data.synthetic.person import Person

# True: a mask worn as it should be; False: worn incorrectly; None: no mask.
SHOTS: dict[str, bool | None] = {
    **dict.fromkeys(["mask1", "mask2", "mask3", "mask4", "mask5"], True),
    "incorrect_mask": False,
    "normal": None,
}
HEAD = 0.315  # half the height of the head as a share of the image's height
SUPERSAMPLING = 3


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
    draw_face(head, person)
    worn = SHOTS[shot]
    if worn is not None:
        _draw_mask(head, person.face_width, worn, rng)
    draw_hair(head, person)
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
