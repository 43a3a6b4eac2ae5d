"""The network as an ONNX graph: traced by PyTorch's exporter from the definitions of its parts."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from segcli.errors import CheckpointError
from segcli.export.contract import BOXES, CLASSES, EMBEDDINGS, FEATURES, IMAGES, MASKS, PADDING, WHOLE
from segcli.layers.masks import ProductMasks
from segcli.layers.trace import exporting
from segcli.types import Batch, QueryPredictions

if TYPE_CHECKING:
    from segcli.weights.checkpoint import LoadedModel

OPSET = 18
LONGEST = 4096  # pixels a side of a graph for every size


@dataclass(frozen=True)
class InputShape:
    """The inputs a graph takes."""

    size: tuple[int, int] | None  # (height, width); None: any multiples of 32
    batch: int | None  # None: any number


class Network(nn.Module):
    """A Segmenter as runtimes know a network: tensors in, a tuple of tensors out, float32 on both sides."""

    def __init__(self, model: nn.Module, dense: bool) -> None:
        super().__init__()
        self.model, self.dense = model, dense
        self.names: tuple[str, ...] = ()  # of the outputs, once it has run

    def forward(self, images: Tensor, padding: Tensor | None = None) -> tuple[Tensor, ...]:
        """images [B, 3, H, W], padding [B, H, W] bool -> what `contract` lists, as far as the model has it."""
        if padding is None:
            padding = torch.zeros(1, 1, 1, dtype=torch.bool)  # nobody looks at it
        dtype = next(self.model.parameters()).dtype
        prediction: QueryPredictions = self.model(Batch(images.to(dtype), padding, []))[-1]
        answers = outputs_of(prediction, self.dense)
        self.names = tuple(answers)
        return tuple(tensor.float() for tensor in answers.values())


def outputs_of(prediction: QueryPredictions, dense: bool = False) -> dict[str, Tensor]:
    """A prediction by the names of a graph's outputs; masks as their factors where they have some."""
    outputs = {CLASSES: prediction.classes}
    masks = prediction.masks
    if isinstance(masks, ProductMasks) and not dense:
        outputs |= {EMBEDDINGS: masks.embeddings, FEATURES: masks.features}
    elif masks is not None:
        outputs[MASKS] = masks.dense()
    if prediction.boxes is not None:
        outputs[BOXES] = prediction.boxes
    return outputs


def write_onnx(loaded: LoadedModel, path: Path, shape: InputShape, *, dense: bool, metadata: Mapping[str, str]) -> int:
    """Trace a model into an ONNX file; returns the number of its nodes.

    metadata: words kept in the file itself, beside the graph.
    Raises CheckpointError for a network that the exporter cannot express.
    """
    import onnx

    network = Network(loaded.model, dense).eval()
    inputs = _example(shape, looks_at_padding(loaded.model))
    with torch.inference_mode(False), torch.no_grad(), exporting(), _quiet():
        network(*inputs.values())  # for the names of the outputs
        try:
            program = torch.onnx.export(
                network,
                tuple(inputs.values()),
                dynamo=True,
                dynamic_shapes=_dimensions(shape, inputs),
                input_names=list(inputs),
                output_names=list(network.names),
                opset_version=OPSET,
                verbose=False,
                optimize=False,  # `_fold` does, without limits
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise CheckpointError(f"{loaded.name}: cannot be exported ({_reason(error)})") from error
        assert program is not None  # it always is with dynamo=True
        proto = program.model_proto
        _fold(proto)
    del proto.metadata_props[:]
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)
    _name_dimensions(proto)
    onnx.save(proto, str(path))
    return len(proto.graph.node)


def looks_at_padding(model: nn.Module) -> bool:
    """Whether what is padding changes a model's answer (DETR)."""
    return bool(getattr(model.query_decoder, "mask_padding", False))


def labels_as_text(loaded: LoadedModel) -> str:
    """Classes in the order of the logits, with their colours, as JSON for an ONNX file's metadata."""
    rows = [{"id": x.id, "name": x.name, "isthing": x.isthing, "color": x.color} for x in loaded.labels]
    return json.dumps(rows, ensure_ascii=False)


def _example(shape: InputShape, padding: bool) -> dict[str, Tensor]:
    """Inputs to trace with. Sizes that are to stay open are neither one nor equal to each other."""
    batch = shape.batch or 2
    height, width = shape.size or (8 * WHOLE, 10 * WHOLE)
    inputs = {IMAGES: torch.zeros(batch, 3, height, width)}
    if padding:
        inputs[PADDING] = torch.zeros(batch, height, width, dtype=torch.bool)
        inputs[PADDING][:, :, -WHOLE:] = True
    return inputs


def _dimensions(shape: InputShape, inputs: Mapping[str, Tensor]) -> tuple[dict[int, Any], ...]:
    """Which dimensions of each input stay open."""
    batch = {} if shape.batch else {0: torch.export.Dim("batch", min=1, max=1024)}
    sides: list[Any] = []
    if shape.size is None:
        sides = [WHOLE * torch.export.Dim(name, min=2, max=LONGEST // WHOLE) for name in ("rows", "columns")]
    return tuple(
        batch | {tensor.dim() - len(sides) + i: side for i, side in enumerate(sides)} for tensor in inputs.values()
    )


def _fold(proto: Any) -> None:
    """Compute what does not depend on the input, whatever its size: folded norms, joined weights, positions."""
    from onnxscript import ir
    from onnxscript.optimizer import optimize

    model = ir.from_proto(proto)
    optimize(model, input_size_limit=1 << 30, output_size_limit=1 << 30)
    proto.CopyFrom(ir.to_proto(model))


def _name_dimensions(proto: Any) -> None:
    """Open sides in words, for those who open the file."""
    for value in proto.graph.input:
        names = ("batch", "height", "width") if len(value.type.tensor_type.shape.dim) == 3 else _FOUR
        for dimension, name in zip(value.type.tensor_type.shape.dim, names, strict=True):
            if dimension.dim_param:
                dimension.dim_param = name
    for value in proto.graph.output:
        for index, dimension in enumerate(value.type.tensor_type.shape.dim):
            if dimension.dim_param:
                dimension.dim_param = "batch" if index == 0 else f"{('height', 'width')[index - 2]}/4"


_FOUR = ("batch", "3", "height", "width")


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells its own story in warnings and on several loggers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _reason(error: BaseException) -> str:
    """The first line of what went wrong to begin with: the exporter's own errors are about its steps."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
