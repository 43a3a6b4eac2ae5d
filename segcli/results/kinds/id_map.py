"""`--save png`: the segments of a photo as one map of ids."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from segcli.files.writing import write_file
from segcli.results.kinds.kind import Answer, SaveKind

if TYPE_CHECKING:
    from segcli.segments import Segments

_NONE_8, _NONE_16 = 255, 65_535  # semantic maps: no class


class IdMap(SaveKind):
    """One PNG per photo: panoptic ids in RGB as COCO's, instance numbers in 16 bits, or semantic class ids."""

    name = "png"
    about = "a map of segment or class ids"
    suffix = ".png"

    def write(self, answer: Answer, path: Path | None) -> None:
        assert path is not None
        write_file(path, self._encode(answer.segments))

    def _encode(self, segments: Segments) -> bytes:
        import numpy as np

        from segcli.codecs.panoptic_png import encode_panoptic_png
        from segcli.codecs.png import encode_png

        if segments.task == "panoptic":
            return encode_panoptic_png(segments.ids())
        if segments.task != "semantic":
            return encode_png(segments.ids().astype(np.uint16))
        # A data set's maps have one depth, whatever classes a photo shows.
        narrow = max(self.run.labels.ids, default=0) < _NONE_8
        none, dtype = (_NONE_8, np.uint8) if narrow else (_NONE_16, np.uint16)
        values: np.ndarray = np.array([none, *segments.category_ids()], dtype=dtype)
        return encode_png(segments.ids(), lambda rows: np.take(values, rows))
