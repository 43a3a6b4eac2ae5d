"""One exported model for all tests here: tracing takes half a minute."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from segcli.export.contract import TABLE
from tests.export.models import EXPORTED, small


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small Mask2Former for photos of every size, in ONNX. Not to be changed."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    from segcli.export.exporter import Request, export_model
    from segcli.export.graph import InputShape

    folder = tmp_path_factory.mktemp("exported") / "small-onnx"
    export_model(small(EXPORTED), Request("onnx", InputShape(None, None)), folder)
    return folder


@pytest.fixture(scope="session")
def in_openvino(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model for OpenVINO. Not to be changed."""
    openvino = pytest.importorskip("openvino")
    folder = tmp_path_factory.mktemp("exported") / "small-openvino"
    shutil.copytree(exported, folder, ignore=shutil.ignore_patterns("model.*"))
    openvino.save_model(openvino.convert_model(str(exported / "model.onnx")), str(folder / "model.xml"))
    config = json.loads((folder / "config.json").read_text())
    config[TABLE] |= {"runtime": "openvino", "file": "model.xml"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder
