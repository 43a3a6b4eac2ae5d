"""From a model to a folder that runs without it."""

from __future__ import annotations

import copy
import dataclasses
import importlib.metadata
import importlib.util
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from segcli.errors import OutputError, UsageError
from segcli.export.card import export_card
from segcli.export.contract import IMAGES, PADDING, TABLE, WHOLE, ExportFacts
from segcli.export.exported_model import load_exported
from segcli.export.graph import OPSET, InputShape, labels_as_text, write_onnx
from segcli.export.network import prediction_of
from segcli.export.quantise import BlockDamage, Calibration, Progress, Quantiser, blocks_of_onnx, choose_blocks
from segcli.export.runtimes import RUNTIMES
from segcli.files.writing import new_folder, remove_left_over
from segcli.inference.predict import PredictSettings, choose_task, segment
from segcli.inference.preprocess import Prepared, collate, framed_size, resized_size
from segcli.weights import spec as specs
from segcli.weights.hub import is_exported

if TYPE_CHECKING:
    from segcli.types import InferenceSpec, InputSize
    from segcli.weights.checkpoint import LoadedModel

DTYPES = ("fp32", "fp16", "int8")
STANDALONE = Path(__file__).with_name("standalone.py")  # copied into every folder as predict.py


@dataclass(frozen=True)
class Request:
    """What to export a model to."""

    to: str  # a name in `RUNTIMES`
    shape: InputShape
    dtype: str = "fp32"
    dense: bool = False  # mask logits instead of their two factors


@dataclass(frozen=True)
class Exported:
    """What an export made."""

    folder: Path
    facts: ExportFacts
    blocks: dict[str, str]  # of each operation, for int8; else empty
    nodes: int
    seconds: float

    @property
    def megabytes(self) -> float:
        """Of the graph with its weights, 10^6 bytes."""
        return sum(file.stat().st_size for file in self.folder.glob("model.*")) / 1e6


def choose_out(loaded: LoadedModel, to: str, out: Path | None, overwrite: bool) -> Path:
    """The folder to write: NAME-onnx in the current one unless another was given.

    Raises UsageError if something is there that may not be replaced.
    """
    *_, run, name = ("", *loaded.name.split("/"))
    name = f"{run}-{name}" if name in ("best", "last") else name.split("@")[0]  # every run's models are called so
    folder = out or Path(name + RUNTIMES[to].suffix)
    if folder.exists() and not overwrite:
        raise UsageError(f"{folder}: exists already; replace it with --overwrite, or choose another --out")
    if folder.exists() and not is_exported(folder):
        raise UsageError(f"{folder}: is not an exported model, so it is not replaced; choose another --out")
    return folder


def check_request(loaded: LoadedModel, request: Request) -> None:
    """Raises UsageError for what cannot be exported so."""
    if request.dtype not in DTYPES:
        raise UsageError(f"--dtype {request.dtype}: choose one of {', '.join(DTYPES)}")
    if request.dtype == "int8" and request.to != "openvino":
        raise UsageError(
            "--dtype int8 is for --to openvino: quantised layers keep their masks there, see docs/export.md"
        )
    runtime = RUNTIMES[request.to]
    for package in ("onnx", "onnxscript", runtime.package, *(("nncf",) if request.dtype == "int8" else ())):
        if importlib.util.find_spec(package) is None:
            raise UsageError(
                f"exporting to {runtime.title} as {request.dtype} needs {package}: pip install "
                f"'segcli[{runtime.extra}]'"
            )
    size = request.shape.size
    if size and any(side % WHOLE or side < 2 * WHOLE for side in size):
        down = "x".join(str(max(2, round(side / WHOLE)) * WHOLE) for side in size)
        raise UsageError(
            f"{size[0]}x{size[1]}: both sides must be multiples of {WHOLE} and at least 64; try --size {down}"
        )
    usual = loaded.spec.size
    if size and size[0] != size[1] and (usual.tile is not None or usual.frame != "multiple"):
        why = "predicts photos in square tiles" if usual.tile is not None else "pads photos to a square"
        raise UsageError(f"--size {size[0]}x{size[1]}: {loaded.name} {why}; give one that is square")


