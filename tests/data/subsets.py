"""Small copies of the real datasets, to be broken."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path


def subset(shared: Path, name: str, to: Path, count: int) -> Path:
    """The first `count` images of each split, with their annotations; files are copies, so that they may be changed."""
    source = shared / "data" / name
    if name == "nuclei":
        for split in ("train", "val"):
            for image in sorted((source / split / "images").iterdir())[:count]:
                for folder in ("images", "labels"):
                    _copy(source / split / folder / image.name, to / split / folder / image.name)
        return to
    for file in sorted(source.glob("*.json")):
        raw = json.loads(file.read_text())
        annotated = {row["image_id"] for row in raw["annotations"]}
        images = [row for row in raw["images"] if row["id"] in annotated][:count]
        ids = {row["id"] for row in images}
        raw["images"], raw["annotations"] = images, [row for row in raw["annotations"] if row["image_id"] in ids]
        to.mkdir(parents=True, exist_ok=True)
        (to / file.name).write_text(json.dumps(raw))
        for row in images:
            _copy(source / "images" / row["file_name"], to / "images" / row["file_name"])
        for row in raw["annotations"]:
            if "segments_info" in row:
                _copy(source / file.stem / row["file_name"], to / file.stem / row["file_name"])
    return to


def _copy(source: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, to)
    os.chmod(to, 0o644)
