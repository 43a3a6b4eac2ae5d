"""What `segcli predict` leaves in a folder that was not told to hold masks."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

_TABLES = ("segments.csv", "counts.csv")
_ENDS = {".overlay.jpg": "overlay", ".rgba.png": "rgba", ".cutouts": "cutout"}
_LOOKED_AT = 200  # files of a folder


def refusal_of_pictures(folder: Path) -> str | None:
    """What to say of a folder whose results were saved as pictures and tables alone; None for any other folder."""
    if not folder.is_dir():
        return None
    names = [file.name for file in islice(folder.iterdir(), _LOOKED_AT)]
    if any(name.endswith(".json") for name in names):
        return None
    kinds = ["csv"] if any(name in _TABLES for name in names) else []
    kinds += [kind for end, kind in _ENDS.items() if any(name.endswith(end) for name in names)]
    if not kinds:
        return None
    return (
        f"{folder}: segcli predict saved {' and '.join(kinds)} alone here, without masks that can be read back; "
        "predict again with --save json,png too"
    )
