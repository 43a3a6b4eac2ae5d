"""Every reader, with small honest files to damage. A target writes its files once, and reads a damaged copy whole."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from PIL import Image
from pyarrow import parquet

from segcli.codecs.image import read_image
from segcli.codecs.label_png import read_label_map
from segcli.codecs.panoptic_png import encode_panoptic_png, read_panoptic_png
from segcli.codecs.rle import encode
from segcli.data.checking.check import check
from segcli.data.converting.convert import write_dataset
from segcli.data.converting.writers import writer_for
from segcli.data.detect import detect_for_checking
from segcli.data.records import DatasetInfo
from segcli.errors import SegcliError
from segcli.evaluation.predicted_data import predicted_data
from segcli.files.image_ref import FileRef
from segcli.inference.sources import find_sources
from segcli.inference.video.clip import Clip, is_clip
from segcli.inference.video.encoding import ClipWriter
from segcli.results.kinds.kind import Shard
from segcli.results.readers import LabelMaps, open_predictions
from segcli.results.shards import merge
from segcli.types import MASK_TASKS
from tests.data import layouts
from tests.data.formats.test_other_tools import CVAT, photo, png, tar
from tests.data.test_every_kind import KINDS
from tests.fuzz.target import HEIGHT, IDS, SHOT, WIDTH, Target
from tests.fuzz.targets_models import EXPORTS, FILES, MODELS, RUNS
from tests.results import test_shards

# -------------------------------------------------------------------------------------------------------------- images


def _image(ending: str, **options: Any) -> Target:
    def write(folder: Path) -> None:
        Image.fromarray(SHOT.image).save(folder / f"a{ending}", **options)

    return Target(f"image{ending}", write, lambda folder: read_image(FileRef(str(folder / f"a{ending}"))))


def _label_map(name: str, pixels: np.ndarray, mode: str | None = None) -> Target:
    def write(folder: Path) -> None:
        image = Image.fromarray(pixels)
        if mode == "P":
            image = image.convert("P")
        image.save(folder / "a.png")

    return Target(name, write, lambda folder: read_label_map(folder / "a.png"))


IMAGES = [
    _image(".jpg", quality=90),
    _image(".png"),
    _image(".webp"),
    _image(".tif", compression="tiff_lzw"),
    _image(".bmp"),
    _image(".gif"),
    _label_map("label map, 8 bits", IDS.astype(np.uint8)),
    _label_map("label map, 16 bits", IDS.astype(np.uint16)),
    _label_map("label map, palette", IDS.astype(np.uint8), "P"),
    Target(
        "panoptic PNG",
        lambda folder: (folder / "a.png").write_bytes(encode_panoptic_png(IDS)),
        lambda folder: read_panoptic_png(folder / "a.png"),
    ),
]

# ------------------------------------------------------------------------------------------------------------ datasets

SPLITS: layouts.Splits = {"train": [layouts.scene(0), SHOT], "val": [layouts.scene(2)]}


def _read_dataset(folder: Path) -> None:
    check(detect_for_checking(folder), threads=1)


def _dataset(name: str, write: Callable[[Path], Any]) -> Target:
    return Target(name, write, _read_dataset, cost=3)


def _write_semantic(folder: Path) -> None:
    layouts.semantic(folder, SPLITS)
    rows = "".join(f'\n[[classes]]\nid = {label.id}\nname = "{label.name}"\n' for label in layouts.LABELS)
    (folder / "dataset.toml").write_text(f'task = "semantic"\nignore = [255]\n{rows}')


DATASETS = [
    _dataset("COCO", lambda folder: layouts.coco_instance(folder, layouts.things_only(SPLITS), layouts.THINGS)),
    _dataset("COCO panoptic", lambda folder: layouts.coco_panoptic(folder, SPLITS, layouts.LABELS)),
    _dataset("YOLO", lambda folder: layouts.yolo(folder, layouts.things_only(SPLITS), layouts.THINGS)),
    _dataset("labelme", lambda folder: layouts.labelme(folder, layouts.things_only(SPLITS), layouts.THINGS)),
    _dataset("VOC", lambda folder: layouts.voc(folder, layouts.things_only(SPLITS), layouts.THINGS)),
    _dataset("instance maps", lambda folder: layouts.instance_maps(folder, layouts.things_only(SPLITS))),
    _dataset("semantic maps, dataset.toml", _write_semantic),
    _dataset("Roboflow", lambda folder: layouts.roboflow(folder, layouts.things_only(SPLITS), layouts.THINGS)),
]


def _convert(folder: Path) -> None:
    """As another format, which goes on with whatever the reader let through."""
    info = detect_for_checking(folder)
    for name in ("coco", "voc"):
        if info.task in MASK_TASKS:
            with contextlib.suppress(SegcliError):
                _write_dataset(info, folder, name)


def _write_dataset(info: DatasetInfo, folder: Path, name: str) -> None:
    out = folder.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    write_dataset(info, out, writer_for(name, info), threads=1)


def _kind(kind: str) -> Target:
    """One of the kinds of data that a test of theirs writes."""

    def write(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as place:
            shutil.copytree(KINDS[kind][1](Path(place)), folder, dirs_exist_ok=True)

    return _dataset(kind, write)


def _write_lvis(folder: Path) -> None:
    """COCO's form, with what LVIS has more of and less."""
    layouts.coco_instance(folder, layouts.things_only(SPLITS), layouts.THINGS)
    for file in folder.rglob("*.json"):
        document = json.loads(file.read_text())
        for row in document["images"]:
            row["coco_url"] = f"http://images.cocodataset.org/train2017/{row.pop('file_name')}"
            row |= {"neg_category_ids": [1], "not_exhaustive_category_ids": []}
        for row in document["categories"]:
            row |= {"frequency": "r", "synset": "a.n.01", "synonyms": ["a"], "def": "a"}
        file.write_text(json.dumps(document))


