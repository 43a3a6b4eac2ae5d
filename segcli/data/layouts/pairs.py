"""Image folders beside label folders: the layouts, and which label file belongs to which image.

train/images  train/labels   val/images  val/labels          split outside
images/train  labels/train   images/val  labels/val          split inside (ADE20K, mmsegmentation: img_dir, ann_dir)
images        labels                                         no split (FiftyOne: data and labels; input and target)
train  train_labels          val  val_labels                 CamVid (or trainannot); train_images, train_masks
train/x.jpg  train/x_mask.png                                label files beside their photos (Roboflow, DeepGlobe)
leftImg8bit/train/city       gtFine/train/city               Cityscapes (same layout, one folder deeper)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from segcli.data.layouts.by_content import told_apart
from segcli.data.layouts.folders import LABEL_SUFFIXES, files_in, split_folders, split_of, subfolders
from segcli.data.layouts.shared_names import Paired, divided, paired
from segcli.data.records import Fault, Record
from segcli.data.settings import Settings
from segcli.errors import UsageError, cut
from segcli.files.image_names import IMAGE_SUFFIXES
from segcli.files.image_ref import FileRef
from segcli.files.text import read_text, table_rows

IMAGE_FOLDERS = (
    "images", "image", "imgs", "img", "jpegimages", "leftimg8bit", "photos", "rgb", "img_dir", "image_dir", "input",
    "inputs", "originals", "original", "data", "x",
)  # fmt: skip
LABEL_FOLDERS = (
    "labels", "label", "masks", "mask", "annotations", "annotation", "segmentationclass", "segmentationclasspng",
    "gtfine", "gt", "ground_truth", "groundtruth", "segmentation", "segmentations", "instances", "ann_dir", "label_dir",
    "mask_dir", "annos", "anno", "annot", "annots", "target", "targets", "gts", "seg", "segs", "y",
)  # fmt: skip
_METADATA = ("metadata.jsonl", "metadata.csv")  # of Hugging Face's imagefolder: which file is whose label map


@dataclass(frozen=True)
class PairedFolders:
    """One split's folder of images and its folder of label files, which may be the same."""

    images: Path
    labels: Path

    def files(self, only: str | None = None) -> tuple[list[Path], list[Path]]:
        """(images, label files). only: label files that end in this, where a folder has several kinds."""
        if self.images == self.labels:
            images, labels = divided(files_in(self.images, IMAGE_SUFFIXES))
        else:
            images = files_in(self.images, IMAGE_SUFFIXES, deep=True)
            labels = files_in(self.labels, LABEL_SUFFIXES, deep=True)
        return images, [file for file in labels if only is None or file.name.endswith(only)]


def paired_folders(root: Path, settings: Settings) -> dict[str, PairedFolders]:
    """split (or "all") -> its two folders, by the first layout that fits; empty if none does.

    Raises UsageError if images and label files are declared to be in one folder where names do not tell them apart.
    """
    declared = {
        split: PairedFolders(place.images, place.labels)
        for split, place in settings.places.items()
        if place.images and place.labels
    }
    for split, pair in declared.items():
        if pair.images.resolve() == pair.labels.resolve():
            declared[split] = one = PairedFolders(pair.images, pair.images)
            if not one.files()[1]:
                raise UsageError(
                    f"{settings.file}: images and labels are both {pair.images}, and the files' names do not tell "
                    "photos from label maps; move the label maps into a folder of their own"
                )
    found = declared or _split_outside(root) or _split_inside(root) or _beside(root) or _within(root)
    return found or (_by_content(root) if settings.everywhere else {})


def _split_outside(root: Path) -> dict[str, PairedFolders]:
    pairs = {split: _pair_in(folder) for split, folder in split_folders(root).items()}
    return {split: pair for split, pair in pairs.items() if pair}


def _split_inside(root: Path) -> dict[str, PairedFolders]:
    pair = _pair_in(root)
    return _of_splits(pair) if pair else {}


def _by_content(root: Path) -> dict[str, PairedFolders]:
    """Two folders of other names, of which one holds label maps; in the folders of splits or around them."""
    homes = split_folders(root)
    pairs = {split: PairedFolders(*pair) for split, home in homes.items() if (pair := told_apart(home))}
    both = None if pairs else told_apart(root)
    return pairs or (_of_splits(PairedFolders(*both)) if both else {})


def _of_splits(pair: PairedFolders) -> dict[str, PairedFolders]:
    """A pair of folders as it is, or the folders of splits in it."""
    images, labels = split_folders(pair.images), split_folders(pair.labels)
    common = {split: PairedFolders(images[split], labels[split]) for split in images if split in labels}
    return common or {"all": pair}


