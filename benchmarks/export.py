"""Every family in every runtime: what an export costs, how far its answers are, how fast it is beside segcli.

    python benchmarks/export.py                        # every case; about an hour on two cores
    python benchmarks/export.py facade everyday        # some
    python benchmarks/export.py --sampling             # GridSample beside gathers, in both runtimes
    python benchmarks/export.py --folders facade-openvino facade-int8     # exported ones beside each other, and in bf16

Runtimes and segcli answer in turn in one process; seconds are medians, and only their ratios mean something. Untrained
networks of published shapes have segments that mean nothing, so their agreement is that of mask bits.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segcli.codecs.image import read_image
from segcli.config import MODEL_TYPES
from segcli.export.exported_model import load_exported
from segcli.export.exporter import Request, export_model, usual_shape
from segcli.export.graph import InputShape
from segcli.export.verify import compare, own_photos
from segcli.inference.predict import forward
from segcli.inference.preprocess import prepare
from segcli.types import InferenceSpec, Label, LabelSet
from segcli.weights import checkpoint
from segcli.weights.architectures import build_model
from segcli.weights.checkpoint import LoadedModel
from segcli.weights.device import has_native_bf16
from segcli.weights.hf_config import raw_config
from segcli.weights.pretrained import new_config

TRAINED = ("facade", "everyday", "nuclei")
UNTRAINED = {
    "mask2former swin-tiny": ("mask2former", "swin-tiny"),
    "mask2former resnet50": ("mask2former", "resnet50"),
    "mask2former lite0": ("mask2former", "lite0"),
    "maskformer swin-tiny": ("maskformer", "swin-tiny"),
    "per-pixel resnet50": ("per-pixel", "resnet50"),
    "detr resnet50": ("detr", "resnet50"),
    "eomt dinov2-small": ("eomt", "dinov2-small"),
    "eomt dinov2-base": ("eomt", "dinov2-base"),
    "eomt dinov3-vits16": ("eomt", "dinov3-vits16"),
}
RUNS = 7
HALF = has_native_bf16(torch.device("cpu"))  # where it is emulated a pass takes minutes


def case(name: str) -> LoadedModel:
    """A model in PyTorch and fp32."""
    if name in TRAINED:
        return checkpoint.load_model(name, "cpu", "fp32")
    architecture, backbone = UNTRAINED[name]
    labels = LabelSet(tuple(Label(i, f"class {i}", True) for i in range(80)))
    config = new_config(MODEL_TYPES[architecture], backbone, len(labels), {})
    torch.manual_seed(0)
    spec = InferenceSpec(tasks=config.answers, labels=labels, size=config.size, rule=config.rule)
    model = build_model(config).eval().requires_grad_(False)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("bias"):  # zeros let denormal numbers through, as no trained network does
            torch.nn.init.normal_(parameter, std=0.02)
    model.query_decoder.reach(1.0)  # as at the end of a training run
    raw = raw_config(config, labels)
    return LoadedModel(model, config, spec, name, torch.device("cpu"), torch.float32, {"source": "random"}, raw)


def seconds_of(answers: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Medians of interleaved runs, after one each to warm up."""
    spent: dict[str, list[float]] = {name: [] for name in answers}
    for turn in range(RUNS + 1):
        for name, answer in answers.items():
            start = time.perf_counter()
            answer()
            if turn:
                spent[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in spent.items()}


def measure(name: str) -> None:
    """One case, a line a runtime."""
    reference = case(name)
    photo = own_photos()[0]
    with tempfile.TemporaryDirectory() as folder:
        answers: dict[str, Callable[[], Any]] = {}
        rows: dict[str, str] = {}
        image = read_image(photo)
        for to in ("onnx", "openvino"):
            done = export_model(
                reference, Request(to, usual_shape(reference.spec, InputShape(None, None))), Path(folder) / to
            )
            for dtype in ("auto", "bf16") if to == "openvino" and HALF else ("auto",):
                loaded = load_exported(done.folder, "cpu", dtype)
                [row] = compare(reference, loaded, [(photo.name, image)])
                title = f"{to} {'fp32' if dtype == 'auto' else dtype}"
                rows[title] = (
                    f"{done.seconds:6.0f} s  {done.megabytes:7.1f} MB  {done.nodes:5d} nodes  logits {row.logits:.1e}  "
                    f"bits {100 * row.bits:.3f} %  IoU {row.iou:.4f}"
                )
                prepared = prepare(image, loaded.spec)
                answers[title] = lambda loaded=loaded, prepared=prepared: forward(loaded, [prepared])
        prepared = prepare(image, reference.spec)
        answers["segcli fp32"] = lambda: forward(reference, [prepared])
        if HALF:
            half = dataclasses.replace(reference, dtype=torch.bfloat16, model=case(name).model.to(torch.bfloat16))
            answers["segcli bf16"] = lambda: forward(half, [prepared])
        spent = seconds_of(answers)
    print(f"\n{name}, {prepared.frame.padded[0]}×{prepared.frame.padded[1]}")
    for title, seconds in spent.items():
        ratio = seconds / spent["segcli fp32"]
        print(f"  {title:14} {seconds:7.3f} s  {ratio:5.2f} × segcli fp32  {rows.get(title, '')}", flush=True)


