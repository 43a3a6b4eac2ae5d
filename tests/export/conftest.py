"""One exported model for all tests here: tracing takes half a minute."""

from __future__ import annotations

from pathlib import Path

import pytest

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
