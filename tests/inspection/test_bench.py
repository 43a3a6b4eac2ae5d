"""`segcli bench` times what it says, and leaves the model as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from segcli.cli import app
from segcli.inference import predict
from segcli.inspection import bench as module
from segcli.weights.checkpoint import LoadedModel, load_model


@pytest.fixture(autouse=True)
def _briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SECONDS": 0.0, "FEWEST": 1, "STEP_SIDE": 64, "STEP_IMAGES": 1}.items():
        monkeypatch.setattr(module, name, value)


@pytest.mark.parametrize("native", [False, True])
def test_rows_in_every_precision_that_is_native(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(module, "has_native_bf16", lambda device: native)
    used: list[torch.dtype] = []

    def forward(loaded: LoadedModel, images: Any) -> Any:
        used.extend({parameter.dtype for parameter in loaded.model.parameters()})
        return predict.forward(loaded, images)

    monkeypatch.setattr(module, "forward", forward)
    answer = CliRunner().invoke(app, ["bench", "everyday", "--json"])
    document = json.loads(answer.stdout)
    kinds = ["network", "a photo, from file to overlay"]
    dtypes = ["fp32", "bf16"] if native else ["fp32"]
    wanted = [(kind, dtype) for dtype in dtypes for kind in kinds] + [("a step of training", d) for d in dtypes]
    assert [(row["what"], row["dtype"]) for row in document["rows"]] == wanted
    assert all(row["seconds"] >= row["fastest"] > 0 for row in document["rows"])
    assert set(used) == ({torch.float32, torch.bfloat16} if native else {torch.float32})
    assert document["model"] == "everyday"
    assert document["processor"]


def test_the_weights_stay() -> None:
    loaded = load_model("everyday", "cpu", "fp32")
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    assert len(list(module.bench(loaded))) >= 3
    assert all(torch.equal(tensor, before[name]) for name, tensor in loaded.model.state_dict().items())
