"""Writes the same images and objects in every layout that segcli reads: generated scenes, or part of a real dataset."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segcli.codecs.panoptic_png import encode_panoptic_png
from segcli.codecs.rle import encode
from segcli.data.dataset import Dataset
from segcli.types import Label, LabelSet


@dataclass
class Shot:
    """An image and its objects: masks bool [N, H, W], ids: class ids [N]. Nothing overlaps."""

    name: str
    image: np.ndarray
    masks: np.ndarray
    ids: list[int]

    def map(self, values: list[int], nothing: int = 0) -> np.ndarray:
        """[H, W] with values[i] where object i is."""
        result = np.full(self.image.shape[:2], nothing, dtype=np.int32)
        for mask, value in zip(self.masks, values, strict=True):
            result[mask] = value
        return result


Splits = dict[str, list[Shot]]
LABELS = LabelSet(
    (Label(1, "disc", True, (255, 0, 0)), Label(7, "box", True, (0, 255, 0)), Label(90, "sky", False, (0, 0, 255)))
)
THINGS = LabelSet(LABELS.labels[:2])


def scene(index: int, size: tuple[int, int] = (40, 56)) -> Shot:
    """Some rectangles (ids 1 and 7) below a strip of stuff (id 90); the rest belongs to nothing."""
    rng = np.random.default_rng(index)
    height, width = size
    boxes = [(0, 0, width, 8)]
    ids = [90]
    for column in range(1 + index % 3, 0, -1):
        x, y = column * 16 - 12 + int(rng.integers(3)), 12 + int(rng.integers(6))
        boxes.append((x, y, x + 6 + int(rng.integers(5)), y + 8 + int(rng.integers(12))))
        ids.append(int(rng.choice([1, 7])))
    masks = np.zeros((len(boxes), height, width), dtype=bool)
    image = rng.integers(0, 60, (height, width, 3)).astype(np.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
        image[mask] += rng.integers(60, 190, 3).astype(np.uint8)
    return Shot(f"shot{index}", image, masks, ids)


def scenes(train: int = 4, val: int = 2) -> Splits:
    """Generated splits."""
    return {"train": [scene(i) for i in range(train)], "val": [scene(100 + i) for i in range(val)]}


def things_only(splits: Splits, ids: tuple[int, ...] = (1, 7)) -> Splits:
    """The same without stuff."""

    def strip(shot: Shot) -> Shot:
        kept = [i for i, label in enumerate(shot.ids) if label in ids]
        return Shot(shot.name, shot.image, shot.masks[kept], [shot.ids[i] for i in kept])

    return {split: [strip(shot) for shot in shots] for split, shots in splits.items()}


def shots_of(dataset: Dataset, count: int) -> list[Shot]:
    """The first images of a real split."""
    samples = [dataset[i] for i in range(count)]
    return [
        Shot(f"real{i}", s.image, s.masks, [dataset.labels[int(label)].id for label in s.labels])
        for i, s in enumerate(samples)
    ]


# ------------------------------------------------------------------------------------------------------ writing


def save(file: Path, pixels: np.ndarray, **options: Any) -> Path:
    """A PNG (lossless, so that pixels can be compared), of 16 bits where it must be."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if pixels.ndim == 2:
        pixels = pixels.astype(np.uint8 if pixels.max(initial=0) < 256 else np.uint16)
    Image.fromarray(pixels).save(file, **options)
    return file


