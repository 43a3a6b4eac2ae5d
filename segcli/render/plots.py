"""Charts in one style, through matplotlib: made without a display, the same bytes for the same numbers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segcli.codecs.signature import SIGNATURE
from segcli.files.writing import replace_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Any: matplotlib types its parameters by name, and reads them from text as well.
STYLE: Any = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "figure.dpi": 100.0,
    "savefig.dpi": 150.0,
    "svg.hashsalt": "segcli",  # ids in an SVG are random otherwise
    # Okabe and Ito's colours, which colour-blind eyes tell apart.
    "axes.prop_cycle": "cycler('color', ['0072B2', 'D55E00', '009E73', 'CC79A7', 'E69F00', '56B4E9', '000000'])",
}


def figure(width: float, height: float) -> Figure:
    """An empty figure of some inches, to be filled within `matplotlib.rc_context(STYLE)`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def encode(picture: Figure, suffix: str) -> bytes:
    """The file's bytes: ".png" or ".svg"."""
    import matplotlib

    buffer = io.BytesIO()
    metadata = {"Date": None} if suffix == ".svg" else {"Software": SIGNATURE}
    with matplotlib.rc_context(STYLE):
        picture.savefig(buffer, format=suffix.removeprefix("."), metadata=metadata)
    return buffer.getvalue()


def save(picture: Figure, path: Path) -> None:
    """Write a figure, whole or not at all; its format is the suffix, .png or .svg."""
    replace_file(path, lambda part: part.write_bytes(encode(picture, path.suffix)))
