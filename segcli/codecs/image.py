"""Photos in: every bitmap Pillow can read -> [H, W, 3] uint8 RGB, upright; and resizing for the network.

Pillow decodes because it refuses truncated files, applies orientation and opens every mode below. What each becomes:

* grey, 1-bit, palette, CMYK, YCbCr, LAB → RGB by Pillow's conversion
* transparency (RGBA, LA, palette or colour-key) → composited over white
* more than 8 bits (16-bit PNG and TIFF, 32-bit integer, float) → scaled, see `depth`
* a JPEG that lacks its end marker alone → read, with a warning; one that lacks pixels is refused
* several frames or pages → the first
"""

from __future__ import annotations

import io
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from segcli.codecs.depth import Levels, levels_of, to_8bit
from segcli.codecs.jpeg import ended, lacks_pixels, may_lack_pixels
from segcli.codecs.opencv import opencv
from segcli.errors import InputError, SegcliWarning
from segcli.files.image_ref import ImageRef, checked, read_bounded, read_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image
    from PIL.ImageFile import ImageFile

MAX_PIXELS = 250_000_000
"""Pictures with more pixels are refused by their header, before any memory is taken, unless the caller says more."""

_STRIP = 256  # rows copied at a time: Pillow hands a whole picture to numpy through a list of 64 KB pieces, 4 × slower
_ORIENTATION = 0x0112  # EXIF tag
_JPEGS = ("JPEG", "MPO")
_SCAN, _MOST_WORK = b"\xff\xda", 16 * MAX_PIXELS  # a progressive JPEG is decoded whole for each of its (ten) scans
_PROGRAMS = (b"%!PS", b"\xc5\xd0\xd3\xc6")  # EPS is a program, for which Pillow would start Ghostscript
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # how its files begin; with a plus, those above 4 GB
_MAX_SIDE = 1_000_000  # a strip that long is no photograph, and is copied row by row


def read_image(
    source: str | Path | bytes | BinaryIO | ImageRef,
    *,
    name: str | None = None,
    max_pixels: int | None = None,
    levels: Levels | None = None,
) -> np.ndarray:
    """Decode one picture to uint8 RGB [H, W, 3], upright and writable.

    Args:
        source: a path, the encoded bytes, a binary stream (read to its end; need not be seekable), or an ImageRef.
        name: what to call the picture in errors; its path if it has one.
        max_pixels: refuse pictures whose header says more; MAX_PIXELS if None, which the caller has no way to lift.
        levels: which values of a picture of more than 8 bits are black and white; None: its own.

    Raises:
        InputError: missing, unreadable, empty, not a picture, truncated, damaged, or too large.
    """
    name = name or (str(source) if isinstance(source, str | Path | ImageRef) else "the image")
    data = read_bytes(source, name)
    image = _open(data, name, max_pixels)
    try:
        with OWN_LIMIT:
            if image.format in _JPEGS:
                return _whole_jpeg(image, data, name)
            return _to_rgb(image, data, to_8bit if levels is None else lambda values: to_8bit(values, levels, name))
    except MemoryError:
        width, height = image.size
        raise InputError(f"{name}: not enough memory for {width}×{height} pixels; downscale it first") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on malformed data
        raise InputError(f"{name}: damaged or truncated ({error}); copy or export it again") from error


def from_pillow(image: Image.Image, levels: Levels | None = None) -> np.ndarray:
    """An opened picture as uint8 RGB [H, W, 3], upright. levels: as `read_image` takes them."""
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    if not _is_deep(upright):
        return np.array(upright.convert("RGB"))
    grey = to_8bit(_pixels(upright), levels)
    return np.repeat(grey[:, :, None], 3, axis=2)


def own_levels(source: ImageRef) -> Levels | None:
    """The levels of one picture; None if it is of 8 bits, or cannot be read."""
    found: list[Levels] = []

    def scale(values: np.ndarray) -> np.ndarray:
        found.append(levels_of(values))
        return values.astype(np.uint8)

    try:
        data = source.read()
        image = _open(data, str(source), None)
        if image.format in _JPEGS or not (_is_misread(image) or _is_deep(image) or ";16" in _rawmode(image)):
            return None
        with OWN_LIMIT:
            _to_rgb(image, data, scale)
    except Exception:  # Pillow's decoders raise nearly anything on malformed data
        return None
    return found[0] if found else None


