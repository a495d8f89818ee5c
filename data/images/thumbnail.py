"""Images small enough to stand in a page."""

import base64
import io
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from data.images.decode import decode

QUALITY = 80


def thumbnail(path: Path, alternative: str, height: int = 96) -> Markup:
    """An <img> of the image at `path`, `height` pixels high at most, its pixels inside the page.

    It is encoded anew, so that nothing of the file's own metadata (place, camera) comes along. Raises
    InputError if the file cannot be read.
    """
    image = Image.fromarray(decode(path))
    image.thumbnail((4 * height, height))
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=QUALITY)
    source = "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode("ascii")
    return Markup('<img src="{}" alt="{}" width="{}" height="{}">').format(source, alternative, *image.size)
