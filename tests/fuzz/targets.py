"""Every reader, with small honest files to damage. A target writes its files once, and reads a damaged copy whole."""

from __future__ import annotations

import contextlib
import json
import pickle
import shutil
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from segcli.codecs.image import read_image
from segcli.codecs.label_png import read_label_map
from segcli.codecs.panoptic_png import encode_panoptic_png, read_panoptic_png
from segcli.codecs.rle import encode
from segcli.config import MODEL_TYPES
from segcli.config.backbones.resnet import ResNetConfig
from segcli.data.checking.check import check
from segcli.data.converting.convert import write_dataset
from segcli.data.converting.writers import writer_for
from segcli.data.detect import detect_for_checking
from segcli.data.records import DatasetInfo
from segcli.errors import SegcliError
from segcli.evaluation.predicted_data import predicted_data
from segcli.results.readers import LabelMaps, open_predictions
from segcli.types import MASK_TASKS, Label, LabelSet
from segcli.weights.architectures import build_model, key_map
from segcli.weights.checkpoint import load_model
from segcli.weights.hf_config import preprocessor, raw_config
from segcli.weights.originals.convert import convert
from segcli.weights.pickles import read_weights, tensors
from tests.data import layouts


@dataclass(frozen=True)
class Target:
    """One reader. write: honest files into a folder; read: all of them, as a command would."""

    name: str
    write: Callable[[Path], Any]
    read: Callable[[Path], Any]
    cost: int = 1  # of a case, in about 10 ms


SHOT = layouts.scene(1)
HEIGHT, WIDTH = SHOT.image.shape[:2]
IDS = SHOT.map(list(range(1, len(SHOT.ids) + 1)))


# -------------------------------------------------------------------------------------------------------------- images


def _image(ending: str, **options: Any) -> Target:
    def write(folder: Path) -> None:
        Image.fromarray(SHOT.image).save(folder / f"a{ending}", **options)

    return Target(f"image{ending}", write, lambda folder: read_image(folder / f"a{ending}"))


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


CONVERTED = [
    Target(f"{target.name}, converted", target.write, _convert, cost=5)
    for target in DATASETS
    if target.name in ("COCO", "COCO panoptic", "YOLO", "labelme")
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

# -------------------------------------------------------------------------------------------------------------- models

LABELS = LabelSet((Label(0, "a", True), Label(1, "b", False, (1, 2, 3))))
BACKBONE = ResNetConfig((1, 1, 1, 1), (16, 16, 32, 32), 8)
SMALL = {"hidden_dim": 32, "encoder_layers": 1, "decoder_layers": 1, "dim_feedforward": 32}


def _model(name: str, table: bool, binary: bool) -> Target:
    def write(folder: Path) -> None:
        from safetensors.torch import save_file

        from segcli.weights.spec import TABLE, to_table

        kind = MODEL_TYPES[name]
        config = kind.new(BACKBONE, 2, {key: value for key, value in SMALL.items() if key in kind.sizes})
        torch.manual_seed(0)
        model = build_model(config)
        spec = _spec(config)
        raw = raw_config(config, LABELS) | ({TABLE: to_table(spec, {"licence": "MIT"})} if table else {})
        (folder / "config.json").write_text(json.dumps(raw))
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor(spec, config)))
        state = key_map(config).write({key: tensor.detach() for key, tensor in model.state_dict().items()})
        state = {key: tensor.clone() for key, tensor in state.items()}
        if binary:
            torch.save(state, folder / "pytorch_model.bin")
        else:
            save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    form = f"{'with' if table else 'without'} the table, {'bin' if binary else 'safetensors'}"
    return Target(f"{name} folder {form}", write, lambda folder: load_model(folder, "cpu", "fp32"), cost=5)


def _spec(config: Any) -> Any:
    from segcli.types import InferenceSpec

    return InferenceSpec(config.answers, LABELS, config.size, config.rule)


MODELS = [
    _model("mask2former", True, False),
    _model("mask2former", False, True),
    _model("maskformer", False, False),
    _model("detr", True, False),
    _model("per-pixel", True, False),
]

# --------------------------------------------------------------------------------------------------------------- files

STATE = OrderedDict(a=torch.ones(3, 2), b=torch.arange(6.0).view(2, 3).T, c=torch.tensor([True, False]))


def _pickle(name: str, write: Callable[[Path], Any]) -> Target:
    def read(folder: Path) -> None:
        content = read_weights(folder / "w.bin")
        tensors(content["model"] if isinstance(content, dict) and "model" in content else content, folder / "w.bin")

    return Target(name, lambda folder: write(folder / "w.bin"), read)


def _numpy(protocol: int) -> Callable[[Path], Any]:
    arrays = {name: tensor.numpy() for name, tensor in STATE.items()}
    return lambda file: file.write_bytes(pickle.dumps({"model": arrays, "args": [1, "x", None]}, protocol))


def _write_original(folder: Path) -> None:
    from tests.weights import original_names as names

    shapes = names.mask2former(names.ResNet((1, 1, 1, 1), 8), 133, queries=4, dim=64, layers=2)
    state = {name: np.full(shape, 0.5, dtype=np.float32) for name, shape in shapes.items()}
    (folder / "model_final.pkl").write_bytes(pickle.dumps({"model": state}, 4))


FILES = [
    _pickle("torch file", lambda file: torch.save({"model": STATE}, file)),
    _pickle("torch file, older", lambda file: torch.save(STATE, file, _use_new_zipfile_serialization=False)),
    _pickle("pickle 2", _numpy(2)),
    _pickle("pickle 4", _numpy(4)),
    _pickle("pickle 5", _numpy(5)),
    Target("original", _write_original, lambda folder: convert(folder / "model_final.pkl"), cost=5),
]

TARGETS = [*IMAGES, *DATASETS, *CONVERTED, *RESULTS, *MODELS, *FILES]


def allowed(error: BaseException) -> bool:
    """What a reader may raise for any file whatever."""
    return isinstance(error, SegcliError)