DATASETS += [
    _dataset("LVIS", _write_lvis),
    _dataset("CVAT, all shapes", lambda folder: _write_cvat(folder)),
    *map(_kind, ("cityscapes", "ade20k-full", "vistas", "vistas-labels", "cvat-masks", "cvat-xml", "label-studio")),
    *map(_kind, ("hf-parquet", "webdataset")),
]


def _write_cvat(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "annotations.xml").write_text(CVAT)
    for name in ("a/p0.png", "p1.png"):
        Image.fromarray(np.full((20, 30, 3), 9, np.uint8)).save(folder / name)


CONVERTED = [
    Target(f"{target.name}, converted", target.write, _convert, cost=5)
    for target in DATASETS
    if target.name in ("COCO", "COCO panoptic", "YOLO", "labelme", "label-studio")
]

# ------------------------------------------------------------------------------------------------------------- results


def _record(task: str) -> dict[str, Any]:
    rows = [
        {"id": number, "category_id": id_, "category_name": f"class {id_}", "score": 0.9, "isthing": True}
        | {"area": int(mask.sum()), "bbox": [0, 0, 4, 4], "color": [1, 2, 3]}
        | ({"segmentation": encode(mask).to_coco()} if task == "instance" else {})
        for number, (id_, mask) in enumerate(zip(SHOT.ids, SHOT.masks, strict=True), start=1)
    ]
    return {
        "file_name": "a.jpg",
        "model": "m",
        "rule": {"instance_score": 0.5},
        "task": task,
        "size": {"width": WIDTH, "height": HEIGHT},
        "classes": [{"id": label.id, "name": label.name, "isthing": label.isthing} for label in layouts.LABELS],
        "segments": rows,
    }


def _write_records(task: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "a.json").write_text(json.dumps(_record(task)))
        Image.fromarray(SHOT.map(SHOT.ids, 255).astype(np.uint8)).save(folder / "a.png")
        if task == "panoptic":
            (folder / "a.png").write_bytes(encode_panoptic_png(IDS))

    return write


def _write_coco(folder: Path) -> None:
    rows = [
        {"image_id": 7, "category_id": id_, "score": 0.5, "segmentation": encode(mask).to_coco(), "bbox": [0, 0, 9, 9]}
        for id_, mask in zip(SHOT.ids, SHOT.masks, strict=True)
    ]
    polygon = [[0, 0, 9, 0, 9, 9, 0, 9]]
    rows.append({"image_id": 7, "category_id": 1, "score": 0.1, "segmentation": polygon, "bbox": [0, 0, 9, 9]})
    (folder / "results.json").write_text(json.dumps(rows))


def _write_panoptic(folder: Path) -> None:
    infos = [{"id": number, "category_id": id_, "score": 0.5} for number, id_ in enumerate(SHOT.ids, start=1)]
    document = {
        "categories": layouts.categories(layouts.LABELS),
        "images": [{"id": 7, "file_name": "7.jpg", "width": WIDTH, "height": HEIGHT}],
        "annotations": [{"image_id": 7, "file_name": "7.png", "segments_info": infos}],
    }
    (folder / "panoptic").mkdir()
    (folder / "panoptic.json").write_text(json.dumps(document))
    (folder / "panoptic" / "7.png").write_bytes(encode_panoptic_png(IDS))


def _write_masks(folder: Path) -> None:
    (folder / "a.masks").mkdir()
    for number, mask in enumerate(SHOT.masks):
        Image.fromarray((mask * 255).astype(np.uint8)).save(folder / "a.masks" / f"{number:03d}-box.png")


def _read_results(folder: Path) -> None:
    predictions = open_predictions(folder)
    if isinstance(predictions, LabelMaps):
        predictions.labels = layouts.LABELS
    for number in range(len(predictions.images)):
        segments = predictions.read(number, (HEIGHT, WIDTH))
        str(predictions.images[number])
        segments.boxes()
        segments.areas()


