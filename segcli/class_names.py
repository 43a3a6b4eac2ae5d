"""What names of classes mean: which are one class under two names, which are no object at all, which a user chose."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from segcli.errors import UsageError
from segcli.types import LabelSet

# The same thing in Pascal VOC, COCO, LVIS, Open Images, ADE20K and Cityscapes, American and British.
_SYNONYMS = (
    ("airplane", "aeroplane", "plane"),
    ("tv", "tv monitor", "television", "television receiver"),
    ("motorcycle", "motorbike"),
    ("couch", "sofa"),
    ("potted plant", "pottedplant", "houseplant"),
    ("dining table", "diningtable"),
    ("cell phone", "mobile phone", "cellular telephone", "smartphone"),
    ("hair drier", "hair dryer"),
    ("donut", "doughnut"),
    ("person", "human", "people"),
    ("bicycle", "bike"),
    ("traffic light", "traffic signal"),
    ("fire hydrant", "hydrant"),
    ("refrigerator", "fridge"),
    ("car", "automobile"),
    ("truck", "lorry"),
    ("sidewalk", "pavement"),
    ("curb", "kerb"),
    ("nucleus", "nuclei"),
    ("trash can", "garbage bin", "rubbish bin"),
    ("laptop", "laptop computer"),
    ("remote", "remote control"),
    ("faucet", "tap"),
    ("streetcar", "tram"),
)
CELLS = frozenset({"nucleus", "cell", "cells"})  # by what they mean: classes of pictures under a microscope
_NO_NAME = re.compile(r"(class )?\d*|object")  # what readers call a class that has no name in the data
_BACKGROUND = frozenset({"background", "bg", "unlabeled", "unlabelled", "void", "nothing"})


def letters(name: str) -> str:
    """A name as names are compared: without case, blanks and signs."""
    return "".join(c for c in name.casefold() if c.isalnum())


_MEANING = {letters(name): letters(group[0]) for group in _SYNONYMS for name in group}


def meaning_of(name: str) -> str:
    """The same text for all names of one thing: "TV monitor" and "television" are "tv"."""
    own = letters(name)
    return _MEANING.get(own, own)


def has_name(name: str) -> bool:
    """Whether the data themselves named the class, not segcli's reader."""
    return not _NO_NAME.fullmatch(name)


def is_background(name: str) -> bool:
    """Whether a class stands for whatever is none of the others."""
    return letters(name) in _BACKGROUND


def choose_classes(wanted: str | Iterable[str | int], labels: LabelSet, *, option: str = "--classes") -> frozenset[int]:
    """ "person, tv, 17" or ["person", "tv", 17] -> positions, by name, by a synonym, or by the dataset's id.

    Raises UsageError naming what is no class here, with what may be meant.
    """
    given = wanted.split(",") if isinstance(wanted, str) else map(str, wanted)
    words = [word.strip() for word in given if word.strip()]
    if not words:
        raise UsageError(f"{option} names no class; there are {_some(labels.names)}")
    return frozenset(place for word in words for place in _places(word, labels, option))


def _places(word: str, labels: LabelSet, option: str) -> list[int]:
    for key in (letters, meaning_of):
        found = [place for place, label in enumerate(labels) if key(label.name) == key(word)]
        if found:
            return found
    if word.isdecimal() and int(word) in labels.ids:
        return [labels.ids.index(int(word))]
    names = {meaning_of(name): name for name in labels.names} | {letters(name): name for name in labels.names}
    close = get_close_matches(letters(word), [*names, *_MEANING], n=1, cutoff=0.6)
    meant = names.get(close[0]) or names.get(_MEANING.get(close[0], "")) if close else None
    hint = f"did you mean {meant}?" if meant else f"there are {_some(labels.names)}"
    raise UsageError(f"{option} {word}: no such class here; {hint}")


def _some(names: Sequence[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
