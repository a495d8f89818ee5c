"""Where the face is: from landmarks or a box where there are some, else from how the image is cropped."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Box = tuple[slice, slice]  # rows and columns
Span = tuple[float, float]


@dataclass(frozen=True)
class Face:
    """Where an upright face is, in pixels: its middle, heights of eyes and mouth, half its cheeks' width."""

    middle: float
    eyes: float
    mouth: float
    half_width: float

    @property
    def unit(self) -> float:
        """From the eyes to the mouth, in pixels."""
        return self.mouth - self.eyes


# Shares of the image's height (eyes, mouth) and width (half the cheeks), measured on two published sets:
# All-Age-Faces, cropped with hair and shoulders, and UTKFace, cropped close to the face.
_WIDE_CROP = (0.52, 0.73, 0.28)
_CLOSE_CROP = (0.30, 0.73, 0.37)
_SQUARE = 1.15
# What `face_region` leaves: above the eyes and below the mouth in units of the face, beside in halves of its cheeks.
_ABOVE, _BELOW, _BESIDE = 1.4, 0.7, 1.55
_IN_BOX = (0.35, 0.76)  # eyes and mouth of an upright face, as shares of its box's height


def aligned_face(height: int, width: int) -> Face:
    """Where the face is in an aligned portrait of which nothing else is known.

    Square images are taken as cropped close to the face, taller ones as with hair and shoulders.
    """
    eyes, mouth, half_width = _CLOSE_CROP if height < _SQUARE * width else _WIDE_CROP
    return Face(width / 2, eyes * height, mouth * height, half_width * width)


def face_of_box(x0: float, y0: float, x1: float, y1: float) -> Face:
    """The face in a detector's box in pixels: from above the brow to the chin and from cheek to cheek."""
    eyes, mouth = (y0 + share * (y1 - y0) for share in _IN_BOX)
    return Face((x0 + x1) / 2, eyes, mouth, 0.48 * (x1 - x0))


def face_of_landmarks(landmarks: npt.NDArray[np.floating]) -> Face:
    """The face of five landmarks [5, 2] in pixels: eyes, nose, corners of the mouth."""
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    return Face(
        float(landmarks[:, 0].mean()),
        float(eyes[1]),
        float(mouth[1]),
        float(abs(landmarks[1, 0] - landmarks[0, 0])),
    )


def face_region(face: Face, height: int, width: int, margin: float = 1.0) -> Box:
    """Rows and columns of an image of this size that show the face with hair and chin, about as high as wide.

    Args:
        face: in the image.
        height, width: of the image, in pixels.
        margin: times the usual one.
    """
    rows, columns = _reach(face, height, width, margin)
    return slice(round(rows[0]), round(rows[1])), slice(round(columns[0]), round(columns[1]))


def smallest_region(margin: float = 1.0) -> tuple[float, float]:
    """The least shares of an image's height and width that `face_region` its aligned face takes up."""
    reaches = [_reach(Face(0.5, *crop), 1, 1, margin) for crop in (_WIDE_CROP, _CLOSE_CROP)]
    return min(r[1] - r[0] for r, _ in reaches), min(c[1] - c[0] for _, c in reaches)


def _reach(face: Face, height: float, width: float, margin: float) -> tuple[Span, Span]:
    """From where to where a face with hair and chin reaches, down and across, within an image of this size."""
    top, bottom = face.eyes - margin * _ABOVE * face.unit, face.mouth + margin * _BELOW * face.unit
    beside = margin * _BESIDE * face.half_width
    left, right = face.middle - beside, face.middle + beside
    return (max(top, 0), min(bottom, height)), (max(left, 0), min(right, width))
