"""Images to predict, however they are given: paths, folders, Pillow images and arrays."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from data.images.decode import Pixels, Read, check_pixels, convert_image, decode
from data.images.find import IMAGES, LISTING, image_paths, list_images
from data.runtime.errors import InputError, printable

ImageInMemory = Image.Image | npt.NDArray[np.uint8]
ImageInput = str | os.PathLike[str] | ImageInMemory


@dataclass(frozen=True)
class ImageInputs:
    """Images in order.

    Attributes:
        ids: names of the images [N].
        paths: [N], of an image in memory its id.
        in_memory: Pillow images and arrays uint8 [H, W, 3] by id.
    """

    ids: Sequence[str]
    paths: Sequence[str]
    in_memory: dict[str, ImageInMemory] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths)

    def make_reader(self, read: Read) -> Read:
        """Make a reader of these images' pixels by path; `read` is that of files."""
        return InputReader(self.in_memory, read) if self.in_memory else read


@dataclass(frozen=True)
class InputReader:
    """Path to pixels uint8 [H, W, 3], of images in memory and of files."""

    in_memory: dict[str, ImageInMemory]
    read: Read

    def __call__(self, path: Path) -> Pixels:
        image = self.in_memory.get(str(path))
        return self.read(path) if image is None else pixels_of(image, str(path))


def list_inputs(images: ImageInput | Sequence[ImageInput], missing_ok: bool = False) -> ImageInputs:
    """List images given as a path, a folder, a Pillow image, an array uint8 [H, W, 3], or a list of these.

    The ids of a folder are those of `list_images`: names in the folder, or its info.csv's. Images of a list have
    their paths as ids, and those in memory are called "<image 0>" by their place.

    Args:
        images: a list may mix all kinds.
        missing_ok: do not raise for a file of a folder's info.csv that is not there.

    Raises:
        InputError: no image, bytes, or a folder with a bad listing or unsafe names.

    >>> list_inputs(["a.jpg", np.zeros((2, 2, 3), dtype=np.uint8)]).ids
    ['a.jpg', '<image 1>']
    """
    if isinstance(images, str | os.PathLike):
        path = Path(images)
        if path.is_dir():
            ids, folder = list_images(path)
            return ImageInputs(ids, image_paths(folder, ids, missing_ok))
        if not path.exists():
            expected = f"expected an image, a folder of images, or one that holds {LISTING} and {IMAGES}/"
            raise InputError(f"{printable(path)}: no such image or folder, {expected}")
        return ImageInputs([str(path)], [str(path)])
    if isinstance(images, bytes | bytearray):  # type: ignore[unreachable]  # it would be a list of numbers
        raise InputError("found the bytes of a file, expected an image such as PIL.Image.open(io.BytesIO(data))")
    every = [images] if isinstance(images, Image.Image | np.ndarray) else images
    paths: list[str] = []
    in_memory: dict[str, ImageInMemory] = {}
    for place, image in enumerate(every):
        if isinstance(image, str | os.PathLike):
            paths += list_inputs(image, missing_ok).paths if Path(image).is_dir() else [os.fspath(image)]
        else:
            paths.append(f"<image {place}>")
            in_memory[paths[-1]] = image
    if not paths:
        raise InputError("an empty list, expected at least one image")
    return ImageInputs(paths, paths, in_memory)


def pixels_of(image: ImageInput, name: str | None = None, least: tuple[int, int] | None = None) -> Pixels:
    """Read an image given as a path, a Pillow image or an array as uint8 RGB [H, W, 3], upright.

    Args:
        image: a JPEG file alone is decoded at a smaller scale, see `least` of `data.images.decode.decode_bytes`.
        name: of an image in memory, for messages.
        least: None for the file's own size.

    Raises:
        InputError: something else, or as `decode_bytes` and `check_pixels`.
    """
    if isinstance(image, np.ndarray):
        return check_pixels(image, name or "image")
    if isinstance(image, Image.Image):
        return convert_image(image, name or "image")
    if isinstance(image, str | os.PathLike):
        return decode(Path(image), least)
    found = f"{name or 'image'}: found {type(image).__name__}"  # type: ignore[unreachable]
    raise InputError(f"{found}, expected a path, a Pillow image or an array uint8 [height, width, 3]")
