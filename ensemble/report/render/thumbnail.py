"""Images small enough to be embedded in an HTML page."""

import base64
import io
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from data.images.decode import decode


def thumbnail(path: Path, alternative: str, height: int = 96) -> Markup:
    """Make an <img> of an image at most `height` pixels high, its pixels embedded, without the file's metadata.

    Raises:
        InputError: the file cannot be decoded.
    """
    image = Image.fromarray(decode(path))
    image.thumbnail((4 * height, height))
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=80)
    source = "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode("ascii")
    return Markup('<img src="{}" alt="{}" width="{}" height="{}">').format(source, alternative, *image.size)