def count_pages(source: Path | bytes | ImageRef) -> int:
    """How many pages a TIFF has, by its headers; 1 for other pictures, and for what `read_image` has to complain of."""
    try:
        source = source.read() if isinstance(source, ImageRef) else source
        if isinstance(source, Path) and not source.is_file():
            return 1  # a pipe, which is read once
        with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as stream:
            if stream.read(4) not in _TIFF:
                return 1
            stream.seek(0)
            return int(getattr(_parse_header(stream), "n_frames", 1))
    except Exception:  # Pillow's parsers raise nearly anything on malformed data
        return 1


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Antialiased bilinear resize of uint8 [H, W, 3] to `size` = (h, w); by Pillow on 8-bit values, as detectron2."""
    from PIL import Image

    if image.shape[:2] == tuple(size):
        return image
    resized = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return _pixels(resized)


def read_bytes(source: str | Path | bytes | BinaryIO | ImageRef, name: str) -> bytes:
    """A picture as it is encoded. Raises InputError: missing, unreadable or empty."""
    if isinstance(source, str | Path):
        return read_file(source, name, pipe=True)
    if isinstance(source, bytes):
        return checked(source, name)
    if isinstance(source, ImageRef):
        return source.read()
    try:
        return checked(read_bounded(source, name), name)
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror or error})") from error


def _open(data: bytes, name: str, max_pixels: int | None) -> ImageFile:
    from PIL import UnidentifiedImageError

    try:
        return open_header(data, name, max_pixels)
    except InputError:
        raise
    except UnidentifiedImageError:
        if not _is_heif(data):
            raise InputError(f"{name}: not a picture in a known format; convert it to JPEG, PNG or TIFF") from None
    except Exception as error:
        raise InputError(f"{name}: damaged header ({error}); copy or export it again") from error
    try:
        from pillow_heif import register_heif_opener  # from here on Pillow knows the format
    except ImportError:
        remedy = "pip install pillow-heif, or convert it to JPEG"
        raise InputError(f"{name}: a HEIC/HEIF image, which needs the package pillow-heif: {remedy}") from None
    register_heif_opener()
    try:
        return open_header(data, name, max_pixels)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{name}: damaged header ({error}); copy or export it again") from error


def _is_heif(data: bytes) -> bool:
    """Whether a file begins as those of phones do: a box "ftyp" with a brand of HEIF."""
    return data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"hevc")


def open_header(data: bytes, name: str, max_pixels: int | None = None) -> ImageFile:
    """Parse the header only, and judge the size it states by our limit instead of Pillow's.

    Raises InputError if the picture is too large, and what Pillow raises on malformed data.
    """
    image = _parse_header(io.BytesIO(data))
    width, height = image.size
    if max(width, height) > _MAX_SIDE:
        raise InputError(
            f"{name}: {width}×{height} pixels, above the limit of {_MAX_SIDE:,} for a side; cut it into tiles"
        )
    if image.format in _JPEGS and data.count(_SCAN) * width * height > _MOST_WORK:
        raise InputError(f"{name}: a JPEG of {data.count(_SCAN):,} scans, which would take minutes; export it again")
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    if width * height > limit:
        lifts = f"with enough memory, --max-pixels {width * height} lifts it"
        raise InputError(
            f"{name}: {width}×{height} = {width * height / 1e6:.0f} megapixels, above the limit of {limit / 1e6:g}; "
            + ("cut it into tiles" if max_pixels is None else lifts)
        )
    return image


class _OwnLimit:
    """While it is entered, by however many threads, Pillow has no limit: it is a global, and some of its readers ask
    for it while they decode. Ours is an argument.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._before: int | None = None

    def __enter__(self) -> None:
        from PIL import Image

        with self._lock:
            if not self._inside:
                self._before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        from PIL import Image

        with self._lock:
            self._inside -= 1
            if not self._inside:
                Image.MAX_IMAGE_PIXELS = self._before


OWN_LIMIT = _OwnLimit()


def _parse_header(stream: BinaryIO) -> ImageFile:
    from PIL import Image, UnidentifiedImageError

    head = stream.read(4)
    stream.seek(0)
    if head in _PROGRAMS:
        raise UnidentifiedImageError
    with OWN_LIMIT:
        return Image.open(stream)


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;")


def _to_rgb(file: ImageFile, data: bytes, scale: Callable[[np.ndarray], np.ndarray] = to_8bit) -> np.ndarray:
    """scale: brings counts of more than 8 bits to uint8."""
    from PIL import Image

    image: Image.Image = file
    if _is_misread(file):
        return _by_tifffile(data, scale)
    deep_color = file.mode in ("RGB", "RGBA") and ";16" in _rawmode(file)
    file.load()
    orientation = _orientation(file)
    if _is_deep(image):
        grey = scale(_pixels(_upright(image, orientation)))
        return np.repeat(grey[:, :, None], 3, axis=2)
    if deep_color:
        image.info.pop("transparency", None)  # a colour key of 16-bit values means nothing to 8-bit pixels
        image = _scaled_by_depth(image, data, scale)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        white.alpha_composite(image)
        image = white
    if image.mode != "RGB":
        image = image.convert("RGB")
    return _pixels(_upright(image, orientation))