def save_palette(file: Path, indices: np.ndarray) -> Path:
    """A palette PNG whose colours are nothing like its indices."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(indices.astype(np.uint8)).convert("L")
    image.putpalette([(37 * i + 128) % 256 for i in range(768)])
    image.save(file)
    return file


def save_json(file: Path, value: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value), encoding="utf-8")
    return file


def categories(labels: LabelSet) -> list[dict[str, Any]]:
    return [{"id": x.id, "name": x.name, "isthing": int(x.isthing), "supercategory": "all"} for x in labels]


def polygons(mask: np.ndarray) -> list[list[float]]:
    """The outlines of a mask, along the outer edges of its pixels: exact for rectangles."""
    import cv2

    # On a grid four times finer, the pixels' centres that OpenCV traces are 1/8 pixel from the true edge.
    fine = np.kron(mask.astype(np.uint8), np.ones((4, 4), dtype=np.uint8))
    outlines, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [((o.reshape(-1, 2) + 0.5) / 4).ravel().tolist() for o in outlines if len(o) > 2]


def coco_panoptic(root: Path, splits: Splits, labels: LabelSet, *, inside: bool = False) -> Path:
    """images/ and panoptic_train.json + panoptic_train/, or with `inside` everything in folders named after splits."""
    for split, shots in splits.items():
        photos = root / "images" / split if inside else root / "images"
        truth = root / "annotations" / split if inside else root / f"panoptic_{split}"
        images, annotations = [], []
        for number, shot in enumerate(shots, start=1):
            save(photos / f"{shot.name}.png", shot.image)
            ids = [1 + 300 * i for i in range(len(shot.ids))]  # needs the second channel
            truth.mkdir(parents=True, exist_ok=True)
            (truth / f"{shot.name}.png").write_bytes(encode_panoptic_png(shot.map(ids)))
            height, width = shot.image.shape[:2]
            images.append({"id": number, "file_name": f"{shot.name}.png", "height": height, "width": width})
            segments = [{"id": i, "category_id": c, "iscrowd": 0} for i, c in zip(ids, shot.ids, strict=True)]
            annotations.append({"image_id": number, "file_name": f"{shot.name}.png", "segments_info": segments})
        name = f"{split}.json" if inside else f"panoptic_{split}.json"
        save_json(root / name, {"images": images, "annotations": annotations, "categories": categories(labels)})
    return root


def coco_instance(
    root: Path,
    splits: Splits,
    labels: LabelSet,
    *,
    place: Callable[[str], tuple[str, str]] = lambda split: (f"{split}2017", f"annotations/instances_{split}2017.json"),
    form: str = "polygon",
) -> Path:
    """place: split -> (folder of images, annotation file). form: polygon, rle (compressed) or counts (a list)."""
    for split, shots in splits.items():
        folder, file = place(split)
        images, annotations = [], []
        for number, shot in enumerate(shots):
            save(root / folder / f"{shot.name}.png", shot.image)
            height, width = shot.image.shape[:2]
            images.append({"id": number, "file_name": f"{shot.name}.png", "height": height, "width": width})
            for mask, label in zip(shot.masks, shot.ids, strict=True):
                row = {"id": len(annotations), "image_id": number, "category_id": label, "iscrowd": 0}
                annotations.append(row | {"segmentation": _segmentation(mask, form)})
        rows = [{key: value for key, value in row.items() if key != "isthing"} for row in categories(labels)]
        save_json(root / file, {"images": images, "annotations": annotations, "categories": rows})
    return root


def _segmentation(mask: np.ndarray, form: str) -> Any:
    if form == "polygon":
        return polygons(mask)
    rle = encode(mask)
    return rle.to_coco() if form == "rle" else {"size": list(rle.size), "counts": rle.counts.tolist()}


def roboflow(root: Path, splits: Splits, labels: LabelSet) -> Path:
    """A folder a split, JSON beside the images, "valid", and a category 0 that only names the group."""
    names = {"train": "train", "val": "valid", "test": "test"}
    coco_instance(root, splits, labels, place=lambda s: (names[s], f"{names[s]}/_annotations.coco.json"))
    for split in splits:
        file = root / names[split] / "_annotations.coco.json"
        raw = json.loads(file.read_text())
        raw["categories"].insert(0, {"id": 0, "name": "all", "supercategory": "none"})
        save_json(file, raw)
    return root


def semantic(
    root: Path,
    splits: Splits,
    *,
    place: Callable[[str], tuple[str, str]] = lambda split: (f"{split}/images", f"{split}/labels"),
    nothing: int = 255,
    palette: bool = False,
) -> Path:
    """place: split -> (folder of images, folder of label maps)."""
    for split, shots in splits.items():
        images, labels = place(split)
        for shot in shots:
            save(root / images / f"{shot.name}.png", shot.image)
            (save_palette if palette else save)(root / labels / f"{shot.name}.png", shot.map(shot.ids, nothing))
    return root


def instance_maps(root: Path, splits: Splits) -> Path:
    """{train,val}/{images,labels}, labels numbering the objects in 16 bits."""
    for split, shots in splits.items():
        for shot in shots:
            save(root / split / "images" / f"{shot.name}.png", shot.image)
            numbers = shot.map(list(range(1, len(shot.ids) + 1))).astype(np.uint16)
            file = root / split / "labels" / f"{shot.name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(numbers).save(file)
    return root


def voc(root: Path, splits: Splits, labels: LabelSet) -> Path:
    """JPEGImages (PNG here), SegmentationClass, SegmentationObject with void outlines, ImageSets, class_names.txt."""
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, shots in splits.items():
        (lists / f"{split}.txt").write_text("\n".join(shot.name for shot in shots) + "\n")
        for shot in shots:
            save(root / "JPEGImages" / f"{shot.name}.png", shot.image)
            save_palette(root / "SegmentationClass" / f"{shot.name}.png", shot.map(shot.ids))
            save_palette(root / "SegmentationObject" / f"{shot.name}.png", shot.map(list(range(1, 1 + len(shot.ids)))))
    names = ["background"] + [
        next((x.name for x in labels if x.id == i), f"unused{i}") for i in range(1, max(labels.ids) + 1)
    ]
    (root / "class_names.txt").write_text("\n".join(names))
    return root


def cvat_masks(root: Path, splits: Splits, labels: LabelSet, *, palette: bool = False, objects: bool = True) -> Path:
    """VOC's folders as CVAT's "Segmentation mask" has them: colours, and a labelmap.txt that says what they mean.

    palette: files of indices as datumaro writes them; the order of their palette is not that of the label map.
    """
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    colours = {label.id: label.color or (9, 9, 9) for label in labels}
    for split, shots in splits.items():
        (lists / f"{split}.txt").write_text("\n".join(shot.name for shot in shots) + "\n")
        for shot in shots:
            save(root / "JPEGImages" / f"{shot.name}.png", shot.image)
            numbers = [(40 * i + 3, 7, 255 - i) for i in range(len(shot.ids))]
            _painted(root / "SegmentationClass" / f"{shot.name}.png", shot, [colours[i] for i in shot.ids], palette)
            if objects:
                _painted(root / "SegmentationObject" / f"{shot.name}.png", shot, numbers, palette)
    rows = "".join(f"{label.name}:{','.join(map(str, colours[label.id]))}::\n" for label in labels)
    (root / "labelmap.txt").write_text(f"# label:color_rgb:parts:actions\n{rows}background:0,0,0::\n")
    return root


def _painted(file: Path, shot: Shot, colours: list[tuple[int, int, int]], palette: bool) -> None:
    picture = np.zeros_like(shot.image)
    for mask, colour in zip(shot.masks, colours, strict=True):
        picture[mask] = colour
    if not palette:
        save(file, picture)
        return
    table = [(0, 0, 0), *dict.fromkeys(reversed(colours))]
    indices = np.zeros(picture.shape[:2], dtype=np.uint8)
    for number, colour in enumerate(table):
        indices[(picture == colour).all(axis=-1)] = number
    image = Image.fromarray(indices)
    image.putpalette([value for colour in table for value in colour])
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file)


def yolo(root: Path, splits: Splits, labels: LabelSet) -> Path:
    """data.yaml, images/train and labels/train; an image without objects has no label file."""
    for split, shots in splits.items():
        for shot in shots:
            height, width = shot.image.shape[:2]
            save(root / "images" / split / f"{shot.name}.png", shot.image)
            lines = [
                f"{labels.ids.index(label)} "
                + " ".join(f"{v:.6f}" for v in (np.reshape(p, (-1, 2)) / (width, height)).ravel())
                for mask, label in zip(shot.masks, shot.ids, strict=True)
                for p in polygons(mask)
            ]
            if lines:
                file = root / "labels" / split / f"{shot.name}.txt"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("\n".join(lines) + "\n")
    names = "\n".join(f"  {i}: {label.name}" for i, label in enumerate(labels))
    (root / "data.yaml").write_text(f"path: .\ntrain: images/train\nval: images/val\nnames:\n{names}\n")
    return root


def labelme(root: Path, splits: Splits, labels: LabelSet) -> Path:
    """{train,val}/ with a JSON beside each image; the parts of an object share a group_id."""
    names = {label.id: label.name for label in labels}
    for split, shots in splits.items():
        for shot in shots:
            save(root / split / f"{shot.name}.png", shot.image)
            height, width = shot.image.shape[:2]
            shapes = [
                {
                    "label": names[label],
                    "points": np.reshape(p, (-1, 2)).tolist(),
                    "group_id": number,
                    "shape_type": "polygon",
                }
                for number, (mask, label) in enumerate(zip(shot.masks, shot.ids, strict=True))
                for p in polygons(mask)
            ]
            record = {"version": "5.0", "flags": {}, "shapes": shapes, "imagePath": f"{shot.name}.png"}
            record |= {"imageData": None, "imageHeight": height, "imageWidth": width}
            save_json(root / split / f"{shot.name}.json", record)
    return root


def cityscapes(root: Path, splits: Splits, *, things: tuple[int, ...] = (26,), objects: bool = True) -> Path:
    """leftImg8bit/train/<city>/ and gtFine/train/<city>/, labelIds; pixels of nothing have id 0 (unlabelled).

    objects: instanceIds too, in which objects of `things` have a number each.
    """
    for split, shots in splits.items():
        for number, shot in enumerate(shots):
            stem = f"bonn_{number:06d}_000019"
            save(root / "leftImg8bit" / split / "bonn" / f"{stem}_leftImg8bit.png", shot.image)
            truth = root / "gtFine" / split / "bonn"
            save(truth / f"{stem}_gtFine_labelIds.png", shot.map(shot.ids))
            if objects:
                numbers = [1000 * i + n if i in things else i for n, i in enumerate(shot.ids)]
                save(truth / f"{stem}_gtFine_instanceIds.png", shot.map(numbers))
            save(truth / f"{stem}_gtFine_color.png", shot.image)
    return root


def ade20k(root: Path, splits: Splits) -> Path:
    """images/training, annotations/training, with ADE's file names; 0 is "other objects"."""
    names = {"train": "training", "val": "validation"}
    for split, shots in splits.items():
        for number, shot in enumerate(shots, start=1):
            stem = f"ADE_{split}_{number:08d}"
            photo = root / "images" / names[split] / f"{stem}.jpg"
            photo.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(shot.image).save(photo, quality=95)
            save(root / "annotations" / names[split] / f"{stem}.png", shot.map(shot.ids))
    return root


