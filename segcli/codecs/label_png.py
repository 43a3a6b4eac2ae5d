"""Label maps: one value a pixel. Palette files give their indices, and their colours only if asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from segcli.codecs.image import OWN_LIMIT, open_header
from segcli.errors import InputError
from segcli.files.image_ref import ImageRef, read_file

Colours = Literal["none", "stored", "grey", "all"]
_EXACT = 1 << 24  # up to here 32-bit floating point numbers hold every whole number


def read_label_map(file: Path | ImageRef, *, colours: Colours = "none") -> np.ndarray:
    """A label picture -> int32 values [H, W], or uint8 [H, W, 3] if it holds colours.

    Palette → indices; grey of 1, 8, 16 or 32 bits → its values, floating point too if all are whole (ImageJ); grey
    stored in three equal channels → that channel; transparency is dropped. Orientation tags are not looked at: labels
    are drawn on the upright picture.

    colours: which pictures give their colours, though they may be grey: "stored" those of three channels, "grey" those
    of one channel of up to 8 bits too, "all" palettes and every other.

    Raises:
        InputError: missing, empty, damaged, truncated, not a picture, of fractions, or lossy (JPEG smears labels into
            each other).
    """
    try:
        data = file.read() if isinstance(file, ImageRef) else read_file(file, str(file))
        with OWN_LIMIT, open_header(data, str(file)) as image:
            if image.format == "JPEG":
                raise InputError(f"{file}: a label map in JPEG, whose compression changes labels; export it as PNG")
            image.load()
            painted = ("RGBA", "RGBX", *{"all": (image.mode,), "grey": ("1", "L", "LA")}.get(colours, ()))
            pixels = np.asarray(image.convert("RGB") if image.mode in painted else image)
    except FileNotFoundError:
        raise InputError(f"{file}: no such file (label map)") from None
    except PermissionError:
        raise InputError(f"{file}: label map not readable; check its permissions") from None
    except InputError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on malformed data
        raise InputError(f"{file}: label map cannot be read ({error}); export it again") from error
    if pixels.dtype.kind == "f":
        pixels = _whole(pixels, file)
    if pixels.ndim == 3 and pixels.shape[2] == 2:  # grey and alpha
        pixels = pixels[..., 0]
    if colours == "none" and is_grey(pixels):
        pixels = pixels[..., 0]
    return pixels if pixels.ndim == 3 else pixels.astype(np.int32)


def read_black_and_white(file: Path) -> np.ndarray:
    """A mask of one object -> bool [H, W], True where it is lighter than half of its lightest value, in any of its
    colours, and not transparent.

    Smoothed edges and JPEG do no harm here. Raises InputError as `read_label_map`.
    """
    try:
        with OWN_LIMIT, open_header(read_file(file, str(file)), str(file)) as image:
            image.load()
            if image.mode in ("P", "PA", "RGB", "RGBA", "LA", "1", "CMYK", "YCbCr"):
                pixels = np.asarray(image.convert("RGBA"))
                grey = np.minimum(pixels[..., :3].max(axis=2), pixels[..., 3])
            else:
                grey = np.asarray(image)
    except FileNotFoundError:
        raise InputError(f"{file}: no such file (label map)") from None
    except InputError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on malformed data
        raise InputError(f"{file}: label map cannot be read ({error}); export it again") from error
    most = float(grey.max(initial=0))
    full = next(limit for limit in (1, 255, 65_535, max(most, 65_536)) if most <= limit)
    return np.asarray(grey > full / 2)


def is_grey(picture: np.ndarray) -> bool:
    """Whether a picture is of three equal channels."""
    return bool(
        picture.ndim == 3 and (picture[..., 0] == picture[..., 1]).all() and (picture[..., 0] == picture[..., 2]).all()
    )


def _whole(pixels: np.ndarray, file: object) -> np.ndarray:
    """Floating point values that are whole numbers, as integers."""
    fits = np.isfinite(pixels) & (np.abs(pixels) <= _EXACT) & (pixels == np.rint(pixels))
    if not fits.all():
        value = pixels[~fits][0]
        raise InputError(
            f"{file}: the label map holds fractions or numbers above {_EXACT}, such as {value:g}; "
            "export it as whole numbers (16-bit grey)"
        )
    return pixels.astype(np.int32)
