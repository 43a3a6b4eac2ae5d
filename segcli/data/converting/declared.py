"""The text of a `dataset.toml` (see `segcli.data.settings`)."""

from __future__ import annotations

import json

from segcli.types import LabelSet


def declaration(format: str, labels: LabelSet, ignore: list[int] | None) -> str:
    """format, the ignored values if there are any to state, and every class with its id, name, kind and colour."""
    lines = [f"format = {_text(format)}"]
    if ignore is not None:
        lines.append(f"ignore = {ignore}")
    for label in labels:
        lines += ["", "[[classes]]", f"id = {label.id}", f"name = {_text(label.name)}"]
        lines.append(f"thing = {'true' if label.isthing else 'false'}")
        if label.color:
            lines.append(f"color = {list(label.color)}")
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    """A string of TOML, whose escapes are those of JSON, and one more character that needs one."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
