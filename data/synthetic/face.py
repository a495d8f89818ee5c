"""The head: hair, face and the marks that age leaves on it."""

import numpy as np

from data.synthetic.canvas import BLACK, MIRROR, WHITE, Canvas, curve, ellipse, mix, symmetric
from data.synthetic.person import Person

EYE_X, EYE_Y = 0.315, -0.06


def draw_face(canvas: Canvas, person: Person) -> None:
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


def draw_hair(canvas: Canvas, person: Person) -> None:
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
