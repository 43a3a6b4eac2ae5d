"""Label maps: one value a pixel. Palette files give their indices, and their colours only if asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segcli.codecs.image import open_header
from segcli.errors import InputError

_EXACT = 1 << 24  # up to here 32-bit floating point numbers hold every whole number


def read_label_map(file: Path, *, colours: bool = False) -> np.ndarray:
    """A label picture -> int32 values [H, W], or uint8 [H, W, 3] if it holds colours.

    Palette → indices; grey of 1, 8, 16 or 32 bits → its values, floating point too if all are whole (ImageJ); grey
    stored in three equal channels → that channel; transparency is dropped. Orientation tags are not looked at: labels
    are drawn on the upright picture.

    colours: give the colours of every picture, palettes and grey ones too.

    Raises:
        InputError: missing, empty, damaged, truncated, not a picture, of fractions, or lossy (JPEG smears labels into
            each other).
    """
    try:
        with open_header(file.read_bytes(), str(file)) as image:
            if image.format == "JPEG":
                raise InputError(f"{file}: a label map in JPEG, whose compression changes labels; export it as PNG")
            image.load()
            pixels = np.asarray(image.convert("RGB") if colours or image.mode in ("RGBA", "RGBX") else image)
    except FileNotFoundError:
        raise InputError(f"{file}: no such file (label map)") from None
    except PermissionError:
        raise InputError(f"{file}: label map not readable; check its permissions") from None
    except InputError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on malformed data
        raise InputError(f"{file}: label map cannot be read ({error}); export it again") from error
    if colours:
        return pixels
    if pixels.dtype.kind == "f":
        pixels = _whole(pixels, file)
    if pixels.ndim == 3 and pixels.shape[2] == 2:  # grey and alpha
        pixels = pixels[..., 0]
    if pixels.ndim == 3 and (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all():
        pixels = pixels[..., 0]
    return pixels if pixels.ndim == 3 else pixels.astype(np.int32)


def _whole(pixels: np.ndarray, file: Path) -> np.ndarray:
    """Floating point values that are whole numbers, as integers."""
    fits = np.isfinite(pixels) & (np.abs(pixels) <= _EXACT) & (pixels == np.rint(pixels))
    if not fits.all():
        value = pixels[~fits][0]
        raise InputError(
            f"{file}: label map of fractions or of numbers over {_EXACT}, such as {value:g}; "
            "export it as whole numbers (16-bit grey)"
        )
    return pixels.astype(np.int32)
