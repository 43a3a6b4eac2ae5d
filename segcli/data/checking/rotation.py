"""Photos that are shown turned by their EXIF tag while their masks were drawn on the pixels as they are stored."""

from __future__ import annotations

import numpy as np

from segcli.codecs.image import read_image
from segcli.codecs.opencv import opencv
from segcli.data.glance import Glance
from segcli.data.objects import rles_of, turned, upright
from segcli.data.records import Fault, Reader, Record
from segcli.data.truth import MapTruth, Truth
from segcli.errors import InputError, UsageError

# How much stronger a photo's edges must be below the outlines of the other way. The outlines of 409 photographs and
# microscope images, mirrored and turned by a half, fit so much better than the right ones in 1 case of 1,227, and the
# right ones so much better than they in 1,180.
_BETTER = 1.2
_FEWEST = 50  # pixels of outline below which chance decides
_STRONG = 95  # percentile: all edges above it are alike, lest one lamp outshine an object


def read_truth(reader: Reader, record: Record, seen: Glance) -> tuple[Truth, list[Fault]]:
    """The objects on the upright image, also if they were drawn on it as it is stored; and that this was so.

    Where width and height change places their size tells. Where both ways fit, in a picture that is upside down,
    mirrored or square, and in fractions of a side (YOLO), the edges of the photo do.
    """
    if seen.orientation == 1:
        return reader.read(record, seen.size), []
    try:
        truth = reader.read(record, seen.size)
    except InputError:
        stored = _as_stored(reader, record, seen)
        if stored is None:
            raise
        return turned(stored, seen.orientation), [_fault(record, seen, "")]
    stored = truth if seen.stored_size == seen.size else _as_stored(reader, record, seen)
    if stored is None or not _fits_better(stored, truth, record, seen.orientation):
        return truth, []
    return turned(stored, seen.orientation), [_fault(record, seen, " (so says where its edges are)")]


def _fault(record: Record, seen: Glance, why: str) -> Fault:
    message = f"{record.image}: shown turned by its EXIF tag ({seen.orientation}), its masks are not{why}; "
    return Fault("rotation", f"{message}turn the masks or remove the tag")


def _as_stored(reader: Reader, record: Record, seen: Glance) -> Truth | None:
    try:
        return reader.read(record, seen.stored_size)
    except (InputError, UsageError):
        return None


def _fits_better(stored: Truth, truth: Truth, record: Record, orientation: int) -> bool:
    """Whether the outlines turned with the photo lie on its edges, and not those that are taken as upright."""
    photo = _edges(read_image(record.image))
    one, other = _outlines(truth), upright(_outlines(stored), orientation)
    if min(np.count_nonzero(one), np.count_nonzero(other)) < _FEWEST:
        return False
    return float(photo[other].mean()) > _BETTER * float(photo[one].mean())


def _edges(image: np.ndarray) -> np.ndarray:
    """How steep a photo is, float32 [H, W]."""
    cv2 = opencv()
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), 1.0).astype(np.float32)
    steep = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    return np.minimum(steep, np.percentile(steep, _STRONG))


def _outlines(truth: Truth) -> np.ndarray:
    """Where objects begin and end inside the photo, bool [H, W]."""
    result = np.zeros(truth.size, dtype=bool)
    if isinstance(truth, MapTruth):
        result[1:] |= truth.ids[1:] != truth.ids[:-1]
        result[:, 1:] |= truth.ids[:, 1:] != truth.ids[:, :-1]
        return result
    for x, y, mask in (rle.decode_crop() for rle in rles_of(truth) if rle.area):
        height, width = mask.shape
        around = np.pad(mask, 1)
        inside = result[y : y + height + 1, x : x + width + 1]
        rows, columns = inside.shape
        inside[:, :width] |= (around[1:, 1:-1] != around[:-1, 1:-1])[:rows]
        inside[:height] |= (around[1:-1, 1:] != around[1:-1, :-1])[:, :columns]
    result[0], result[:, 0] = False, False  # the photo ends there, not what is in it
    return result
