"""An exported folder in the place of a model, and what is said where it cannot be."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

import segcli
from segcli.cli import app
from segcli.cli.models.own import OwnModel
from segcli.codecs.image import read_image
from segcli.errors import CheckpointError, InputError, SegcliError, UsageError
from segcli.evaluation.from_model import describe_model
from segcli.export import exporter
from segcli.export.contract import ABOUT, CLASSES, TABLE
from segcli.export.exported_model import load_exported as load_model
from segcli.export.graph import InputShape
from segcli.export.verify import LIMITS, PhotoAgreement, compare, fitted, match, own_photos
from segcli.segments import Segments
from segcli.types import Batch, InputSize
from segcli.versions import versions
from segcli.weights.hub import from_folder
from tests.export.models import EXPORTED, LABELS, small

Change = Callable[[dict[str, Any]], None]
SPEC = small(EXPORTED).spec


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the exported folder whose config.json may be changed."""

    def make(change: Change | None = None) -> Path:
        folder = tmp_path / "copy-onnx"
        shutil.copytree(exported, folder)
        if change:
            config = json.loads((folder / "config.json").read_text())
            change(config)
            (folder / "config.json").write_text(json.dumps(config))
        return folder

    return make


@pytest.mark.parametrize("runtime", ["exported", "in_openvino"])
@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_it_finds_what_the_network_finds(runtime: str, task: Any, request: pytest.FixtureRequest) -> None:
    image = read_image(own_photos()[0])
    mine = segcli.predict(small(EXPORTED), image, task)
    theirs = segcli.predict(segcli.load_model(request.getfixturevalue(runtime)), image, task)
    assert len(mine) > 0
    assert np.mean(mine.id_map() == theirs.id_map()) > 0.999
    np.testing.assert_allclose(mine.scores, theirs.scores, atol=1e-4)


def test_what_it_is_travels_with_it(exported: Path) -> None:
    loaded = load_model(exported)
    assert loaded.labels == LABELS
    assert loaded.spec == small(EXPORTED).spec
    assert all(f"| `{name}` |" in (exported / "README.md").read_text() for name in ABOUT)
    assert "ONNX Runtime" in loaded.facts["device_reason"]
    assert "on CPU" in loaded.facts["device_reason"]
    assert versions()["onnxruntime"]  # what a metric of this model is reported with
    assert sorted(path.name for path in exported.iterdir()) == [
        "README.md", "config.json", "model.onnx", "predict.py", "preprocessor_config.json"
    ]  # fmt: skip


def test_models_show_describes_it(exported: Path) -> None:
    document = OwnModel(str(exported)).to_json()
    assert (document["parameters"], document["classes"][0]["name"]) == (None, LABELS[0].name)
    assert document["megabytes"] == round((exported / "model.onnx").stat().st_size / 1e6, 1) > 0
    assert "fp32 graph for ONNX Runtime" in dict(OwnModel(str(exported)).rows())["network"]


def _set(**facts: Any) -> Change:
    return lambda config: config[TABLE].update(facts)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set(version=7), "exported in format 7, this segcli reads 1"),
        (_set(runtime="coreml"), "exported for 'coreml', which this segcli does not know"),
        (_set(file="gone.onnx"), "no such file, though config.json names it"),
        (_set(size=[64]), "is damaged; export the model again"),
        (_set(batch="many"), "is damaged; export the model again"),
        (_set(runtime=["onnx"]), "is damaged; export the model again"),
        (_set(made_with=7), "is damaged; export the model again"),
        (_set(file="../model.onnx"), "is not the name of a file in this folder"),
        (lambda config: config.pop(TABLE), "is damaged; export the model again"),
        (lambda config: config.pop("segcli"), "the 'segcli' table"),
    ],
)
def test_a_folder_that_cannot_be_used_says_why(copy: Callable[..., Path], change: Change, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        load_model(copy(change))


def test_a_folder_without_its_config(copy: Callable[..., Path]) -> None:
    folder = copy()
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match="copy all of it"):
        load_model(folder)