def misfit(spec: InferenceSpec, size: tuple[int, int], image: np.ndarray) -> tuple[int, int] | None:
    """The size (height, width) that a photo [H, W, 3] becomes, if a graph of this size does not take it."""
    fitting = spec_for(spec, size).size
    if fitting.tile is not None:
        return None
    framed = framed_size(resized_size((image.shape[0], image.shape[1]), fitting), fitting)
    return None if framed == size else framed


def spec_for(spec: InferenceSpec, size: tuple[int, int] | None) -> InferenceSpec:
    """The protocol of a graph: photos are padded to what it takes. One of a fixed square size gets every photo, or
    tile, whole and padded to that size.
    """
    usual = spec.size
    if usual.frame == "multiple":
        usual = dataclasses.replace(usual, divisor=math.lcm(usual.divisor, WHOLE))
    return dataclasses.replace(spec, size=usual if size is None else _fitting(usual, size))


def usual_shape(spec: InferenceSpec, shape: InputShape) -> InputShape:
    """The shape where none was asked for: a ViT's photos all come in one square, and its positions are made for it."""
    if shape.size is not None or spec.size.frame == "multiple":
        return shape
    side = -(-spec.size.short // spec.size.divisor) * spec.size.divisor
    return dataclasses.replace(shape, size=(side, side))


def _fitting(usual: InputSize, size: tuple[int, int]) -> InputSize:
    """Sizes that fit: photos are shrunk or grown until they touch the frame, and padded to fill it."""
    short, long = min(size), max(size)
    if usual.frame != "multiple":
        return dataclasses.replace(usual, short=short)
    if short != long:
        return dataclasses.replace(usual, short=short, long=long, divisor=WHOLE)
    # Rounded "down" as DETR does, a long side may come out a pixel above the square's.
    rounding = "nearest" if usual.rounding == "down" else usual.rounding
    return dataclasses.replace(usual, short=short, long=long, divisor=short, rounding=rounding)


def export_model(loaded: LoadedModel, request: Request, folder: Path) -> Exported:
    """Write the folder, whole or not at all. int8 begins as fp32; see `write_int8`.

    Raises OutputError if it cannot be written, and what `write_onnx` raises.
    """
    start = time.perf_counter()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_left_over(folder.parent)
        with new_folder(folder) as part:
            facts, blocks = _write_graph(loaded, request, part)
            nodes = facts.made_with.pop("nodes")
            _write_files(loaded, facts, part)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error}); choose another --out") from error
    return Exported(folder, facts, blocks, int(nodes), time.perf_counter() - start)


def _write_graph(loaded: LoadedModel, request: Request, part: Path) -> tuple[ExportFacts, dict[str, str]]:
    """The graph in a runtime's own file, and for int8 the blocks of its operations. facts.made_with["nodes"] counts its
    nodes.
    """
    shape, runtime = request.shape, RUNTIMES[request.to]
    path = part / "model.onnx"
    half = request.dtype == "fp16" and request.to == "onnx"
    traced = loaded
    if half:
        traced = dataclasses.replace(loaded, model=copy.deepcopy(loaded.model).to(torch.float16), dtype=torch.float16)
    metadata = {
        "segcli": importlib.metadata.version("segcli"),
        "model": loaded.name,
        "labels": labels_as_text(loaded),
        "input_size": "x".join(map(str, shape.size)) if shape.size else f"multiples of {WHOLE}",
        "protocol": json.dumps(specs.to_table(spec_for(loaded.spec, shape.size), {}), ensure_ascii=False),
    }
    nodes = write_onnx(traced, path, shape, dense=request.dense, metadata=metadata)
    made_with = {name: importlib.metadata.version(name) for name in ("segcli", "torch", "onnx", "onnxscript")}
    made_with |= {"opset": str(OPSET), "nodes": str(nodes)}
    blocks = blocks_of_onnx(path) if request.dtype == "int8" else {}
    if request.to == "openvino":
        nodes = _to_openvino(path, part / runtime.file, half=request.dtype == "fp16")
        path.unlink()
        made_with |= {"openvino": importlib.metadata.version("openvino"), "nodes": str(nodes)}
    dtype = "fp32" if request.dtype == "int8" else request.dtype
    return ExportFacts(request.to, runtime.file, dtype, shape.size, shape.batch, made_with), blocks


