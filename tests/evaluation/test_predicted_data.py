"""What `segcli predict` writes becomes a dataset that training finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segcli.codecs.rle import encode
from segcli.data.converting.convert import write_dataset
from segcli.data.converting.writers import writer_for
from segcli.data.dataset import open_split
from segcli.data.detect import detect
from segcli.errors import UsageError
from segcli.evaluation.predicted_data import open_source, predicted_data
from segcli.results.plan import plan
from segcli.results.writer import ResultsWriter
from segcli.segments import Segments
from segcli.types import Label, LabelSet, Task

LABELS = LabelSet((Label(3, "cat", True), Label(8, "dog", True), Label(40, "grass", False)))
MAP = np.array([[0, 0, 1, 1], [2, 2, 1, 1], [2, 2, 3, 3]], dtype=np.int32)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("sub/a.png", "b.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((3, 4, 3), 9, dtype=np.uint8)).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def predicted(photos: Path, out: Path, task: Task, kinds: tuple[str, ...]) -> Path:
    """Segments 1 … 3 of classes cat, dog, grass, as the command would write them."""
    scores = np.array([0.9, 0.8, 0.7], dtype=np.float32)
    labels = np.array([0, 1, 2])
    files = [(photos / name, photos) for name in ("sub/a.png", "b.png")]
    plans = plan(files)
    if task == "instance":
        masks = tuple(encode(mask) for mask in (MAP == 1, MAP > 0))
        segments = Segments(task, (3, 4), LABELS, labels[:2], scores[:2], rles=masks)
    else:
        none = np.full(3, np.nan, dtype=np.float32)
        segments = Segments(task, (3, 4), LABELS, labels, none if task == "semantic" else scores, map=MAP)
    writer = ResultsWriter(out, kinds, plans, task=task, labels=LABELS, run={"model": "m"})
    with writer:
        for photo in plans:
            writer.write(photo, None, segments, timings={})
    return out


@pytest.mark.parametrize("kinds", [("png", "json"), ("coco-panoptic",)])
def test_panoptic_predictions(photos: Path, tmp_path: Path, kinds: tuple[str, ...]) -> None:
    info = predicted_data(predicted(photos, tmp_path / "out", "panoptic", kinds), photos)
    write_dataset(info, tmp_path / "data", writer_for("coco-panoptic", info))
    found = detect(tmp_path / "data")
    assert (found.task, found.labels.names, found.labels.ids) == ("panoptic", LABELS.names, LABELS.ids)
    sample = open_split(found, "train")[0]
    np.testing.assert_array_equal(sample.masks, [i == MAP for i in (1, 2, 3)])
    np.testing.assert_array_equal(sample.void, MAP == 0)


def test_instance_predictions_overlap(photos: Path, tmp_path: Path) -> None:
    info = predicted_data(predicted(photos, tmp_path / "out", "instance", ("json", "coco")), photos)
    written = write_dataset(info, tmp_path / "data", writer_for("coco", info))
    sample = open_split(detect(tmp_path / "data"), "val")[0]
    np.testing.assert_array_equal(sample.masks, [MAP == 1, MAP > 0])
    assert written.losses == {}


def test_semantic_predictions(photos: Path, tmp_path: Path) -> None:
    info = predicted_data(predicted(photos, tmp_path / "out", "semantic", ("png", "json")), photos)
    write_dataset(info, tmp_path / "data", writer_for("semantic-png", info))
    found = detect(tmp_path / "data")
    assert (found.task, found.labels.names) == ("semantic", LABELS.names)
    np.testing.assert_array_equal(open_split(found, "train")[0].void, MAP == 0)
    with pytest.raises(UsageError, match="do not separate objects"):
        writer_for("coco", info)


@pytest.mark.parametrize("kinds", [("png", "json"), ("coco-panoptic",), ("coco-panoptic", "png")])
def test_predictions_without_their_photos(photos: Path, tmp_path: Path, kinds: tuple[str, ...]) -> None:
    """The id maps of --save png have the names of the photos, and are not taken for them."""
    out = predicted(photos, tmp_path / "out", "panoptic", kinds)
    with pytest.raises(UsageError, match="give their folder with --images"):
        open_source(out, None, None)
    with pytest.raises(UsageError, match="no such folder"):
        open_source(out, tmp_path / "nowhere", None)
    (photos / "b.png").unlink()
    with pytest.raises(UsageError, match=r"predictions of b.png, which is not below"):
        open_source(out, photos, None)
    with pytest.raises(UsageError, match="no dataset recognised"):
        open_source(photos, None, None)
