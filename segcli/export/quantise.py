"""int8 by NNCF: which blocks can be quantised is measured on the data, the others stay as they are.

Default quantisation loses the masks: it rounds whatever lies between two products, sums and normalised values and the
values that deformable attention samples among it, and a mask is where a product of two small vectors is above zero. So
only what products read is rounded here, and each block of the network is quantised by itself first: how much that
damages the answers decides what is quantised in the end.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from segcli.errors import CheckpointError
from segcli.export.contract import CLASSES, EMBEDDINGS, FEATURES, MASKS
from segcli.export.verify import match
from segcli.segments import Segments

MOST_LOST = 0.5  # points of the metric that an int8 model may lose
AGREEMENT = 0.9  # least mean IoU of the segments with those of fp32 that a block may leave, quantised by itself
TRIALS = 4  # images that the damage of a block is measured on
CALIBRATION = 16  # images that the ranges of numbers are taken from
ATTEMPTS = 3  # choices of blocks that the metric is measured for

Inputs = Mapping[str, np.ndarray]
Outputs = Mapping[str, np.ndarray]
Progress = Callable[[str, "int | None"], AbstractContextManager[Callable[[float], None]]]


@dataclass(frozen=True)
class BlockDamage:
    """What quantising one block alone does."""

    block: str
    operations: int  # in it
    bits: float  # share of mask bits that stay
    logits: float  # greatest change of a class logit, as a share of the greatest
    segments: float  # mean IoU of the segments found with those found before, 0 for those without a counterpart
    quantised: bool  # whether it is in the end


def block_of(scopes: Sequence[str]) -> str:
    """The block that an operation belongs to, from the modules around it: "backbone.stages.2", "head", ..."""
    names = [name.removeprefix("model.") for name in scopes if name not in ("", "model")]
    longest = max((name for name in names if "." in name or name.isidentifier()), key=len, default="")
    parts = longest.split(".")
    depth = 3 if len(parts) > 2 and parts[1] in ("stages", "layers", "blocks") else min(2, len(parts))
    return ".".join(parts[:depth]) or "the rest"


def blocks_of_onnx(path: Path) -> dict[str, str]:
    """Names of an ONNX file's nodes and of what they give -> their blocks, as PyTorch's exporter wrote them down."""
    import ast

    import onnx

    blocks = {}
    for node in onnx.load(str(path), load_external_data=False).graph.node:
        scopes: list[str] = []
        for item in node.metadata_props:
            if item.key == "pkg.torch.onnx.name_scopes":
                with contextlib.suppress(ValueError, SyntaxError):
                    scopes = [str(scope) for scope in ast.literal_eval(item.value)[:-1]]
        for name in (node.name, *node.output):
            blocks[name] = block_of(scopes)
    return blocks


@dataclass(frozen=True)
class Calibration:
    """Images that a model is quantised with, the more alike those of the user's data the better."""

    inputs: Sequence[Inputs]  # prepared
    segments: Callable[[int, Outputs], Segments]  # what the graph's outputs for one of them mean


class Quantiser:
    """An OpenVINO model in fp32, and the same with everything quantised that can be."""

    def __init__(self, model: Any, blocks: Mapping[str, str], images: Calibration, progress: Progress) -> None:
        """blocks: from `blocks_of_onnx`. Takes the ranges of numbers from the images, which needs a minute or two."""
        with _quiet():
            import nncf
            from nncf.quantization.advanced_parameters import OverflowFix
        self._images, self._progress = images, progress
        self.version = str(nncf.__version__)
        count = min(len(images.inputs), CALIBRATION)
        self._blocks = {
            op.get_friendly_name(): _block(op.get_friendly_name(), blocks)
            for op in model.get_ops()
            if op.get_type_name() in _PRODUCTS
        }
        with progress(f"taking ranges from {count} images", None), _quiet():
            self._quantised = nncf.quantize(
                model.clone(),
                nncf.Dataset(list(images.inputs[:count])),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=count,
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    disable_bias_correction=True,  # changes nothing here, and takes as long as all the rest
                    # Processors without VNNI add pairs of 8-bit products in 16 bits, which overflow unless weights
                    # have 7: a model made on a newer one would find other things on them.
                    overflow_fix=OverflowFix.ENABLE,
                    backend_params={"compress_weights": False},  # `only` does, once it is known which
                ),
            )
        self._readers = _readers(self._quantised, self._blocks)
        self._expected = self._run(model)

    def damage(self) -> list[BlockDamage]:
        """What each block does to a few images, the worst first."""
        rows, blocks = [], sorted(set(self._blocks.values()))
        with self._progress("quantising one block at a time", len(blocks)) as advance:
            for block in blocks:
                rows.append(self._damage(block))
                advance(1)
        return sorted(rows, key=lambda row: row.segments)

    def only(self, blocks: set[str]) -> Any:
        """The model with the products of these blocks in int8, all else in fp32."""
        from openvino._offline_transformations import compress_quantize_weights_transformation

        model = self._with(blocks)
        compress_quantize_weights_transformation(model)
        return model

    def _with(self, blocks: set[str]) -> Any:
        model = self._quantised.clone()
        for op in model.get_ops():
            if op.get_type_name() == "FakeQuantize" and not self._readers[op.get_friendly_name()] & blocks:
                source = op.input_value(0)
                for port in op.output(0).get_target_inputs():
                    port.replace_source_output(source)
        model.validate_nodes_and_infer_types()
        return model

    def _run(self, model: Any) -> list[Outputs]:
        compiled = _compile(model)
        return [_run(compiled, inputs) for inputs in self._images.inputs[:TRIALS]]

    def _damage(self, block: str) -> BlockDamage:
        pairs = list(zip(self._expected, self._run(self._with({block})), strict=True))
        bits = float(np.mean([_bits(a, b) for a, b in pairs]))
        logits = max(_relative(a[CLASSES], b[CLASSES]) for a, b in pairs)
        meaning = self._images.segments
        iou = float(np.mean([match(meaning(i, a), meaning(i, b))[0] for i, (a, b) in enumerate(pairs)]))
        count = sum(block == other for other in self._blocks.values())
        return BlockDamage(block, count, bits, logits, iou, iou >= AGREEMENT)


