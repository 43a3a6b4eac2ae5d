"""int8 by NNCF: which blocks can be quantised is measured on the data, the others stay as they are.

Default quantisation loses the masks: a mask is where a product of two small vectors is above zero, and rounding its
factors to 8 bits moves its border. So each block of the network is quantised by itself first, and how much that damages
the answers decides what is quantised in the end.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segcli.errors import CheckpointError
from segcli.export.contract import CLASSES, EMBEDDINGS, FEATURES, MASKS

MOST_LOST = 0.5  # points of the metric that an int8 model may lose
BITS = 0.995  # least share of mask bits that a block may leave as they were, quantised by itself
TRIALS = 4  # images that the damage of a block is measured on
CALIBRATION = 64  # images that the ranges of numbers are taken from

Inputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class BlockDamage:
    """What quantising one block alone does."""

    block: str
    operations: int  # in it
    bits: float  # share of mask bits that stay
    logits: float  # greatest change of a class logit, as a share of the greatest
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


def quantise(
    model: Any,
    blocks: Mapping[str, str],
    images: Sequence[Inputs],
    measure: Callable[[Any], float],
    before: float,
    tell: Callable[[str], None] = lambda what: None,
) -> tuple[Any, list[BlockDamage], float]:
    """An OpenVINO model in fp32 -> the int8 model, the damage of each block, and the metric after.

    images: prepared inputs, the more alike those of the user's data the better. measure: the metric of a model in
    points, before: that of the fp32 model.
    Raises CheckpointError if no choice of blocks keeps the metric within 0.5.
    """
    with _quiet():
        import nncf
    names = {op.get_friendly_name(): _block(op.get_friendly_name(), blocks) for op in model.get_ops()}
    weighty = {op.get_friendly_name() for op in model.get_ops() if op.get_type_name() in _QUANTISABLE}
    groups = sorted({names[name] for name in weighty})
    expected = [_run(_compile(model), inputs) for inputs in images[:TRIALS]]
    rows = []
    for block in groups:
        tell(block)
        ignored = [name for name in weighty if names[name] != block]
        trial = _compile(_quantised(nncf, model, images[: 2 * TRIALS], ignored))
        got = [_run(trial, inputs) for inputs in images[:TRIALS]]
        bits = float(np.mean([_bits(a, b) for a, b in zip(expected, got, strict=True)]))
        logits = max(_relative(a[CLASSES], b[CLASSES]) for a, b in zip(expected, got, strict=True))
        count = sum(names[name] == block for name in weighty)
        rows.append(BlockDamage(block, count, bits, logits, bits >= BITS))
    rows.sort(key=lambda row: row.bits)
    while any(row.quantised for row in rows):
        tell("the whole")
        chosen = {row.block for row in rows if row.quantised}
        ignored = [name for name in weighty if names[name] not in chosen]
        whole = _quantised(nncf, model, images[:CALIBRATION], ignored)
        after = measure(whole)
        if before - after <= MOST_LOST:
            return whole, rows, after
        worst = next(row for row in rows if row.quantised)
        rows[rows.index(worst)] = BlockDamage(worst.block, worst.operations, worst.bits, worst.logits, False)
    raise CheckpointError(
        f"int8 loses more than {MOST_LOST} points of the metric whichever blocks are left out; use --dtype fp32, and "
        "--dtype bf16 where it is run"
    )


def _block(name: str, blocks: Mapping[str, str]) -> str:
    """OpenVINO takes an ONNX node apart: "node_conv2d_3/WithoutBiases"."""
    return blocks.get(name) or blocks.get(name.split("/")[0], "the rest")


_QUANTISABLE = ("Convolution", "GroupConvolution", "MatMul")


def _quantised(nncf: Any, model: Any, images: Sequence[Inputs], ignored: Sequence[str]) -> Any:
    with _quiet():
        return nncf.quantize(
            model.clone(),
            nncf.Dataset(list(images)),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(names=sorted(ignored), validate=False),
        )


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
