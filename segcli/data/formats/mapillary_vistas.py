"""Mapillary Vistas as it is downloaded: config.json, and training/ and validation/ with panoptic maps or label maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from segcli.data.coco.files import merged_categories, merged_rows, records
from segcli.data.coco.packs import pack
from segcli.data.formats import coco_panoptic
from segcli.data.formats.semantic_png import SemanticReader
from segcli.data.layouts.folders import files_in, split_folders, subfolders
from segcli.data.layouts.pairs import PairedFolders, left_out, paired_records
from segcli.data.numbers import class_name, shown
from segcli.data.records import Fault, Found, Record
from segcli.data.settings import Settings
from segcli.errors import UsageError, cut
from segcli.files.text import read_text
from segcli.types import Label

FORMAT = "mapillary-vistas"
SOUGHT = "Mapillary Vistas (config.json with training/ and validation/)"
WRITTEN_AS = "coco-panoptic"
PLACES: tuple[str, ...] = ()
EXPLAINS: tuple[str, ...] = ("coco-panoptic", "coco-instance", "semantic-png", "instance-png")
IS_LABEL_MAPS = False
_CONFIGS = ("config.json", "config_v1.2.json", "config_v2.0.json")
_PNG = frozenset({".png"})
_JPG = frozenset({".jpg", ".jpeg", ".png"})


def _config(root: Path) -> tuple[Path, list[dict[str, Any]]] | None:
    """The file with the classes, the newest if there are several, and its rows."""
    for name in reversed(_CONFIGS):
        file = root / name
        if not file.is_file() or file.stat().st_size > 1 << 20:
            continue
        try:
            raw = json.loads(read_text(file))
        except (ValueError, RecursionError, UsageError) as error:
            if _trees(root):
                raise UsageError(f"{file}: not valid JSON ({cut(error)}); copy it again") from error
            continue
        rows = raw.get("labels") if isinstance(raw, dict) else None
        if isinstance(rows, list) and rows and all(isinstance(row, dict) and "evaluate" in row for row in rows):
            return file, rows
    return None


def _trees(root: Path) -> dict[str, tuple[Path, Path]]:
    """split -> (images, the folder that the label kinds lie in): v1.2 has them in the split, v2.0 in v2.0/."""
    found = {}
    for split, folder in split_folders(root).items():
        homes = [child for child in subfolders(folder) if child.name in ("v2.0", "v1.2")]
        home = next(
            (h for h in (*reversed(homes), folder) if (h / "labels").is_dir() or (h / "panoptic").is_dir()), None
        )
        if (folder / "images").is_dir() and home:
            found[split] = (folder / "images", home)
    return found


def _panoptic_file(home: Path) -> Path | None:
    return (
        next(iter(sorted((home / "panoptic").glob("panoptic*.json"))), None) if (home / "panoptic").is_dir() else None
    )


def probe(root: Path, settings: Settings) -> str | None:
    """The kind of truth in each split; None if this is no Vistas tree."""
    if _config(root) is None:
        return None
    trees = _trees(root)
    return ", ".join(f"{images.parent.name}/{'panoptic' if _panoptic_file(home) else 'labels'}"
                     for images, home in trees.values()) or None  # fmt: skip


def load(root: Path, settings: Settings) -> Found:
    """The dataset: panoptic where every split with truth has panoptic maps, else semantic; classes that are not
    evaluated are void."""
    found = _config(root)
    trees = {split: tree for split, tree in _trees(root).items() if _has_truth(tree[1])}
    if found is None or not trees:
        raise UsageError(f"{root}: no split has labels/ or panoptic/ beside its images")
    if all(_panoptic_file(home) for _, home in trees.values()) and settings.task != "semantic":
        return _panoptic(root, settings, trees)
    return _semantic(root, settings, trees, *found)


def _has_truth(home: Path) -> bool:
    return _panoptic_file(home) is not None or bool(files_in(home / "labels", _PNG))


def _panoptic(root: Path, settings: Settings, trees: dict[str, tuple[Path, Path]]) -> Found:
    packs = {split: pack(_json(home), "panoptic", coco_panoptic.piece) for split, (_, home) in trees.items()}
    splits: dict[str, list[Record]] = {}
    faults: list[Fault] = []
    for number, (split, packed) in enumerate(packs.items()):
        images, _ = trees[split]
        there = {file.stem: file for file in files_in(images, _JPG)}
        annotated = coco_panoptic.annotated_images(packed, faults)
        photos = [there.get(Path(i.file_name).stem, images / Path(i.file_name).name) for i in annotated]
        splits[split] = records(number, photos, annotated)
    source = next(iter(packs.values())).source
    rows = merged_categories(packs.values())
    labels = settings.label_set([coco_panoptic.label_of(row, source, settings) for row in rows], source)
    reader = coco_panoptic.PanopticReader(
        tuple(packed.data for packed in packs.values()), tuple(home / "panoptic" for _, home in trees.values())
    )
    what = f"Mapillary Vistas: {probe(root, settings)}"
    tasks = coco_panoptic.TASKS
    return Found(FORMAT, what, splits, labels, tasks, reader, faults=tuple(faults), rows=merged_rows(packs.values()))


def _json(home: Path) -> Path:
    file = _panoptic_file(home)
    assert file is not None
    return file


def _semantic(
    root: Path, settings: Settings, trees: dict[str, tuple[Path, Path]], config: Path, rows: list[dict[str, Any]]
) -> Found:
    labels: list[Label] = []
    ignore: list[int] = []
    for number, row in enumerate(rows):
        if not row.get("evaluate"):
            ignore.append(number)
            continue
        color = row.get("color")
        is_colour = isinstance(color, list) and len(color) == 3 and all(type(c) is int and 0 <= c < 256 for c in color)
        if color is not None and not is_colour:
            raise UsageError(f"{config}: the color of class {number} is {shown(color)}; expected [R, G, B]")
        name = class_name(row.get("readable") or row.get("name"), number)
        labels.append(Label(number, name, isthing=False, color=tuple(color) if color else None))
    splits: dict[str, list[Record]] = {}
    orphans: list[Path] = []
    for split, (images, home) in trees.items():
        splits[split], of_split, _ = paired_records(PairedFolders(images, home / "labels"))
        orphans += of_split
    label_set = settings.label_set(labels, config)
    reader = SemanticReader(tuple(label_set.ids), (*ignore, 255), tuple(label_set))
    note = f"{len(ignore)} class{'es' * (len(ignore) != 1)} that Vistas does not evaluate count as void"
    what = f"Mapillary Vistas: {probe(root, settings)}"
    notes = (note,) if ignore else ()
    return Found(FORMAT, what, splits, label_set, ("semantic",), reader, (*ignore, 255), notes, left_out(orphans))
