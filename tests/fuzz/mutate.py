"""Seeded damage: to the bytes of any file, to the values of a JSON or TOML file, to the lines of a text."""

from __future__ import annotations

import copy
import json
import os
import random
from pathlib import Path
from typing import Any

# What readers have stumbled over: extremes of their types, other kinds, names that lead elsewhere, steering characters.
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 255, 256, 1.5, -0.0, 1e300, 2**31, 2**32, 2**63, 2**64, 10**30, -(2**63),
    float("nan"), float("inf"), "", "x", "0", "1e9", "\x00", "\ud800", "\x1b[31m", "é" * 300, "A" * 5000, "../../x",
    "/etc/hostname", "a\nb", "a/b", ".", "..", "con", [], {}, [[]], [{}], [1, 2], [None], ["a", "b"], {"a": 1},
    [[1, 1, 1, 1]], [0.5, "x", 3, 4, 5, 6], [10**9] * 4, {"size": [10**9, 10**9], "counts": [10**18]},
    {"size": [3, 4], "counts": "nonsense"}, {"height": -1, "width": 0},
]  # fmt: skip
_BYTES = [b"\x00", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0" * 4, b"%n", b"\r\n", b"\xff\xd8"]
_WORDS = ["", "-1", "1e400", "nan", "9" * 5000, "x" * 999, "[" * 2000, '"', "&a [*a]", "0", "\n", "é", "../x", "\0"]


def damage_bytes(raw: bytes, rng: random.Random) -> bytes:
    """A few of: flipped bits, other bytes, a piece cut out, doubled or moved, the end cut off."""
    data = bytearray(raw)
    for _ in range(rng.choice([1, 1, 2, 4, 8])):
        if not data:
            return b""
        at = rng.randrange(len(data))
        length = min(len(data) - at, rng.choice([1, 2, 4, 16, 256]))
        match rng.randrange(7):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at] = rng.randrange(256)
            case 2:
                word = rng.choice(_BYTES)
                data[at : at + len(word)] = word
            case 3:
                del data[at : at + length]
            case 4:
                data[at:at] = data[at : at + length]
            case 5:
                other = rng.randrange(len(data))
                data[at : at + length] = data[other : other + length]
            case _:
                if rng.random() < 0.2:
                    del data[at:]
    return bytes(data)


def damage_value(value: Any, rng: random.Random) -> Any:
    """A JSON value with some of its parts replaced, left out, doubled or wrapped."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        places = list(_places(value))
        if not places:
            return rng.choice(VALUES)
        holder, key = rng.choice(places)
        match rng.randrange(6):
            case 0 | 1 | 2:
                holder[key] = copy.deepcopy(rng.choice(VALUES))
            case 3:
                del holder[key]
            case 4:
                other, name = rng.choice(places)
                found = _at(other, name)
                holder[key] = copy.deepcopy(found)
            case _:
                holder[key] = _deep(holder[key], rng.choice([1, 3, 1500]))
    return value


def damage_json(raw: bytes, rng: random.Random) -> bytes:
    """A JSON file, mostly by its values."""
    if rng.random() < 0.3:
        return damage_bytes(raw, rng)
    try:
        return json.dumps(damage_value(json.loads(raw), rng)).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return damage_bytes(raw, rng)


def damage_text(raw: bytes, rng: random.Random) -> bytes:
    """A text file, mostly by its words: TOML, YAML, lists of polygons."""
    if rng.random() < 0.4:
        return damage_bytes(raw, rng)
    words = raw.decode("utf-8", "surrogateescape").split(" ")
    for _ in range(rng.choice([1, 2, 4])):
        at = rng.randrange(len(words))
        words[at] = rng.choice(_WORDS)
    return " ".join(words).encode("utf-8", "surrogateescape")


def damage(name: str, raw: bytes, rng: random.Random) -> bytes:
    """A file, by the ending of its name."""
    if name.endswith((".json", ".jsonl")):
        return damage_json(raw, rng)
    if name.endswith((".toml", ".yaml", ".yml", ".txt", ".xml", ".csv")):
        return damage_text(raw, rng)
    return damage_bytes(raw, rng)


def damage_kind(file: Path, rng: random.Random) -> None:
    """Something else in a file's place: a folder, a pipe that nobody writes to, a link, a hole of a terabyte."""
    file.unlink()
    match rng.randrange(7):
        case 0:
            file.mkdir()
        case 1:
            os.mkfifo(file)
        case 2:
            file.symlink_to("/dev/zero")
        case 3:
            file.symlink_to(file.name)
        case 4:
            file.symlink_to("/etc/hostname")
        case 5:
            file.touch()
            os.truncate(file, 10**12)
        case _:
            pass


def _places(value: Any) -> Any:
    """(container, key) of every value inside."""
    stack = [value]
    while stack:
        holder = stack.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else []
        for key in keys:
            yield holder, key
            if isinstance(holder[key], dict | list):
                stack.append(holder[key])


def _at(holder: Any, key: Any) -> Any:
    try:
        return holder[key]
    except (KeyError, IndexError):
        return None


def _deep(value: Any, times: int) -> Any:
    for _ in range(times):
        value = [value]
    return value