def test_a_folder_whose_graph_was_lost(copy: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy()
    (folder / "model.onnx").unlink()
    monkeypatch.setenv("HOME", str(folder.parent))
    with pytest.raises(CheckpointError, match="no such file, though config"):
        segcli.load_model(f"~/{folder.name}")
    with pytest.raises(SegcliError, match="no model folder"):
        segcli.load_model("~nobody-of-this-name/model")


def test_a_damaged_graph(copy: Callable[..., Path]) -> None:
    folder = copy()
    (folder / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(CheckpointError, match="ONNX Runtime cannot open it"):
        load_model(folder)


def test_weights_outside_of_the_folder_are_not_read(copy: Callable[..., Path]) -> None:
    onnx = pytest.importorskip("onnx")
    folder = copy()
    model = onnx.load(folder / "model.onnx")
    (folder.parent / "secret").write_bytes(bytes(1 << 20))
    for tensor in model.graph.initializer:
        tensor.data_location = onnx.TensorProto.EXTERNAL
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value="../secret")
        tensor.ClearField("raw_data")
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match="ONNX Runtime cannot open it"):
        load_model(folder)


def test_a_graph_of_other_classes_than_the_config(exported: Path) -> None:
    loaded = load_model(exported)
    loaded.model.classes = 2
    with pytest.raises(CheckpointError, match=r"its graph has 3 classes, its config\.json 2"):
        segcli.predict(loaded, np.zeros((50, 70, 3), np.uint8))


