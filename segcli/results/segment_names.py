"""The file names of single segments."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segcli.segments import Segments


def segment_name(segments: Segments, index: int) -> str:
    """ "007-traffic-light.png": the segment's id, and its class in characters every file system takes."""
    name = segments.label_set[int(segments.labels[index])].name
    words = "".join(c if c.isalnum() else " " for c in name).split()
    return "-".join([f"{index + 1:03d}", *words])[:60] + ".png"