def write_int8(
    loaded: LoadedModel,
    exported: Exported,
    folder: Path,
    images: Sequence[Prepared],
    measure: Callable[[LoadedModel], float],
    before: float,
    show: Callable[[list[BlockDamage]], None],
    progress: Progress,
    tell: Callable[[str], None],
) -> tuple[Exported, list[BlockDamage], float]:
    """Make an OpenVINO folder int8, in another one; returns that, the damage of each block, the metric.

    loaded: the model in PyTorch. folder: what is made, whole or not at all. images: of the data. measure: the metric of
    a model in points; before: that of the model in PyTorch. show: is given what each block does before the metric of
    any choice is measured.
    Raises CheckpointError if it loses too much, OutputError if it cannot be written.
    """
    import openvino

    path = exported.folder / exported.facts.file
    model = openvino.Core().read_model(path)
    names = {port.any_name for port in model.inputs}
    spec = load_exported(exported.folder, "cpu").spec
    settings = PredictSettings(choose_task(spec, None), spec)

    def inputs_of(image: Prepared) -> dict[str, np.ndarray]:
        batch = collate([image] * (exported.facts.batch or 1), torch.device("cpu"))
        arrays = {IMAGES: batch.images.numpy(), PADDING: batch.padding.numpy()}
        return {name: array for name, array in arrays.items() if name in names}

    try:
        calibration = Calibration(
            [inputs_of(image) for image in images],
            lambda index, outputs: segment(prediction_of(outputs), 0, images[index], settings),
        )
        quantiser = Quantiser(model, exported.blocks, calibration, progress)
        made_with = exported.facts.made_with | {"nncf": quantiser.version}
        facts = dataclasses.replace(exported.facts, dtype="int8", made_with=made_with)
        rows = quantiser.damage()
        show(rows)
        with new_folder(folder) as trial:

            def write(candidate: Any) -> None:
                shutil.rmtree(trial, ignore_errors=True)
                shutil.copytree(exported.folder, trial, ignore=shutil.ignore_patterns("model.*"))
                openvino.save_model(candidate, str(trial / facts.file), compress_to_fp16=False)
                config = json.loads((trial / "config.json").read_text(encoding="utf-8"))
                write_json(trial / "config.json", config | {TABLE: facts.to_table()})
                (trial / "README.md").write_text(export_card(loaded, facts), encoding="utf-8")

            def metric(candidate: Any) -> float:
                write(candidate)
                return measure(dataclasses.replace(load_exported(trial, "cpu"), name=folder.name))

            chosen, rows, after = choose_blocks(quantiser, rows, metric, before, tell)
            write(chosen)  # not always what was measured last
    except (OSError, RuntimeError) as error:  # OpenVINO's own are the latter
        reason = getattr(error, "strerror", None) or (str(error).strip().splitlines() or ["?"])[-1][:160]
        raise OutputError(f"{folder}: cannot be made int8 ({reason}); choose another --out, or --dtype fp32") from error
    return dataclasses.replace(exported, folder=folder, facts=facts, nodes=len(chosen.get_ops())), rows, after


def _to_openvino(onnx: Path, path: Path, half: bool) -> int:
    """An ONNX file as OpenVINO's two files; returns the number of operations. half: weights are stored as fp16."""
    import openvino

    model = openvino.convert_model(str(onnx))
    openvino.save_model(model, str(path), compress_to_fp16=half)
    return len(model.get_ops())


def _write_files(loaded: LoadedModel, facts: ExportFacts, part: Path) -> None:
    """Everything beside the graph."""
    transient = {"source", "device_reason"}
    about = {key: value for key, value in loaded.facts.items() if key not in transient}
    table = specs.to_table(spec_for(loaded.spec, facts.size), about)
    write_json(part / "config.json", loaded.raw_config | {specs.TABLE: table, TABLE: facts.to_table()})
    spec = spec_for(loaded.spec, facts.size)
    preprocessor = {
        "do_resize": True,
        "size": {"shortest_edge": spec.size.short, "longest_edge": spec.size.long},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [value / 255 for value in spec.mean],
        "image_std": [value / 255 for value in spec.std],
        "size_divisor": spec.size.divisor,
    }
    write_json(part / "preprocessor_config.json", preprocessor)
    shutil.copyfile(STANDALONE, part / "predict.py")
    (part / "README.md").write_text(export_card(loaded, facts), encoding="utf-8")


def write_json(path: Path, value: dict[str, Any]) -> None:
    """JSON for people, keys in order."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
