"""One look at an image file: that it is whole, how large it is, how it is turned, and what it roughly shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from segcli.codecs.image import count_pages, open_header, read_image
from segcli.codecs.jpeg import lacks_pixels, may_lack_pixels
from segcli.files.image_ref import ImageRef

if TYPE_CHECKING:
    from PIL import Image

_ORIENTATION = 0x0112  # EXIF tag
SIDE = 16


@dataclass(frozen=True, eq=False)
class Glance:
    """size: (H, W) upright. orientation: EXIF's, 1 … 8. thumb: uint8 [16, 16] grey, the whole image squeezed.
    pages: of a TIFF, of which the first is what the rest is about."""

    size: tuple[int, int]
    orientation: int
    thumb: np.ndarray
    pages: int = 1

    @property
    def stored_size(self) -> tuple[int, int]:
        """(H, W) of the pixels as they lie in the file."""
        return (self.size[1], self.size[0]) if self.orientation >= 5 else self.size


def glance(image: ImageRef) -> Glance:
    """Decode all of a picture, as only that shows that it is whole.

    JPEGs are decoded at an eighth of their size, which reads every byte and costs a third.
    Raises InputError, worded as when the image is read for training.
    """
    from PIL import Image, ImageOps

    name = str(image)
    data = image.read()
    try:
        with open_header(data, name) as picture:
            width, height = picture.size
            if picture.format != "JPEG":
                raise ValueError("decoded below")
            orientation = _orientation(picture)
            picture.draft(None, (max(1, width // 8), max(1, height // 8)))
            picture.load()
            if may_lack_pixels(data, np.asarray(picture), 1) and lacks_pixels(data, (width, height)):
                raise ValueError("refused below")
            size = (width, height) if orientation >= 5 else (height, width)
            return Glance(size, orientation, _thumb(ImageOps.exif_transpose(picture)))
    except Exception:  # not a JPEG, or a broken one: the reader of images has the right words
        pixels = read_image(data, name=name)
    with open_header(data, name) as picture:
        orientation = _orientation(picture)
    return Glance((pixels.shape[0], pixels.shape[1]), orientation, _thumb(Image.fromarray(pixels)), count_pages(data))


def _orientation(image: Image.Image) -> int:
    try:
        tag = int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a malformed block is no orientation, as for every viewer
        return 1
    return tag if 1 <= tag <= 8 else 1


def _thumb(image: Image.Image) -> np.ndarray:
    from PIL import Image

    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))