@pytest.mark.parametrize("name", ["class_logits", "mask_embeddings", "mask_features"])
@pytest.mark.parametrize(
    "spoil", [lambda a: a[:, :0], lambda a: a[0], lambda a: a[:, :-1], lambda a: a > 0, lambda a: a * np.nan]
)
def test_a_graph_whose_answers_do_not_fit(
    name: str, spoil: Callable[[np.ndarray], np.ndarray], exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_model(exported)
    run = loaded.model.runtime.run
    monkeypatch.setattr(loaded.model.runtime, "run", lambda inputs: (found := run(inputs)) | {name: spoil(found[name])})
    with pytest.raises(CheckpointError, match=r"do not fit its other answers|its graph has|hold NaN or infinite"):
        segcli.predict(loaded, np.zeros((50, 70, 3), np.uint8))


def test_a_graph_that_refuses_its_input(exported: Path) -> None:
    loaded = load_model(exported)
    with pytest.raises(CheckpointError, match="its graph cannot be run"):
        loaded.model(Batch(torch.zeros(1, 4, 64, 64), torch.zeros(1, 64, 64, dtype=torch.bool), [(64, 64)]))


def test_a_size_the_export_does_not_have(copy: Callable[..., Path]) -> None:
    loaded = load_model(copy(_set(size=[96, 96])))
    with pytest.raises(InputError, match=r"takes 96×96 pixels .* becomes 64×96; .* --size 64x96"):
        segcli.predict(loaded, np.zeros((50, 70, 3), np.uint8))


def test_a_photo_of_another_size_does_not_stop_the_others(copy: Callable[..., Path], tmp_path: Path) -> None:
    folder = copy(_set(size=[64, 64]))
    for name, size in (("wide", (150, 50)), ("square", (50, 50))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    photos = [str(tmp_path / "wide.png"), str(tmp_path / "square.png")]
    result = CliRunner().invoke(app, ["predict", *photos, "-m", str(folder), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1, result.output
    assert re.search(r"wide\.png: .* takes 64×64 pixels .* this photo becomes 32×96", result.output)
    assert (tmp_path / "out/square.json").is_file()


def test_another_process_opens_the_same(copy: Callable[..., Path]) -> None:
    folder = copy(_set(dtype="fp16"))
    loaded = load_model(folder)
    assert (loaded.precision, loaded.place) == ("fp16", "cpu")
    assert load_model(folder, loaded.place, loaded.precision).facts["exported"] == "fp16"


def test_its_weights_are_known_by_its_graph(exported: Path, copy: Callable[..., Path]) -> None:
    folder = copy()
    assert describe_model(load_model(folder))["weights"] == describe_model(load_model(exported))["weights"]
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\x12\x03abc")  # another name of the file's producer: the last one counts
    assert describe_model(load_model(folder))["weights"] != describe_model(load_model(exported))["weights"]


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([352, 416, 512]))
@example(200, 475, 512)  # rounded down, 216 × 513
def test_a_square_size_takes_every_photo(height: int, width: int, side: int) -> None:
    for rounding in ("nearest", "down", "even"):
        spec = dataclasses.replace(SPEC, size=InputSize(800, 1333, 1, rounding))
        assert exporter.misfit(spec, (side, side), np.empty((height, width, 3), np.uint8)) is None


def test_a_size_that_no_photo_can_have_is_refused_before_tracing() -> None:
    request = exporter.Request("onnx", InputShape((64, 96), None))
    tiled = dataclasses.replace(SPEC, size=dataclasses.replace(SPEC.size, tile=200))
    with pytest.raises(UsageError, match="predicts photos in square tiles; give one that is square"):
        exporter.check_request(dataclasses.replace(small(EXPORTED), spec=tiled), request)
    square = dataclasses.replace(SPEC, size=dataclasses.replace(SPEC.size, frame="square"))
    with pytest.raises(UsageError, match="pads photos to a square"):
        exporter.check_request(dataclasses.replace(small(EXPORTED), spec=square), request)
    exporter.check_request(small(EXPORTED), request)
    photo = np.empty((500, 300, 3), np.uint8)
    assert exporter.misfit(SPEC, (64, 96), photo) == (96, 64)
    assert exporter.misfit(SPEC, (64, 96), fitted(photo, (64, 96))) is None


def test_folders_of_runs_are_told_apart() -> None:
    for name, folder in (("everyday", "everyday-onnx"), ("mine/best", "mine-best-onnx"), ("a/b@c1", "b-onnx")):
        assert exporter.choose_out(dataclasses.replace(small(EXPORTED), name=name), "onnx", None, False) == Path(folder)


def test_a_fixed_number_of_images_is_filled_up(copy: Callable[..., Path]) -> None:
    loaded = load_model(copy(_set(batch=3)))
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    batch = Batch(images, torch.zeros(4, 64, 64, dtype=torch.bool), [(64, 64)] * 4)
    with torch.inference_mode():
        expected = small(EXPORTED).model(batch)[-1].classes
    assert torch.allclose(loaded.model(batch)[-1].classes, expected, atol=1e-3)


def test_without_the_runtime(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"ONNX Runtime is not installed: pip install 'segcli\[onnx\]'"):
        load_model(exported)


@pytest.mark.parametrize(("to", "package", "dtype"), [("onnx", "onnxscript", "fp32"), ("openvino", "nncf", "int8")])
def test_what_exporting_needs_is_asked_for_first(
    to: str, package: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else object())
    with pytest.raises(UsageError, match=rf"as {dtype} needs {package}: pip install 'segcli\[{to}\]'"):
        exporter.check_request(small(EXPORTED), exporter.Request(to, InputShape(None, None), dtype))


@pytest.mark.parametrize(("device", "words"), [("cuda", "CPU only; install onnxruntime-gpu"), ("mps", "only, or")])
def test_a_device_that_is_not_here(exported: Path, device: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_model(exported, device)


def test_a_precision_it_does_not_have(exported: Path) -> None:
    with pytest.raises(UsageError, match="was exported as fp32; export it again with --to openvino"):
        load_model(exported, dtype="bf16")


def test_it_shows_nothing_from_inside(exported: Path) -> None:
    loaded = load_model(exported)
    with pytest.raises(UsageError, match="shows nothing from inside"):
        _ = loaded.model.query_decoder
    with pytest.raises(CheckpointError, match="is an exported model, which predicts and nothing else"):
        from_folder(exported)


# ---------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def cli(exported: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """`segcli export` of the small model, with the tracing that has been done already."""

    def write_onnx(loaded: Any, path: Path, *args: Any, **kwargs: Any) -> int:
        shutil.copy(exported / "model.onnx", path)
        return 123

    monkeypatch.setattr(exporter, "write_onnx", write_onnx)
    monkeypatch.setattr("segcli.weights.checkpoint.load_model", lambda *args, **kwargs: small(EXPORTED))
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(app, ["export", *args])


def test_an_export_is_verified(cli: Callable[..., Any]) -> None:
    result = cli("small", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["folder"] == "small-onnx"
    assert report["verify"]["passed"] is True
    assert json.loads(Path("small-onnx/verify.json").read_text()) == report["verify"]
    photos = report["verify"]["photos"]
    assert [row["photo"] for row in photos] == [path.name for path in own_photos()]
    assert all(row["logits"] < 1e-3 and row["bits"] > 0.999 and row["iou"] > 0.99 for row in photos)
    assert "passed: fp32 against PyTorch fp32" in result.stderr
    again = cli("small", "--no-verify")
    assert again.exit_code == 2
    assert "exists already; replace it with --overwrite" in again.output
    assert cli("small", "--no-verify", "--overwrite").exit_code == 0
    assert not Path("small-onnx/verify.json").exists()


def test_an_export_that_differs_is_an_error(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    other = small(EXPORTED)
    with torch.no_grad():
        other.model.head.classifier.bias += torch.tensor([0.0, 0.5, 0.0, 0.0])
    monkeypatch.setattr("segcli.weights.checkpoint.load_model", lambda *args, **kwargs: other)
    result = cli("small", "--verify", str(own_photos()[0]))
    assert result.exit_code == 1
    assert "differ from PyTorch's by more than the limits" in result.output
    assert json.loads(Path("small-onnx/verify.json").read_text())["passed"] is False


def test_with_data_its_own_photos_are_compared_and_the_metric_measured(cli: Callable[..., Any], tmp_path: Path) -> None:
    """A model of nuclei means nothing on a photo of a cat."""
    (tmp_path / "data/images").mkdir(parents=True)
    photo = Image.open(own_photos()[0])
    for i in range(8):
        photo.crop((40 * i, 0, 40 * i + 96, 96)).save(tmp_path / f"data/images/{i}.png")
    coco = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 96, "height": 96} for i in range(9)],
        "annotations": [
            {"id": i + 1, "image_id": i, "category_id": 3, "bbox": [8, 8, 40, 40], "area": 1600, "iscrowd": 0,
             "segmentation": [[8, 8, 48, 8, 48, 48, 8, 48]]}
            for i in range(8)
        ],
        "categories": [{"id": 3, "name": "red"}],
    }  # fmt: skip
    (tmp_path / "data/instances_val.json").write_text(json.dumps(coco))
    (tmp_path / "data/images/8.png").write_bytes(b"no picture")
    result = cli("small", "--json", "--data", "data")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [row["photo"] for row in report["verify"]["photos"]] == ["0.png", "3.png", "6.png"]
    assert result.stderr.count("8.png: ") == 2, "said before and after"
    assert report["verify"]["passed"] is True
    assert report["metric"]["images"] == 8
    assert report["metric"]["after"] == pytest.approx(report["metric"]["before"], abs=0.05)
    assert report["megabytes"] == pytest.approx(Path("small-onnx/model.onnx").stat().st_size / 1e6, abs=0.1)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--size", "500x500"], "both sides must be multiples of 32 and at least 64; try --size 512x512"),
        (["--size", "many"], "height and width in pixels, such as 512x768"),
        (["--size", "64x64", "--short-side", "64"], "leave out --short-side"),
        (["--batch", "0"], "a number of images from 1 to 1024, or dynamic"),
        (["--dtype", "int8"], "is for --to openvino"),
        (["--dtype", "int8", "--to", "openvino"], "needs --data"),
        (["--verify", "gone.jpg"], "gone.jpg: no such file"),
        (["--images", "3"], "add --data DIR"),
    ],
)
def test_options_that_cannot_be_followed(cli: Callable[..., Any], args: list[str], words: str) -> None:
    result = cli("small", *args)
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())
    assert not Path("small-onnx").exists()


