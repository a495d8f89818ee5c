"""The face itself: head, ears, eyes, brows, nose, mouth, beard and glasses."""

from dataclasses import dataclass

import numpy as np

from data.synthetic.canvas import BLACK, WHITE, Colour, Points, Sketch, curve, ellipse, mirrored, mix
from data.synthetic.person import Person

EYE_Y = -0.06


@dataclass(frozen=True)
class Expression:
    """What changes in a face from one image to the next: smile -1..1, eyes' opening and gaze."""

    smile: float
    open: float
    gaze: float


def head_outline(person: Person) -> Points:
    """The closed outline of the head, clockwise from the top."""
    width, jaw, sag = person.face_width, person.jaw, person.sag
    chin = 0.5 * jaw
    half = [
        (0.0, -1.0), (0.42, -0.92), (width - 0.06, -0.55), (width, -0.1), (width - 0.03, 0.22),
        (jaw + 0.03 * sag, 0.60), (chin + 0.05 + 0.04 * sag, 0.88), (0.5 * chin, 0.985),
    ]  # fmt: skip
    return curve(half + [(0.0, 1.0)] + [(-x, y) for x, y in half[:0:-1]], closed=True)


def draw_head(sketch: Sketch, person: Person, lit_from: float) -> None:
    """The bare head with the shadow on the side away from the light (`lit_from` -1 left, 1 right)."""
    skin = person.skin
    outline = head_outline(person)
    sketch.fill(outline * 1.012, mix(skin, BLACK, 0.35))
    sketch.fill(outline, skin)
    far = -1.0 if lit_from > 0 else 1.0
    edge = outline[outline[:, 0] * far > 0.25]
    order = np.argsort(edge[:, 1])
    inner = edge[order] * np.array([0.80, 1.0])
    sketch.fill(np.concatenate([edge[order], inner[::-1]]), mix(skin, BLACK, 0.5), 0.09 * abs(lit_from) + 0.04)
    sketch.glow(-0.25 * far, -0.45, 0.40, 0.25, mix(skin, WHITE, 0.7), 0.20)
    for side in (1.0, -1.0):
        sketch.glow(side * 0.40, 0.30, 0.22, 0.17, (226, 96, 86), person.blush)


def draw_ears(sketch: Sketch, person: Person) -> None:
    """Both ears, on which straps and glasses hang."""
    for side in (1.0, -1.0):
        shell = ellipse(person.face_width + 0.015, 0.05, 0.09, 0.18)
        sketch.fill(mirrored(shell, side), mix(person.skin, BLACK, 0.10))
        inside = ellipse(person.face_width + 0.03, 0.04, 0.045, 0.105)
        sketch.fill(mirrored(inside, side), mix(person.skin, BLACK, 0.25), 0.6)
        if person.earrings:
            pearl = ellipse(person.face_width + 0.045, 0.26, 0.042, 0.05, 12)
            sketch.fill(mirrored(pearl, side), (236, 214, 140))


def draw_eyes(sketch: Sketch, person: Person, expression: Expression) -> None:
    """Eyes, lids, lashes and brows."""
    wide = 0.155 * person.eye_size
    high = 0.088 * person.eye_size * expression.open
    for side in (1.0, -1.0):
        x = side * person.eye_spacing
        across = np.linspace(-1.0, 1.0, 15)
        upper = np.stack([x + wide * across, EYE_Y - high * (1 - across**2)], axis=1)
        lower = np.stack([x + wide * across, EYE_Y + 0.75 * high * (1 - across**2)], axis=1)
        sketch.glow(x, EYE_Y - 0.01, 1.45 * wide, 2.0 * high, person.eyelids, 0.38, 3)
        sketch.fill(np.concatenate([upper, lower[::-1]]), mix(WHITE, (222, 205, 190), person.bags))
        _draw_iris(sketch, person, x + 0.03 * expression.gaze, wide, high, x)
        lid = 0.016 + 0.036 * person.lashes
        sketch.stroke(upper - np.array([0.0, 0.006]), lid, (38, 28, 28), 0.95, taper=0.35)
        sketch.stroke(lower, 0.012, mix(person.skin, BLACK, 0.6), 0.55)
        if person.lashes > 0.6:
            tip = np.array([x + side * 1.0 * wide, EYE_Y])
            flick = curve([tuple(tip - [side * 0.05, 0.03]), tuple(tip + [side * 0.055, -0.055])], steps=4)
            sketch.stroke(flick, 0.03, (38, 28, 28), person.lashes, taper=0.6)
        _draw_brow(sketch, person, side, x, expression)


def _draw_iris(sketch: Sketch, person: Person, x: float, wide: float, high: float, middle: float) -> None:
    radius = 0.070 * person.eye_size
    for share, colour in ((1.0, person.iris), (0.52, (12.0, 10.0, 12.0))):
        disc = ellipse(x, EYE_Y - 0.01, radius * share, radius * share, 20)
        inside = 1.0 - ((disc[:, 0] - middle) / wide) ** 2  # the lids cut the iris off
        disc[:, 1] = np.clip(disc[:, 1], EYE_Y - high * inside, EYE_Y + 0.75 * high * inside)
        sketch.fill(disc, colour)
    sketch.fill(ellipse(x - 0.022, EYE_Y - 0.035, 0.018, 0.018, 8), WHITE, 0.9 - 0.5 * person.bags)