def _whole_jpeg(image: ImageFile, data: bytes, name: str) -> np.ndarray:
    """A JPEG's pixels. Raises OSError if it ends before they do."""
    size = image.size
    try:
        pixels = _to_rgb(image, data)
    except OSError as error:
        if lacks_pixels(data, size):
            raise
        pixels = _to_rgb(_parse_header(io.BytesIO(ended(data))), data)
        warnings.warn(f"{name}: lacks its end marker ({error}); all pixels are there", SegcliWarning, stacklevel=3)
        return pixels
    if may_lack_pixels(data, pixels) and lacks_pixels(data, size):
        raise OSError("pixels are missing at its end")
    return pixels


def _pixels(image: Image.Image) -> np.ndarray:
    """Copy a Pillow image into an array of its own, strip by strip."""
    width, height = image.size
    first = np.asarray(image.crop((0, 0, width, min(_STRIP, height))))
    pixels = np.empty((height, *first.shape[1:]), dtype=first.dtype)
    pixels[:_STRIP] = first
    for top in range(_STRIP, height, _STRIP):
        pixels[top : top + _STRIP] = np.asarray(image.crop((0, top, width, min(top + _STRIP, height))))
    return pixels


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 if there is none or the EXIF block is malformed, as every viewer does.

    Asked after loading: PNG may carry EXIF behind the pixels, and Pillow itself turns TIFFs while loading.
    """
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def _is_misread(image: ImageFile) -> bool:
    """Whether Pillow takes a TIFF's planes of 16 bits for pixels of 8: uncompressed, one plane a colour."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(258, (8,))
    deep = max(bits) > 8 if isinstance(bits, tuple) else bits > 8
    return tags.get(284, 1) == 2 and tags.get(277, 1) > 1 and tags.get(259, 1) == 1 and deep


def _by_tifffile(data: bytes, scale: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    try:
        import tifffile
    except ImportError:
        raise ValueError("a TIFF of 16-bit planes; `pip install tifffile` reads it, or save it interleaved") from None
    planes = tifffile.imread(io.BytesIO(data), key=0)
    planes = planes if planes.ndim == 3 and planes.shape[0] in (2, 3, 4) else np.moveaxis(planes, -1, 0)
    scaled = scale(np.moveaxis(planes[:3] if len(planes) > 2 else planes[:1], 0, -1))
    return np.ascontiguousarray(np.repeat(scaled, 3, axis=2) if scaled.shape[2] == 1 else scaled)


# Pillow keeps only the high byte of 16-bit colour. The same file is decoded once more with the byte order in the raw
# mode swapped, which yields the low bytes.


def _rawmode(image: ImageFile) -> str:
    args = image.tile[0][3] if image.tile else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def _scaled_by_depth(high: Image.Image, data: bytes, scale: Callable[[np.ndarray], np.ndarray]) -> Image.Image:
    from PIL import Image

    top = _pixels(high)
    if scale is to_8bit and levels_of(top[..., :3].astype(np.uint16) << 8) == (0, (1 << 16) - 1):
        return high  # 16 bits in use: the high byte is the answer
    image = _parse_header(io.BytesIO(data))
    if _rawmode(image).startswith("LA"):  # whose bytes Pillow does not swap; OpenCV has it as B, G, R, A
        values = opencv().imdecode(np.frombuffer(data, np.uint8), opencv().IMREAD_UNCHANGED)
        if values is None or values.dtype != np.uint16 or values.shape != top.shape:
            raise OSError("grey and alpha of 16 bits that OpenCV cannot decode")
        top[..., :3] = scale(values[..., :3])
        return Image.fromarray(top)
    opposite = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
    raw = _rawmode(image)
    swapped = raw[:-1] + opposite[raw[-1]]
    make: Callable[[tuple[Any, ...]], Any] = getattr(type(image.tile[0]), "_make", tuple)  # a plain tuple before 11
    image.tile = [
        make((codec, extents, offset, (swapped, *args[1:]) if isinstance(args, tuple) else swapped))
        for codec, extents, offset, args in image.tile
    ]
    image.load()
    values = top.astype(np.uint16) << 8 | _pixels(image)
    scaled = top
    scaled[..., :3] = scale(values[..., :3])
    return Image.fromarray(scaled)
