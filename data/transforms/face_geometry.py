"""The position of the face in an aligned portrait, estimated from how such images are cropped."""

from dataclasses import dataclass

Box = tuple[slice, slice]  # rows and columns
Span = tuple[float, float]


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
_WIDE_CROP = (0.52, 0.73, 0.28)
_CLOSE_CROP = (0.30, 0.73, 0.37)
_SQUARE = 1.15
# The region with hair and chin: above eyes and below mouth in units, beside in halves of the cheeks' width.
_ABOVE, _BELOW, _BESIDE = 1.4, 0.7, 1.55


def aligned_face(height: int, width: int) -> Face:
    """Estimate the face in an aligned portrait from the image's size.

    Square images are assumed to be cropped close to the face, taller ones with hair and shoulders.
    """
    eyes, mouth, half_width = _CLOSE_CROP if height < _SQUARE * width else _WIDE_CROP
    return Face(width / 2, eyes * height, mouth * height, half_width * width)


def face_region(face: Face, height: int, width: int, margin: float = 1.0) -> Box:
    """Return rows and columns of the face with hair and chin, about as high as wide, in an image of this size.

    `margin` scales the space around the face.
    """
    rows, columns = _extent(face, height, width, margin)
    return slice(round(rows[0]), round(rows[1])), slice(round(columns[0]), round(columns[1]))


def smallest_region(margin: float = 1.0) -> tuple[float, float]:
    """Compute the smallest shares of an image's height and width that `face_region` of its aligned face has."""
    extents = [_extent(Face(0.5, *crop), 1, 1, margin) for crop in (_WIDE_CROP, _CLOSE_CROP)]
    return min(r[1] - r[0] for r, _ in extents), min(c[1] - c[0] for _, c in extents)


def _extent(face: Face, height: float, width: float, margin: float) -> tuple[Span, Span]:
    top, bottom = face.eyes - margin * _ABOVE * face.unit, face.mouth + margin * _BELOW * face.unit
    beside = margin * _BESIDE * face.half_width
    left, right = face.middle - beside, face.middle + beside
    return (max(top, 0), min(bottom, height)), (max(left, 0), min(right, width))
