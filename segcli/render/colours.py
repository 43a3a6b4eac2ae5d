"""Which colour a segment is drawn in: its class's, its own, or its score's."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np

from segcli.segments import Segments
from segcli.types import Label, LabelSet

ColorBy = Literal["class", "instance", "score", "track"]  # a track: an object of a clip, by its id

# Okabe and Ito's seven, then colours that are as far as possible from all before them, in OKLab and in the least
# favourable of four views: full colour vision, and deuteranopia, protanopia and tritanopia as Machado et al. (2009)
# simulate them. Neither near black nor near white, so that both are left for outlines and text.
PALETTE = np.frombuffer(
    bytes.fromhex(
        """
        0072b2 e69f00 009e73 cc79a7 d55e00 56b4e9 f0e442 00ffee 992244 4400ee
        aa66ff ffbb99 bb1188 cc0011 66ddff 7700bb dd11cc ff4477 995555 dd99bb
        cccc44 99bb66 9933ff 9988ee 556600 ee7733 88ddbb 006688 00ccdd aa44aa
        6677dd 884466 880099 bb77cc bb7755 bbee88 ff8899 aa6699 aa6655 aaeebb
        """
    ),
    dtype=np.uint8,
).reshape(-1, 3)
# Nine steps of viridis, evenly lighter from 0 to 1, also to colour-blind eyes.
_RAMP = np.frombuffer(
    bytes.fromhex("440154 472d7b 3b528b 2c728e 21918c 28ae80 5ec962 addc30 fde725"), dtype=np.uint8
).reshape(-1, 3)
# What everybody knows the colour of has it where the dataset names none: sky and trees are not two blues.
_KNOWN = {"sky": 5, "tree": 2, "vegetation": 2, "grass": 21, "terrain": 21}
SCORE_RANGE = (0.5, 1.0)  # scores below are drawn as the lowest: what is shown at all is mostly above
_NO_SCORE = (128, 128, 128)


@lru_cache(maxsize=64)
def class_colours(label_set: LabelSet) -> np.ndarray:
    """uint8 [K, 3] RGB: a class's own colour where the dataset has one, else one that follows from its id.

    The id, not the place: a class has its colour in every picture, also where only some classes are known. Where two
    ids ask for one colour, the higher takes the next that is free, in whatever order the classes are listed.
    """
    colours = np.zeros((len(label_set), 3), dtype=np.uint8)
    own = [_own(label) for label in label_set]
    taken = {place for place, colour in enumerate(map(tuple, PALETTE.tolist())) if colour in own}
    for index, label in sorted(enumerate(label_set), key=lambda place: place[1].id):
        if (known := _own(label)) is not None:
            colours[index] = known
            continue
        place = label.id % len(PALETTE)
        while place in taken and len(taken) < len(PALETTE):
            place = (place + 1) % len(PALETTE)
        taken.add(place)
        colours[index] = PALETTE[place]
    return colours


def _own(label: Label) -> tuple[int, int, int] | None:
    """The colour that a class has whatever its id is."""
    if label.color is not None or label.name.lower() not in _KNOWN:
        return label.color
    red, green, blue = PALETTE[_KNOWN[label.name.lower()]].tolist()
    return red, green, blue


def meaning(segments: Segments, by: ColorBy | None) -> ColorBy:
    """What colours stand for. by None: the class; but the instance where there is only one class of things (cells,
    cars), whose colour would say nothing. Semantic segments are classes."""
    if segments.task == "semantic" and by != "score":
        return "class"
    return by or ("instance" if sum(segments.label_set.isthing) == 1 else "class")


def segment_colours(segments: Segments, by: ColorBy | None = None) -> np.ndarray:
    """uint8 [N, 3] RGB of each segment.

    by: "class", "instance" (things take colours in their order, stuff has its class's), "score", or see `meaning`.
    """
    by = meaning(segments, by)
    if by == "score":
        return score_colours(segments.scores)
    colours = class_colours(segments.label_set)[segments.labels]
    if by == "instance":
        things = np.flatnonzero(np.array(segments.isthing(), dtype=bool))
        colours[things] = PALETTE[np.arange(len(things)) % len(PALETTE)]
    return colours


def score_colours(scores: np.ndarray) -> np.ndarray:
    """uint8 [N, 3] RGB on a scale from dark violet (0.5 and less) to yellow (1); grey where there is no score."""
    low, high = SCORE_RANGE
    known = np.isfinite(scores)
    places = np.where(known, (scores.clip(low, high) - low) / (high - low), 0) * (len(_RAMP) - 1)
    steps = np.arange(len(_RAMP))
    colours = np.stack([np.interp(places, steps, _RAMP[:, channel]) for channel in range(3)], axis=1)
    colours[~known] = _NO_SCORE
    return colours.round().astype(np.uint8)


def text_colour(background: np.ndarray) -> tuple[int, int, int]:
    """Black or white, whichever reads better on a background (WCAG relative luminance, equal contrast at 0.179)."""
    linear = np.where(
        background / 255 <= 0.04045,
        background / 255 / 12.92,
        ((background / 255 + 0.055) / 1.055) ** 2.4,
    )
    luminance = float(linear @ np.array([0.2126, 0.7152, 0.0722]))
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)
