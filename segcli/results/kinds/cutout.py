"""`--save cutout`: a folder per photo with every segment cut out along its outline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from segcli.files.writing import write_folder
from segcli.results.kinds.kind import Answer, SaveKind
from segcli.results.segment_names import segment_name

if TYPE_CHECKING:
    import numpy as np

    from segcli.segments import Segments


class Cutouts(SaveKind):
    """<stem>.cutouts/007-traffic-light.png, RGBA, each in its own part of the photo, with soft edges."""

    name = "cutout"
    about = "each segment on transparency"
    suffix = ".cutouts"
    is_folder = True
    needs_image = True
    needs_soft = True

    def write(self, answer: Answer, path: Path | None) -> None:
        assert path is not None
        assert answer.image is not None
        write_folder(path, _files(answer.image, answer.segments))


def _files(image: np.ndarray, segments: Segments) -> Iterator[tuple[str, bytes]]:
    """(name, PNG) of each segment; what is transparent is black too, so that nothing of the rest is passed on."""
    import numpy as np

    from segcli.codecs.png import encode_png
    from segcli.results.soft_edges import soft_crop

    for index in range(len(segments)):
        x, y, opacity = soft_crop(segments, index)
        if not opacity.size:
            continue
        cut = np.zeros((*opacity.shape, 4), dtype=np.uint8)
        cut[..., 3] = opacity
        here = image[y : y + opacity.shape[0], x : x + opacity.shape[1]]
        np.copyto(cut[..., :3], here, where=opacity[..., None] > 0)
        yield segment_name(segments, index), encode_png(cut)
