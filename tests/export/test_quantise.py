"""int8 where the data allows it, and nowhere else."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segcli.errors import CheckpointError
from segcli.export import exporter
from segcli.export.contract import CLASSES, IMAGES, MASKS, TABLE, ExportFacts
from segcli.export.quantise import BlockDamage, Calibration, Quantiser, block_of, choose_blocks
from segcli.inference.preprocess import prepare
from segcli.segments import Segments
from tests.export.models import EXPORTED, LABELS, small


class Fake:
    """Its models are the names of their blocks."""

    def only(self, blocks: set[str]) -> set[str]:
        return blocks


LOSS = {"stem": 4.0, "stage": 0.4, "encoder": 0.2, "head": 0.1}
ROWS = [BlockDamage(name, 1, 0.9, 0.1, 0.95, True) for name in LOSS]  # the worst first


def choose(rows: list[BlockDamage], loss: dict[str, float]) -> tuple[set[str], list[str]]:
    told: list[str] = []
    quantiser: Any = Fake()
    model, after, points = choose_blocks(quantiser, rows, lambda m: 40 - sum(loss[b] for b in m), 40.0, told.append)
    assert points == 40 - sum(loss[block] for block in model)
    assert {row.block for row in after if row.quantised} == model
    return model, told


def test_every_block_if_the_metric_stays() -> None:
    model, told = choose(ROWS, dict.fromkeys(LOSS, 0.1))
    assert model == set(LOSS)
    assert told == ["int8 in 4 of 4 blocks: 39.60, in PyTorch 40.00"]


def test_the_worse_half_is_left_out_and_what_the_metric_bears_is_put_back() -> None:
    model, told = choose(ROWS, LOSS)  # 4 blocks lose 4.7 points, 2 of them 0.3, 3 of them 0.7
    assert model == {"encoder", "head"}
    assert [line.split()[2] for line in told] == ["4", "2", "3"]
    model, told = choose(ROWS, {**LOSS, "stage": 0.1})
    assert model == {"stage", "encoder", "head"}
    assert [line.split()[2] for line in told] == ["4", "2", "3"]


def test_a_block_that_damages_segments_is_left_out_at_once() -> None:
    model, told = choose([BlockDamage("stem", 1, 0.9, 0.1, 0.6, False), *ROWS[1:]], {**LOSS, "stage": 0.1})
    assert model == {"stage", "encoder", "head"}
    assert len(told) == 1


def test_what_loses_too_much_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"loses 0\.60 points .* not accepted; use --dtype fp32"):
        choose(ROWS, dict.fromkeys(LOSS, 0.6))
    with pytest.raises(CheckpointError, match="in every block; use --dtype fp32"):
        choose([BlockDamage("stem", 1, 0.9, 0.1, 0.6, False)], LOSS)


@pytest.mark.parametrize(
    ("scopes", "block"),
    [
        (["model", "model.backbone", "model.backbone.stages.2", "model.backbone.stages.2.conv"], "backbone.stages.2"),
        (["model", "model.head", "model.head.mask_embed.0"], "head.mask_embed"),
        (["model", ""], "the rest"),
    ],
)
def test_an_operation_belongs_to_a_block(scopes: list[str], block: str) -> None:
    assert block_of(scopes) == block


@pytest.mark.slow
def test_only_the_chosen_products_are_int8() -> None:
    """Two convolutions; the second reads channels of very unlike size, which one range for all does not bear."""
    pytest.importorskip("nncf")
    openvino = pytest.importorskip("openvino")
    from openvino import opset13 as ops

    rng = np.random.default_rng(0)
    images = ops.parameter([-1, 3, 16, 16], np.float32, name=IMAGES)
    images.output(0).set_names({IMAGES})

    def convolution(data: Any, name: str, factor: np.ndarray) -> Any:
        weights = rng.normal(size=(4, data.get_output_partial_shape(0)[1].get_length(), 1, 1)).astype(np.float32)
        conv = ops.convolution(data, ops.constant(weights * factor), [1, 1], [0, 0], [0, 0], [1, 1])
        conv.set_friendly_name(name)
        return conv

    unlike = np.array([9, 1, 1 / 9, 1], np.float32)
    first = convolution(images, "first", unlike[:, None, None, None])
    second = convolution(first, "second", 1 / unlike[None, :, None, None])
    masks = ops.add(second, ops.constant(np.float32(0.1)))
    masks.output(0).set_names({MASKS})
    classes = ops.reduce_mean(masks, ops.constant(np.array([2, 3])), keep_dims=False)
    classes = ops.unsqueeze(classes, ops.constant(1))
    classes.output(0).set_names({CLASSES})
    model = openvino.Model([ops.result(masks), ops.result(classes)], [images], "two")

    def segments(index: int, outputs: Any) -> Segments:
        ids = (outputs[MASKS][0, 0] > 0).astype(np.uint16)
        return Segments("panoptic", ids.shape, LABELS, np.array([0]), np.array([0.9]), ids)

    bars: list[str] = []

    @contextlib.contextmanager
    def progress(what: str, total: int | None) -> Iterator[Any]:
        bars.append(f"{what}: {total}")
        yield lambda steps: None

    inputs = [{IMAGES: rng.normal(size=(1, 3, 16, 16)).astype(np.float32)} for _ in range(4)]
    quantiser = Quantiser(model, {"first": "one", "second": "two"}, Calibration(inputs, segments), progress)
    rows = quantiser.damage()
    assert bars == ["taking ranges from 4 images: None", "quantising one block at a time: 2"]
    assert [row.block for row in rows] == ["two", "one"]
    assert rows[0].bits < 0.95 < 0.97 < rows[1].bits
    chosen = quantiser.only({"one"})
    kinds = [op.get_element_type().get_type_name() for op in chosen.get_ops() if op.get_type_name() == "Constant"]
    assert kinds.count("i8") == 1
    [weights] = [
        op.get_data()
        for op in chosen.get_ops()
        if op.get_type_name() == "Constant" and op.get_element_type().get_type_name() == "i8"
    ]
    assert 60 < np.abs(weights.astype(int)).max() <= 64  # 7 bits: two products fit 16 bits on every processor
    readers = {op.get_friendly_name(): op for op in chosen.get_ops()}
    assert readers["second"].input_value(0).get_node().get_friendly_name() == "first"  # nothing is rounded between


def test_the_folder_holds_what_was_chosen_not_what_was_measured_last(
    in_openvino: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino = pytest.importorskip("openvino")
    facts = ExportFacts.from_table(json.loads((in_openvino / "config.json").read_text())[TABLE], "config.json")

    class Named:
        """Its models are the one it was given, under the number of their blocks."""

        def __init__(self, model: Any, blocks: Any, calibration: Calibration, *others: Any) -> None:
            self.model, self.version = model, "3.0.0"
            shapes.append(calibration.inputs[0][IMAGES].shape)

        def damage(self) -> list[BlockDamage]:
            return ROWS

        def only(self, blocks: set[str]) -> Any:
            model = self.model.clone()
            model.set_friendly_name(f"{len(blocks)} blocks")
            return model

    shapes: list[tuple[int, ...]] = []
    names: list[str] = []
    monkeypatch.setattr(exporter, "Quantiser", Named)
    losses = iter([4.7, 0.3, 0.7])  # of 4, 2 and 3 blocks
    begun = exporter.Exported(in_openvino, replace(facts, batch=3), {}, 0, 0.0)
    image = prepare(np.zeros((64, 96, 3), np.uint8), small(EXPORTED).spec)
    out = tmp_path / "int8"
    out.mkdir()
    (out / "earlier").touch()

    def make() -> tuple[Any, list[BlockDamage], float]:
        def metric(candidate: Any) -> float:
            names.append(candidate.name)
            return 40 - next(losses)

        nothing: Any = lambda *_: None  # noqa: E731
        return exporter.write_int8(small(EXPORTED), begun, out, [image], metric, 40.0, nothing, nothing, nothing)

    done, rows, after = make()
    assert (after, sum(row.quantised for row in rows)) == (39.7, 2)
    assert openvino.Core().read_model(out / "model.xml").friendly_name == "2 blocks"
    assert done.folder == out
    assert shapes == [(3, 3, 64, 96)]  # a graph of a fixed number of images is given them
    assert set(names) == {"int8"}  # what a person reads, not the folder of the trial
    assert done.facts.dtype == json.loads((out / "config.json").read_text())[TABLE]["dtype"] == "int8"
    assert done.nodes > 0
    card = (out / "README.md").read_text()
    assert "int8, exported by segcli" in card
    assert "nncf 3.0.0" in card
    (out / "kept").touch()
    losses = iter([4.7, 4.3, 4.2])
    with pytest.raises(CheckpointError, match="not accepted"):
        make()
    assert (out / "kept").exists(), "a refused export does not remove an earlier one"
    assert not (out / "earlier").exists()
