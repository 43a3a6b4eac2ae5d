"""`--save cutout`: a folder a photo with every segment cut out along its outline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from segcli.codecs.files import write_folder
from segcli.results.kinds.kind import Answer, SaveKind
from segcli.results.segment_names import segment_name

if TYPE_CHECKING:
    import numpy as np

    from segcli.segments import Segments


class Cutouts(SaveKind):
    """<stem>.cutouts/007-traffic-light.png, RGBA, each inside its box."""

    name = "cutout"
    about = "each segment on transparency"
    suffix = ".cutouts"
    is_folder = True
    needs_image = True

    def write(self, answer: Answer, path: Path | None) -> None:
        assert path is not None
        assert answer.image is not None
        write_folder(path, _files(answer.image, answer.segments))


def _files(image: np.ndarray, segments: Segments) -> Iterator[tuple[str, bytes]]:
    """(name, PNG) of each segment; what is transparent is black too, so that nothing of the rest is passed on."""
    import numpy as np

    from segcli.codecs.png import encode_png

    for index in range(len(segments)):
        x, y, mask = segments.crop(index)
        if not mask.size:
            continue
        cut = np.zeros((*mask.shape, 4), dtype=np.uint8)
        cut[..., 3] = mask * np.uint8(255)
        np.copyto(cut[..., :3], image[y : y + mask.shape[0], x : x + mask.shape[1]], where=mask[..., None])
        yield segment_name(segments, index), encode_png(cut)
