"""`--save rgba`: the photo with everything but its segments made transparent."""

from __future__ import annotations

from pathlib import Path

from segcli.class_names import is_background
from segcli.files.writing import write_file
from segcli.results.kinds.kind import Answer, SaveKind


class Rgba(SaveKind):
    """<stem>.rgba.png, the size of the photo, with soft edges; `--classes` says which segments. Background goes."""

    name = "rgba"
    about = "all segments on transparency as one picture"
    suffix = ".rgba.png"
    needs_image = True
    needs_soft = True

    def write(self, answer: Answer, path: Path | None) -> None:
        import numpy as np

        from segcli.codecs.png import encode_png
        from segcli.results.soft_edges import soft_crop

        assert path is not None
        assert answer.image is not None
        segments = answer.segments
        clear = np.ones(segments.size, dtype=np.float32)  # what is left to see through
        for index, name in enumerate(segments.names()):
            if is_background(name):
                continue
            x, y, own = soft_crop(segments, index)
            # Segments side by side leave no seam: what one edge lets through, the other's covers.
            part = clear[y : y + own.shape[0], x : x + own.shape[1]]
            np.maximum(part - own / np.float32(255), 0, out=part)
        opacity = (255 * (1 - clear) + 0.5).astype(np.uint8)
        picture = np.zeros((*segments.size, 4), dtype=np.uint8)
        np.copyto(picture[..., :3], answer.image, where=opacity[..., None] > 0)
        picture[..., 3] = opacity
        write_file(path, encode_png(picture))
