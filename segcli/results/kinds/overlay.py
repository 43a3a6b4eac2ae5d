"""`--save overlay`: a JPEG of the photo with its segments drawn over it."""

from __future__ import annotations

from pathlib import Path

from segcli.errors import OutputError
from segcli.files.writing import write_file
from segcli.results.kinds.kind import Answer, SaveKind, SaveRun


class Overlay(SaveKind):
    """One picture per photo, drawn by `SaveRun.draw`."""

    name = "overlay"
    about = "a picture to look at"
    suffix = ".overlay.jpg"
    needs_image = True

    def __init__(self, run: SaveRun) -> None:
        if run.draw is None:
            raise ValueError("overlays need a function that draws them")
        super().__init__(run)

    def write(self, answer: Answer, path: Path | None) -> None:
        from segcli.codecs.jpeg import LONGEST_SIDE, encode_jpeg

        assert path is not None
        assert answer.image is not None
        assert self.run.draw is not None
        height, width = answer.segments.size
        if max(height, width) > LONGEST_SIDE:
            raise OutputError(
                f"{path}: JPEG holds at most {LONGEST_SIDE:,} pixels a side, this photo is {width}×{height}; "
                "leave overlay out of --save"
            )
        write_file(path, encode_jpeg(self.run.draw(answer.image, answer.segments)))