def _write_evaluation(folder: Path) -> None:
    row = {"id": 1, "name": "disc", "PQ": 0.5, "images": 3}
    document = {"kind": "segcli eval", "task": "panoptic", "metric": "PQ", "value": 0.5, "summary": {"PQ": 0.5}}
    document |= {"per_class": [row], "data": {"path": "d", "split": "val", "images": 1}, "protocol": {"score": 0.8}}
    (folder / "metrics.json").write_text(json.dumps(document | {"model": {"name": "m"}, "versions": {"segcli": "1"}}))
    line = {"image_id": "1", "file": "a.jpg", "value": 0.5, "counts": {"1": [1, 0, 0, 0.9]}}
    (folder / "per_image.jsonl").write_text(json.dumps(line) + "\n")


def _read_evaluation(folder: Path) -> None:
    from segcli.evaluation.folder import read_evaluations
    from segcli.inspection.report_inputs import read_report

    for evaluation in read_evaluations(folder).values():
        list(evaluation.rows())
    read_report(folder, None, None)


def _convert_results(folder: Path) -> None:
    photos = folder.parent.parent / "photos"
    photos.mkdir(exist_ok=True)
    for name in ("a.jpg", "7.jpg"):
        Image.fromarray(SHOT.image).save(photos / name)
    _write_dataset(predicted_data(folder, photos), folder, "coco")


def _results(name: str, write: Callable[[Path], Any]) -> Target:
    return Target(name, write, _read_results)


RESULTS = [
    _results("records, instances", _write_records("instance")),
    _results("records, panoptic", _write_records("panoptic")),
    _results("records, semantic", _write_records("semantic")),
    _results("COCO results", _write_coco),
    _results("COCO panoptic results", _write_panoptic),
    _results("masks", _write_masks),
    Target("records, converted", _write_records("instance"), _convert_results, cost=3),
    Target("COCO panoptic results, converted", _write_panoptic, _convert_results, cost=3),
    Target("evaluation", _write_evaluation, _read_evaluation),
]

# -------------------------------------------------------------------------------------------------------------- stores


def _write_stores(folder: Path) -> None:
    photos = {f"{number}.png": png(photo(number)) for number in range(3)}
    tar(folder / "a.tar", photos.items())
    for name, compression in (("a.zip", zipfile.ZIP_DEFLATED), ("b.zip", zipfile.ZIP_LZMA)):
        with zipfile.ZipFile(folder / name, "w", compression) as archive:
            for member, data in photos.items():
                archive.writestr(member, data)
    rows = [{"image": {"bytes": data, "path": name}} for name, data in photos.items()]
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "a.parquet", row_group_size=2)
    (folder / "a.png").write_bytes(photos["0.png"])
    (folder / "a.jsonl").write_text('{"image": "a.png"}\n{"image": "none.png"}\n')


def _read_stores(folder: Path) -> None:
    for name in ("a.tar", "a.zip", "b.zip", "a.parquet", "a.jsonl"):
        with contextlib.suppress(SegcliError):
            for source in find_sources([str(folder / name)]):
                with contextlib.suppress(SegcliError):
                    read_image(source.open(), name=str(source))


def _write_shards(folder: Path) -> None:
    for index in range(2):
        test_shards.write(folder, Shard(index, 2))
        (folder / Shard(index, 2).part_of("failures.jsonl")).write_text('{"image": "a.png", "error": "x"}\n')


STORES = [
    Target("archives, tables and lists", _write_stores, _read_stores, cost=2),
    Target("shards", _write_shards, merge),
]

# --------------------------------------------------------------------------------------------------------------- clips


def _write_clip(folder: Path) -> None:
    frames = [np.roll(SHOT.image, 3 * number, axis=1) for number in range(4)]
    with ClipWriter(folder / "a.mp4", Fraction(25)) as clip:
        for number, frame in enumerate(frames):
            clip.write(frame[: HEIGHT // 2 * 2, : WIDTH // 2 * 2], number / 25)
    shutil.copy(folder / "a.mp4", folder / "b.mkv")
    first, *others = map(Image.fromarray, frames)
    for name in ("a.gif", "a.webp"):
        first.save(folder / name, save_all=True, append_images=others, duration=40)


def _read_clip(folder: Path) -> None:
    for file in sorted(folder.iterdir()):
        with contextlib.suppress(SegcliError):
            if is_clip(str(file)) and not file.is_fifo():  # a pipe that is named is waited for
                with Clip(str(file)) as clip:
                    str((clip.count, clip.sound, clip.rate, [frame.image.shape for frame in clip]))


CLIPS = [Target("clips", _write_clip, _read_clip, cost=2)]

TARGETS = [*IMAGES, *DATASETS, *CONVERTED, *RESULTS, *STORES, *MODELS, *FILES, *RUNS, *EXPORTS, *CLIPS]


def allowed(error: BaseException) -> bool:
    """What a reader may raise for any file whatever."""
    return isinstance(error, SegcliError)
