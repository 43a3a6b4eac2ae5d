"""ImageJ and Fiji: images/ and a zip of regions of interest for each, as the ROI Manager opens them."""

from __future__ import annotations

import io
import zipfile

import numpy as np

from segcli.codecs.outlines import joined_loops
from segcli.data.converting.writing import Encoded, Item, Kind, Writer, outlined, things_of
from segcli.errors import UsageError
from segcli.types import LabelSet


class ImagejRoiWriter(Writer):
    """images/ and rois/x.zip, a polygon for each part of an object; holes are cut in by seams of no width."""

    IS_FOR_EDITING = True
    NEEDS_OBJECTS = True
    HOLDS_OVERLAPS = True

    def __init__(self, labels: LabelSet, kind: Kind) -> None:
        try:
            import roifile  # noqa: F401
        except ImportError:
            raise UsageError('--to imagej-roi needs the package roifile: pip install "segcli[imagej]"') from None
        self._labels = labels if kind == "outlines" else things_of(labels)
        self.notes: tuple[str, ...] = ()

    def image_place(self, split: str, name: str) -> str:
        return f"images/{name}" if split == "all" else f"{split}/images/{name}"

    def encode(self, item: Item) -> Encoded:
        from roifile import ROI_TYPE, ImagejRoi

        done = Encoded()
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for found in outlined(item, self._labels, self.tolerance, done):
                done.changes["objects of several parts become a region for each part"] += len(found.parts) > 1
                done.changes["regions"] += len(found.parts)
                for part, (outline, holes) in enumerate(found.parts, start=1):
                    done.changes["holes are cut into polygons by seams of no width"] += len(holes)
                    points = joined_loops([outline, *holes]).astype(np.float32)
                    name = f"{found.number:04}-{part}-{found.name}"
                    roi = ImagejRoi.frompoints(points, name=name)
                    roi.roitype = ROI_TYPE.POLYGON
                    place = zipfile.ZipInfo(f"{name.replace('/', '_')}.roi", (1980, 1, 1, 0, 0, 0))
                    archive.writestr(place, roi.tobytes())
        place_of_zip = f"rois/{item.stem}.zip"
        done.files[place_of_zip if item.split == "all" else f"{item.split}/{place_of_zip}"] = buffer.getvalue()
        return done