def _pair_in(folder: Path) -> PairedFolders | None:
    children = {child.name.lower(): child for child in subfolders(folder)}
    images = next((children[name] for name in IMAGE_FOLDERS if name in children), None)
    labels = [children[name] for name in LABEL_FOLDERS if name in children]
    holding = next((place for place in labels if files_in(place, LABEL_SUFFIXES, deep=True)), None)
    if images and (holding or labels):
        return PairedFolders(images, holding or labels[0])
    return None


def _beside(root: Path) -> dict[str, PairedFolders]:
    """Folders called by a split and what they hold: train (or train_images) and train_labels (or trainannot)."""
    images: dict[str, list[Path]] = {}
    labels: dict[str, list[Path]] = {}
    for child in subfolders(root):
        name = re.sub(r"[^a-z]", "", child.name.lower())
        split = next((word for word in _SPLIT_STARTS if name.startswith(word)), None)
        split = split or next((word for word in _SPLIT_STARTS if name.endswith(word)), None)
        if split is None:
            continue
        rest = name.removeprefix(split).removesuffix(split)
        if not rest or rest in _BARE_IMAGES:
            images.setdefault(str(split_of(split)), []).append(child)
        elif rest in _BARE_LABELS:
            labels.setdefault(str(split_of(split)), []).append(child)
    for found in (images, labels):
        for split, folders in found.items():
            if len(folders) > 1 and images.keys() & labels.keys():
                raise UsageError(
                    f"{root}: {folders[0].name}/ and {folders[1].name}/ could both belong to the {split} split; "
                    f'say which in dataset.toml: [{split}] images = "…", labels = "…"'
                )
    return {split: PairedFolders(images[split][0], labels[split][0]) for split in images if split in labels}


_SPLIT_STARTS = ("training", "trainval", "train", "trn", "validation", "valid", "val", "testing", "test")
_BARE_IMAGES = {re.sub(r"[^a-z]", "", name) for name in IMAGE_FOLDERS} - {"x", "data"}
_BARE_LABELS = {re.sub(r"[^a-z]", "", name) for name in LABEL_FOLDERS} - {"y"}


def _within(root: Path) -> dict[str, PairedFolders]:
    """Label files in the folders of their photos: those called after a split, or the dataset's own."""
    folders = split_folders(root) or {"all": root}
    pairs = {split: PairedFolders(folder, folder) for split, folder in folders.items()}
    return {split: pair for split, pair in pairs.items() if pair.files()[1]}


def paired_records(pair: PairedFolders, *, only: str | None = None) -> tuple[list[Record], list[Path], str]:
    """(a record an image, label files without an image, how their names differ if that was learnt from them). An image
    without a label file gets the path where it ought to be, and the scan will say that it is missing.

    only: take label files that end in this, where a folder has several kinds ("_gtFine_labelIds.png").
    """
    images, labels = pair.files(only)
    if named := dict(_named_in_metadata(pair.images)):
        found = Paired({image: named[image] for image in images if image in named}, {i: i.stem for i in images})
        images = [image for image in images if image in named]
    else:
        found = paired(images, pair.images, labels, pair.labels)
    records = []
    for image in images:
        label = found.pairs.get(image) or pair.labels / f"{found.keys[image]}{only or '.png'}"
        records.append(Record(found.keys[image], FileRef(str(image)), str(label)))
    return records, found.orphans, found.difference


def _named_in_metadata(folder: Path) -> Iterator[tuple[Path, Path]]:
    """(image, label file) as a Hugging Face imagefolder's metadata says: "file_name", and another "…_file_name"."""
    file = next((folder / name for name in _METADATA if (folder / name).is_file()), None)
    if file is None:
        return
    try:
        rows = (
            table_rows(file)
            if file.suffix == ".csv"
            else [json.loads(line) for line in read_text(file).split("\n") if line.strip()]
        )
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file}: not valid {file.suffix[1:].upper()} ({cut(error)}); write it again") from error
    for row in rows:
        if isinstance(row, dict) and isinstance(row.get("file_name"), str):
            other = next((v for k, v in row.items() if k != "file_name" and str(k).endswith("file_name")), None)
            if isinstance(other, str) and ".." not in other and ".." not in row["file_name"]:
                yield folder / row["file_name"], folder / other


def left_out(orphans: list[Path]) -> tuple[Fault, ...]:
    """What to say of label files without an image."""
    if not orphans:
        return ()
    message = f"{len(orphans)} label maps without an image are left out, such as {orphans[0]}"
    return (Fault("orphan", message, len(orphans)),)


def label_files(pairs: dict[str, PairedFolders], count: int) -> list[Path]:
    """Up to `count` label files, spread evenly over all splits."""
    files = [file for pair in pairs.values() for file in pair.files()[1]]
    return files[:: max(1, len(files) // count)][:count]


def named_alike(split: str, difference: str) -> list[str]:
    """What to say aloud of pairs that were found by what their names differ in."""
    where = "" if split == "all" else f"{split}: "
    return [f"{where}images and label files are paired by what their names share ({difference})"] if difference else []
