"""The position of the face in an aligned portrait, estimated from how such images are cropped."""

from dataclasses import dataclass

Box = tuple[slice, slice]  # rows and columns
Span = tuple[float, float]
Region = tuple[Span, Span]  # first and last rows and columns, as shares of the height and width


@dataclass(frozen=True)
class Face:
    """An upright face in pixels: its middle, the heights of eyes and mouth, half the width of the cheeks."""

    middle: float
    eyes: float
    mouth: float
    half_width: float

    @property
    def unit(self) -> float:
        """The distance from the eyes to the mouth, in pixels."""
        return self.mouth - self.eyes


# Shares of the image's height (eyes, mouth) and width (half the cheeks), measured on two published sets:
# All-Age-Faces, cropped with hair and shoulders, and UTKFace, cropped close to the face.
_TALL_CROP = (0.52, 0.73, 0.28)
_CLOSE_CROP = (0.30, 0.73, 0.37)
SQUARE = 1.15  # height by width from which on an image is a tall one
# The region with hair and chin: above eyes and below mouth in units, beside in halves of the cheeks' width.
_ABOVE, _BELOW, _BESIDE = 1.4, 0.7, 1.55


def aligned_face(height: int, width: int) -> Face:
    """Estimate the face in an aligned portrait from the image's size.

    Square images are assumed to be cropped close to the face, taller ones with hair and shoulders.
    """
    eyes, mouth, half_width = _CLOSE_CROP if height < SQUARE * width else _TALL_CROP
    return Face(width / 2, eyes * height, mouth * height, half_width * width)


def face_shares(margin: float = 1.0) -> tuple[Region, Region]:
    """Compute where the face with hair and chin is, about as high as wide, in an aligned portrait.

    `margin` scales the space around it.

    Returns:
        the region in images lower than `SQUARE` times their width, and in taller ones.
    """
    return _region(_CLOSE_CROP, margin), _region(_TALL_CROP, margin)


def face_region(height: int, width: int, margin: float = 1.0) -> Box:
    """Return rows and columns of the face with hair and chin in an aligned portrait of this size; see `face_shares`."""
    close, tall = face_shares(margin)
    (top, bottom), (left, right) = close if height < SQUARE * width else tall
    return slice(round(top * height), round(bottom * height)), slice(round(left * width), round(right * width))


def smallest_region(margin: float = 1.0) -> tuple[float, float]:
    """Compute the smallest shares of an image's height and width that `face_region` has."""
    heights, widths = zip(*([last - first for first, last in region] for region in face_shares(margin)), strict=True)
    return min(heights), min(widths)


def _region(crop: tuple[float, float, float], margin: float) -> Region:
    eyes, mouth, half_width = crop
    unit, beside = mouth - eyes, margin * _BESIDE * half_width
    rows = max(eyes - margin * _ABOVE * unit, 0.0), min(mouth + margin * _BELOW * unit, 1.0)
    return rows, (max(0.5 - beside, 0.0), min(0.5 + beside, 1.0))
