"""Embedded images hold pixels and no metadata."""

import base64
import io
import re
from pathlib import Path

import numpy as np
from PIL import Image

from ensemble.report.render.thumbnail import thumbnail


def test_a_thumbnail_is_small_and_holds_nothing_but_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    image = Image.fromarray(np.full((400, 300, 3), (200, 30, 30), np.uint8))
    image.save(tmp_path / "a.jpg", exif=exif)
    text = thumbnail(tmp_path / "a.jpg", 'a "quoted" name', height=80)
    assert 'alt="a &#34;quoted&#34; name" width="60" height="80"' in text
    found = re.search(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert found is not None
    content = base64.b64decode(found[1])
    assert b"taken at home" not in content
    embedded = Image.open(io.BytesIO(content))
    assert embedded.size == (60, 80)
    np.testing.assert_allclose(np.asarray(embedded).mean(axis=(0, 1)), (200, 30, 30), atol=4)
