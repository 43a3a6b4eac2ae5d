"""The shell of a report: one HTML page that carries its style and scripts, and lets nothing else run or load.

What the page shows is data: blocks of JSON in which no sign can end the block, read by the scripts and set as text.
The content-security policy names the page's own style and scripts by their hashes. A page with a folder of images
besides loads pictures and style sheets from where it lies, never from elsewhere; masks come as style sheets because
those are the one kind of text that a page opened from disk may read, and they cannot run.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Iterator
from importlib.resources import files
from string import Template
from typing import Any

GENERATOR = "segcli viz report"
_SCRIPTS = ("data.js", "masks.js", "gallery.js", "viewer.js", "tables.js", "main.js")


def block(name: str, value: Any) -> str:
    """A value as a block of JSON that the scripts find by its name."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return f'<script type="application/json" id="{name}">{text.replace("<", chr(92) + "u003c")}</script>\n'


def render_page(title: str, head: dict[str, Any], blocks: Iterable[str], *, folder: bool) -> Iterator[bytes]:
    """The page in pieces.

    Args:
        title: of the window.
        head: what the scripts read first; its keys are those that data.js, gallery.js and tables.js ask for.
        blocks: `block`s of images and pictures; none with a folder.
        folder: whether images are loaded from a folder beside the page.
    """
    style = _text("page.css")
    scripts = [_text(name) for name in _SCRIPTS]
    beside = " 'self' file:" if folder else ""
    policy = {
        "default-src": "'none'",
        "script-src": " ".join(map(_hash, scripts)),
        "style-src": _hash(style) + beside,
        "img-src": "data:" + beside,
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    shell = Template(_text("page.html")).substitute(
        policy="; ".join(f"{key} {value}" for key, value in policy.items()),
        generator=GENERATOR,
        title=html.escape(title),
        style=style,
        blocks=_SEAM,
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )
    before, after = shell.split(_SEAM)
    yield before.encode()
    yield block("head", head).encode()
    for text in blocks:
        yield text.encode()
    yield after.encode()


_SEAM = "<!-- blocks -->"


def _text(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """A source expression that admits exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
