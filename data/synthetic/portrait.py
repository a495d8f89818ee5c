"""An image of a drawn person: pose, background, body, face, mask, light and noise, in this order."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from data.synthetic.ageing import draw_ageing
from data.synthetic.canvas import Sketch
from data.synthetic.face import (
    Expression,
    draw_beard,
    draw_ears,
    draw_eyes,
    draw_glasses,
    draw_head,
    draw_nose_and_mouth,
)
from data.synthetic.hair import draw_hair_behind, draw_hair_front
from data.synthetic.mask import choose_mask, draw_mask
from data.synthetic.person import Person
from data.synthetic.scene import draw_background, draw_body

# True: a mask worn as it should be; False: worn incorrectly; None: no mask.
SHOTS: dict[str, bool | None] = {
    **{f"mask{number}": True for number in range(1, 6)},
    "incorrect_mask": False,
    "normal": None,
}

HEAD = 0.315  # half the height of the head as a share of the image's height
SUPERSAMPLING = 3


def draw_portrait(
    person: Person, shot: str, rng: np.random.Generator, size: tuple[int, int] = (96, 128)
) -> NDArray[np.uint8]:
    """Draw `person` in one `shot` of the challenge ("mask1" to "mask5", "incorrect_mask", "normal").

    `size` is (width, height) in pixels; the answer is uint8 RGB [height, width, 3]. Pose, expression,
    background, mask and light come from `rng`; the person stays who they are.
    """
    width, height = (side * SUPERSAMPLING for side in size)
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image, "RGBA")
    scale = HEAD * min(height, 1.4 * width) * rng.uniform(0.91, 1.09)
    centre = (width * (0.5 + rng.normal(0.0, 0.025)), height * (0.50 + rng.normal(0.0, 0.02)))
    roll, turn, nod = (
        rng.normal(0.0, [0.05, 0.06, 0.035]).clip([-0.12, -0.13, -0.07], [0.12, 0.13, 0.07]).tolist()
    )
    lit_from = float(rng.uniform(-1.0, 1.0))
    draw_background(draw, (width, height), rng)
    upright = Sketch(draw, centre, scale)
    head = Sketch(draw, centre, scale, roll, turn, nod)
    draw_hair_behind(head, person.hair)
    draw_body(upright, person)
    _draw_face(head, person, SHOTS[shot], lit_from, rng)
    small = np.asarray(image.reduce(SUPERSAMPLING), dtype=np.float32)
    return _expose(small, lit_from, rng)


def _draw_face(
    sketch: Sketch, person: Person, worn: bool | None, lit_from: float, rng: np.random.Generator
) -> None:
    expression = Expression(rng.uniform(-0.3, 1.0), rng.uniform(0.85, 1.08), rng.uniform(-1.0, 1.0))
    draw_ears(sketch, person)
    draw_head(sketch, person, lit_from)
    draw_ageing(sketch, person, rng)
    draw_beard(sketch, person)
    draw_eyes(sketch, person, expression)
    draw_nose_and_mouth(sketch, person, expression)
    if worn is not None:
        draw_mask(sketch, choose_mask(worn, rng), person.face_width)
    if person.frames is not None:
        draw_glasses(sketch, person, person.frames)
    draw_hair_front(sketch, person.hair, rng)


def _expose(image: NDArray[np.float32], lit_from: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Light from one side, a colour cast, a darker or brighter exposure, and the sensor's noise."""
    height, width, _ = image.shape
    across = np.linspace(-1.0, 1.0, width, dtype=np.float32) * lit_from
    down = np.linspace(1.0, -1.0, height, dtype=np.float32)
    light = 1.0 + 0.10 * across[None, :] + rng.uniform(0.0, 0.08) * down[:, None]
    cast = rng.normal(1.0, 0.022, 3).astype(np.float32)
    exposure = np.float32(rng.uniform(0.82, 1.08))
    grain = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(1.0, 4.5))
    exposed = image * (light * exposure).astype(np.float32)[..., None] * cast + grain
    return np.clip(np.rint(exposed), 0, 255).astype(np.uint8)