def camvid(root: Path, splits: Splits, labels: LabelSet) -> Path:
    """train/ and train_labels/ with colours (…_L.png), class_dict.csv, a class Void."""
    for split, shots in splits.items():
        for shot in shots:
            save(root / split / f"{shot.name}.png", shot.image)
            picture = np.zeros_like(shot.image)
            for mask, label in zip(shot.masks, shot.ids, strict=True):
                picture[mask] = labels[labels.ids.index(label)].color
            save(root / f"{split}_labels" / f"{shot.name}_L.png", picture)
    with (root / "class_dict.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["name", "r", "g", "b"])
        writer.writerows([label.name, *(label.color or ())] for label in labels)
        writer.writerow(["Void", 0, 0, 0])
    return root


def via(root: Path, splits: Splits, labels: LabelSet, *, form: str = "export") -> Path:
    """{train,val}/ with a file of VGG Image Annotator beside the images. form: export, older, project or csv."""
    names = {label.id: label.name for label in labels}
    for split, shots in splits.items():
        images: dict[str, Any] = {}
        for shot in shots:
            save(root / split / f"{shot.name}.png", shot.image)
            regions = [
                {
                    "shape_attributes": {"name": "polygon", "all_points_x": p[0::2], "all_points_y": p[1::2]},
                    "region_attributes": {
                        "note": "",
                        "class": {names[label]: True} if form == "project" else names[label],
                    },
                }
                for mask, label in zip(shot.masks, shot.ids, strict=True)
                for p in polygons(mask)
            ]
            of_image = dict(enumerate(regions)) if form == "older" else regions
            images[f"{shot.name}.png123"] = {"filename": f"{shot.name}.png", "size": 123, "regions": of_image}
        if form != "csv":
            save_json(root / split / "via.json", {"_via_img_metadata": images} if form == "project" else images)
            continue
        with (root / split / "via.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["filename", "file_size", "region_shape_attributes", "region_attributes"])
            for image in images.values():
                for region in image["regions"]:
                    table.writerow([image["filename"], 123, *(json.dumps(part) for part in region.values())])
    return root