def test_what_is_exported_already(cli: Callable[..., Any], exported: Path, copy: Callable[..., Path]) -> None:
    for folder in (exported, copy(_set(dtype="fp16"))):  # which could not be opened as fp32
        result = cli(str(folder))
        assert (result.exit_code, "exported already; export the model it was made from" in result.output) == (2, True)


def test_a_size_that_is_not_square_is_compared_on_what_it_takes(cli: Callable[..., Any], tmp_path: Path) -> None:
    result = cli("small", "--size", "64x96", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["verify"]["passed"] is True
    Image.new("RGB", (50, 80)).save(tmp_path / "tall.png")
    result = cli("small", "--size", "64x96", "--out", "other", "--verify", "tall.png")
    assert result.exit_code == 2
    assert "--verify tall.png becomes 96x64, and --size 64x96 takes nothing else" in result.output
    assert not Path("other").exists()


def test_another_folder_is_not_replaced(cli: Callable[..., Any]) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    result = cli("small", "--out", "mine", "--overwrite")
    assert result.exit_code == 2
    assert Path("mine/thesis.txt").read_text() == "years of work"


# ------------------------------------------------------------------------------------------------- the comparison


def test_segments_are_matched_within_their_class() -> None:
    def segments(ids: list[list[int]], labels: list[int], scores: list[float]) -> Segments:
        return Segments("panoptic", (2, 4), LABELS, np.array(labels), np.array(scores), np.array(ids, np.uint16))

    mine = segments([[1, 1, 2, 2], [1, 1, 2, 2]], [0, 1], [0.9, 0.8])
    assert match(mine, mine) == (1.0, 0.0)
    smaller = segments([[1, 1, 2, 2], [1, 0, 2, 2]], [0, 1], [0.85, 0.8])
    assert match(mine, smaller) == (pytest.approx((0.75 + 1) / 2), pytest.approx(0.05))
    renamed = segments([[1, 1, 2, 2], [1, 1, 2, 2]], [0, 2], [0.9, 0.8])
    assert match(mine, renamed) == (0.5, 0.0)
    nothing = segments([[0] * 4] * 2, [], [])
    assert match(mine, nothing) == (0.0, 0.0)
    assert match(nothing, nothing) == (1.0, 0.0)


@pytest.mark.parametrize("dtype", LIMITS)
def test_what_overflows_passes_no_limit(dtype: str) -> None:
    fine = PhotoAgreement("a.jpg", 0.0, 0.0, 1.0, 3, 3, 1.0, 0.0)
    assert fine.within(LIMITS[dtype])
    assert not dataclasses.replace(fine, logits=float("nan")).within(LIMITS[dtype])
    assert not dataclasses.replace(fine, iou=0.4).within(LIMITS[dtype])


def test_a_graph_that_overflows_names_the_precision(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_model(exported)
    answer: Any = loaded.model.runtime.run

    def overflow(inputs: Any) -> Any:
        outputs = answer(inputs)
        return outputs | {CLASSES: np.full_like(outputs[CLASSES], np.inf)}

    monkeypatch.setattr(loaded.model.runtime, "run", overflow)
    with pytest.raises(CheckpointError, match=r"hold NaN or infinite values; export it again$"):
        segcli.predict(loaded, np.zeros((50, 70, 3), np.uint8))
    loaded.model.facts = dataclasses.replace(loaded.model.facts, dtype="fp16")
    with pytest.raises(CheckpointError, match="hold NaN or infinite values; export it again with --dtype fp32"):
        segcli.predict(loaded, np.zeros((50, 70, 3), np.uint8))


def test_a_photo_in_tiles_is_compared_tile_by_tile(exported: Path) -> None:
    loaded, reference = load_model(exported), small(EXPORTED)
    size = dataclasses.replace(loaded.spec.size, tile=200)
    loaded.spec = dataclasses.replace(loaded.spec, size=size)
    photo = own_photos()[1]
    [row] = compare(reference, loaded, [(photo.name, read_image(photo))])
    assert row.count == row.found
    assert row.iou > 0.99
