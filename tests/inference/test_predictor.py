"""The callable that engines copy to their workers."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import segcli
from segcli.errors import InputError
from segcli.inference.predict import predict
from segcli.inference.predictor import Predictor
from tests.fakes import FakeLoaded


@pytest.fixture
def predictor(monkeypatch: pytest.MonkeyPatch) -> Predictor:
    monkeypatch.setattr("segcli.weights.checkpoint.load_model", lambda *_: FakeLoaded())
    return Predictor("fake", "instance", threshold=0.1)


def test_one_row_an_image_whatever_form_it_has(predictor: Predictor, tmp_path: Path) -> None:
    red = np.zeros((40, 60, 3), dtype=np.uint8)
    red[10:30, 10:40, 0] = 255
    path = tmp_path / "red.png"
    Image.fromarray(red).save(path)
    column = [red, str(path), path.read_bytes(), Image.open(path), {"bytes": path.read_bytes(), "path": None}, b"no"]
    found = predictor({"image": column, "key": list("abcdef")})
    assert found["key"] == list("abcdef")
    assert found["height"] == [40] * 5 + [None]
    assert [error is None for error in found["error"]] == [True] * 5 + [False]
    assert found["segments"][5] == []
    expected = predict(FakeLoaded(), red, "instance", threshold=0.1)  # type: ignore[arg-type]
    for rows in found["segments"][:5]:
        assert [row["category_name"] for row in rows] == expected.names()
        assert [row["segmentation"] for row in rows] == [rle.to_coco() for rle in expected.to_rles()]


def test_it_travels_without_its_model(predictor: Predictor) -> None:
    predictor({"image": np.zeros((2, 32, 32, 3), dtype=np.uint8)})
    assert predictor._loaded is not None
    assert pickle.loads(pickle.dumps(predictor))._loaded is None
    assert segcli.Predictor is Predictor


def test_a_column_that_is_not_there(predictor: Predictor) -> None:
    with pytest.raises(InputError, match="no column 'image'; there are picture"):
        predictor({"picture": []})
    with pytest.raises(InputError, match="a batch is a mapping of columns"):
        Predictor("facade")(np.zeros((4, 4, 3), np.uint8))  # type: ignore[arg-type]  # one photo by itself