def measure_folders(folders: list[Path]) -> None:
    """Folders of `segcli export` on one photo, each in every precision that its runtime can be asked for."""
    image = read_image(own_photos()[0])
    answers: dict[str, Callable[[], Any]] = {}
    for folder in folders:
        for dtype in ("auto", "bf16") if HALF and (folder / "model.xml").is_file() else ("auto",):
            loaded = load_exported(folder, "cpu", dtype)
            prepared = prepare(image, loaded.spec)
            title = f"{folder.name}, {loaded.facts['exported']}{'' if dtype == 'auto' else ' in ' + dtype}"
            answers[title] = partial(forward, loaded, [prepared])
    spent = seconds_of(answers)
    first = next(iter(spent.values()))
    for title, seconds in spent.items():
        print(f"{title:40} {seconds:7.3f} s  {seconds / first:5.2f} × the first")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=[*TRAINED, *UNTRAINED])
    parser.add_argument("--sampling", action="store_true", help="GridSample beside gathers, one attention layer")
    parser.add_argument("--folders", nargs="+", type=Path, help="exported folders instead of cases")
    arguments = parser.parse_args()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    print(next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown processor"))
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    if arguments.sampling:
        sampling()
        return
    if arguments.folders:
        measure_folders(arguments.folders)
        return
    for name in arguments.cases:
        measure(name)


# -------------------------------------------------------------------------------------------------------- sampling


def sampling() -> None:
    """One layer of deformable attention at 416², sampled by GridSample and by gathers."""
    import onnxruntime
    import openvino

    from segcli.layers import deformable
    from segcli.layers.trace import exporting

    shapes, heads, points, dim = ((13, 13), (26, 26), (52, 52)), 8, 4, 128
    places, columns = sum(h * w for h, w in shapes), heads * points * len(shapes)
    torch.manual_seed(0)
    inputs = (
        torch.randn(1, places, dim),
        3 * torch.randn(1, places, columns),
        3 * torch.randn(1, places, columns),
        torch.randn(1, places, columns),
    )

    class Sampler(torch.nn.Module):
        def __init__(self, function: Callable[..., torch.Tensor]) -> None:
            super().__init__()
            self.function = function

        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            return self.function(*tensors, heads, deformable.levels(shapes, heads, points, torch.device("cpu")))

    answers: dict[str, Callable[[], Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, function in (("GridSample", deformable._sample_grid), ("gathers", gathers)):
            sampler, path = Sampler(function), f"{folder}/{name}.onnx"
            with torch.no_grad(), exporting():
                expected = sampler(*inputs).numpy()
                program = torch.onnx.export(
                    sampler, inputs, dynamo=True, opset_version=18, verbose=False, input_names=list("vxyl")
                )
                program.save(path)
            feed = {key: tensor.numpy() for key, tensor in zip("vxyl", inputs, strict=True)}
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            answers[f"{name}, ONNX Runtime"] = partial(run_session, session, feed)
            for hint in ("f32", "bf16"):
                compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": hint})
                answers[f"{name}, OpenVINO {hint}"] = partial(run_compiled, compiled, feed)
            for title, answer in answers.items():
                if title.startswith(name):
                    print(f"{title:28} differs by {np.abs(answer() - expected).max():.1e}")
    for title, seconds in seconds_of(answers).items():
        print(f"{title:28} {1000 * seconds:7.1f} ms")


def run_session(session: Any, feed: dict[str, np.ndarray]) -> Any:
    return session.run(None, feed)[0]


def run_compiled(compiled: Any, feed: dict[str, np.ndarray]) -> Any:
    return compiled(feed)[0]


def gathers(
    values: torch.Tensor, x: torch.Tensor, y: torch.Tensor, logits: torch.Tensor, heads: int, geometry: Any
) -> torch.Tensor:
    """The same function as `deformable._sample_grid`, as a weighted sum of gathered rows."""
    batch, places, columns = x.shape
    weights = logits.float().unflatten(-1, (heads, -1)).softmax(-1).flatten(2)
    x, y = x.float() + geometry.x, y.float() + geometry.y
    left, top = x.floor(), y.floor()
    right, bottom = x - left, y - top
    starts = np.cumsum([0, *(h * w for h, w in geometry.shapes[:-1])]).tolist()
    points = columns // heads // len(starts)
    start = torch.tensor(starts).repeat_interleave(points).repeat(heads)
    first = torch.arange(heads).repeat_interleave(columns // heads) * places + start
    rows, factors = [], []
    for dy, below in ((0, 1 - bottom), (1, bottom)):
        for dx, beside in ((0, 1 - right), (1, right)):
            at_x, at_y = left + dx, top + dy
            inside = (at_x >= 0) & (at_x < geometry.width) & (at_y >= 0) & (at_y < geometry.height)
            at_x, at_y = (
                at.clamp(min=0).minimum(side - 1).long()
                for at, side in ((at_x, geometry.width), (at_y, geometry.height))
            )
            rows.append(first + at_y * geometry.width.long() + at_x)
            factors.append(weights * inside * below * beside)
    row = torch.stack(rows, -1) + (torch.arange(batch) * heads * places).view(-1, 1, 1, 1)
    by_head = values.float().unflatten(-1, (heads, -1)).permute(0, 2, 1, 3).reshape(-1, values.shape[-1] // heads)
    taken = by_head[row.reshape(-1)].view(batch * places * heads, -1, by_head.shape[-1])
    factor = torch.stack(factors, -1).reshape(batch * places * heads, 1, -1)
    return (factor @ taken).view(batch, places, -1)


if __name__ == "__main__":
    main()
