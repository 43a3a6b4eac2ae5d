"""`--save masks`: a folder per photo with a black and white PNG of every segment."""

from __future__ import annotations

from pathlib import Path

from segcli.files.writing import write_folder
from segcli.results.kinds.kind import Answer, SaveKind
from segcli.results.segment_names import segment_name


class MaskPngs(SaveKind):
    """<stem>.masks/007-traffic-light.png, of one bit, the size of the photo."""

    name = "masks"
    about = "one PNG per segment"
    suffix = ".masks"
    is_folder = True

    def write(self, answer: Answer, path: Path | None) -> None:
        from segcli.codecs.png import encode_png

        assert path is not None
        segments = answer.segments
        names = (segment_name(segments, index) for index in range(len(segments)))
        write_folder(path, zip(names, map(encode_png, segments.masks()), strict=True))