def choose_blocks(
    quantiser: Quantiser,
    rows: Sequence[BlockDamage],
    measure: Callable[[Any], float],
    before: float,
    tell: Callable[[str], None],
) -> tuple[Any, list[BlockDamage], float]:
    """-> the int8 model whose metric is within 0.5 points, the blocks as they are in it, and its metric.

    rows: the worst first. measure: the metric of an OpenVINO model in points, before: that of the fp32 model. Of the
    blocks that do little damage all are tried, then the better half, and then more or fewer, by halves.
    Raises CheckpointError if every choice loses more.
    """
    mild = [row.block for row in reversed(rows) if row.quantised]
    if not mild:
        raise CheckpointError(f"int8 changes the segments too much in every block; {_REMEDY}")
    kept: tuple[Any, set[str], float] | None = None
    least, most, count, after = 0, len(mild), len(mild), before
    for _ in range(ATTEMPTS):
        blocks = set(mild[:count])
        model = quantiser.only(blocks)
        after = measure(model)
        tell(f"int8 in {count} of {len(rows)} blocks: {after:.2f}, in PyTorch {before:.2f}")
        if before - after <= MOST_LOST:
            kept, least = (model, blocks, after), count
        else:
            most = count
        count = (least + most) // 2
        if count == least:  # the next would be the same, or none
            break
    if kept is None:
        lost = f"int8 loses {before - after:.2f} points of the metric"
        raise CheckpointError(f"{lost}, and more than {MOST_LOST} is not accepted; {_REMEDY}")
    model, blocks, after = kept
    return model, [replace(row, quantised=row.block in blocks) for row in rows], after


_REMEDY = "use --dtype fp32, and --dtype bf16 where it is run"
_PRODUCTS = ("Convolution", "GroupConvolution", "MatMul")


def _block(name: str, blocks: Mapping[str, str]) -> str:
    """OpenVINO takes an ONNX node apart: "node_conv2d_3/WithoutBiases"."""
    return blocks.get(name) or blocks.get(name.split("/")[0], "the rest")


def _readers(model: Any, blocks: Mapping[str, str]) -> dict[str, set[str]]:
    """Each place that rounds numbers -> the blocks of the products that read them before they are rounded again."""
    readers: dict[str, set[str]] = {}
    for quantiser in model.get_ops():
        if quantiser.get_type_name() != "FakeQuantize":
            continue
        found, seen, todo = readers.setdefault(quantiser.get_friendly_name(), set()), set(), [quantiser]
        while todo:
            for port in todo.pop().outputs():
                for op in (reader.get_node() for reader in port.get_target_inputs()):
                    name = op.get_friendly_name()
                    if name in blocks:
                        found.add(blocks[name])
                    elif name not in seen and op.get_type_name() != "FakeQuantize":
                        todo.append(op)
                    seen.add(name)
    return readers


def _compile(model: Any) -> Any:
    import openvino

    return openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def _run(compiled: Any, inputs: Inputs) -> dict[str, np.ndarray]:
    return {port.any_name: np.array(value) for port, value in compiled(dict(inputs)).items()}


def _bits(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> float:
    """Share of mask bits that agree."""
    left, right = (_masks(outputs) for outputs in (one, other))
    return 1.0 if left is None or right is None else float(np.mean((left > 0) == (right > 0)))


def _masks(outputs: Mapping[str, np.ndarray]) -> np.ndarray | None:
    if MASKS in outputs:
        return outputs[MASKS]
    if FEATURES not in outputs:
        return None
    features = outputs[FEATURES]
    product: np.ndarray = outputs[EMBEDDINGS] @ features.reshape(*features.shape[:2], -1)
    return product


def _relative(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max() / max(float(np.abs(one).max()), 1e-12))


@contextmanager
def _quiet() -> Iterator[None]:
    """NNCF shows bars and banners of its own, on stdout."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)