def _draw_brow(sketch: Sketch, person: Person, side: float, x: float, expression: Expression) -> None:
    y = EYE_Y - 0.20 - 0.02 * expression.smile + 0.025 * person.sag
    points = [(x - side * 0.17, y + 0.025), (x, y - person.brow_arch), (x + side * 0.2, y + 0.035)]
    sketch.stroke(curve(points, steps=7), person.brow_width, person.brow, 0.9, taper=0.65)


def draw_nose_and_mouth(sketch: Sketch, person: Person, expression: Expression) -> None:
    """The nose by its shadows, the mouth by two lips and the line between them."""
    shade, nose = mix(person.skin, (96, 40, 30), 0.5), person.nose
    bridge = curve([(0.07, -0.08), (0.055, 0.10), (0.10 * nose, 0.25)])
    sketch.stroke(bridge, 0.03, shade, 0.35)
    sketch.glow(-0.01, 0.22, 0.075, 0.07, mix(person.skin, WHITE, 0.6), 0.28, 3)
    wings = [(-0.125 * nose, 0.27), (-0.07, 0.325), (0.0, 0.345), (0.07, 0.325), (0.125 * nose, 0.27)]
    sketch.stroke(curve(wings), 0.032, shade, 0.75, taper=0.6)
    for side in (1.0, -1.0):
        sketch.fill(ellipse(side * 0.058 * nose, 0.318, 0.026, 0.014, 10), mix(shade, BLACK, 0.5), 0.7)
    half, lift, full = 0.205 + 0.03 * expression.smile, 0.045 * expression.smile, 0.055 * person.lip_fullness
    y = 0.60
    line = curve([(-half, y - lift), (-0.09, y + 0.006), (0.0, y + 0.014), (0.09, y + 0.006), (half, y - lift)])
    crest = curve(
        [(-half, y - lift), (-0.06, y - full), (0, y - 0.7 * full), (0.06, y - full), (half, y - lift)]
    )
    bowl = curve(
        [(-half, y - lift), (-0.11, y + full), (0, y + 1.4 * full), (0.11, y + full), (half, y - lift)]
    )
    sketch.fill(np.concatenate([crest, line[::-1]]), mix(person.lips, BLACK, 0.14))
    sketch.fill(np.concatenate([line, bowl[::-1]]), person.lips)
    if expression.smile > 0.55:
        teeth = curve([(-0.6 * half, y), (0.0, y + 0.05), (0.6 * half, y)])
        sketch.fill(teeth, WHITE, 0.95)
    sketch.stroke(line, 0.02, mix(person.lips, BLACK, 0.6), 0.8)
    sketch.stroke(curve([(-0.08, 0.76), (0.0, 0.745), (0.08, 0.76)]), 0.02, shade, 0.3)


def draw_beard(sketch: Sketch, person: Person) -> None:
    """Beard, from a shadow to full; drawn before the mouth and before any mask."""
    if person.beard <= 0.0:
        return
    outline = head_outline(person)
    right = outline[(outline[:, 0] >= 0.0) & (outline[:, 1] > 0.10)]
    inner = curve([(0.63, 0.08), (0.56, 0.25), (0.42, 0.46), (0.30, 0.52), (0.17, 0.42), (0.0, 0.40)])
    half = np.concatenate([right[np.argsort(-right[:, 1])], inner])  # from the chin up, and back to the lip
    colour = mix(person.hair.colour, BLACK, 0.15)
    alpha = 0.16 + 0.3 * person.beard if person.beard < 0.6 else 0.92
    sketch.fill(np.concatenate([half, mirrored(half, -1.0)[::-1]]), colour, alpha)


def draw_glasses(sketch: Sketch, person: Person, colour: Colour) -> None:
    """Glasses over eyes and mask: two rims, a bridge and temples to the ears."""
    across, down = (0.20, 0.17) if person.round_frames else (0.225, 0.145)
    for side in (1.0, -1.0):
        x = side * (person.eye_spacing + 0.005)
        rim = ellipse(x, EYE_Y + 0.015, across, down)
        if not person.round_frames:  # squared off: every point is pushed out towards the corners
            middle = np.array([x, EYE_Y + 0.015])
            unit = (rim - middle) / np.array([across, down])
            rim = middle + np.sign(unit) * np.sqrt(np.abs(unit)) * np.array([across, down])
        sketch.fill(rim, WHITE, 0.10)
        sketch.stroke(np.concatenate([rim, rim[:2]]), 0.028, colour, 0.95, taper=0.0)
        temple = np.array(
            [[x + side * across, EYE_Y], [x + side * across + side * 0.1, EYE_Y], [side * 0.77, -0.1]]
        )
        sketch.stroke(temple, 0.026, colour, 0.95, taper=0.0)
    inner = person.eye_spacing - across
    sketch.stroke(
        curve([(-inner, EYE_Y), (0.0, EYE_Y - 0.035), (inner, EYE_Y)]), 0.026, colour, 0.95, taper=0.0
    )
