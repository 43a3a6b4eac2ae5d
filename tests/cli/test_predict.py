"""What the command does with its options, and what it says."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import segcli
from segcli.class_names import choose_classes
from segcli.cli import app
from segcli.errors import InputError, UsageError
from segcli.inference import workers
from segcli.inference.predict import resolve, segment_tiles
from segcli.inference.preprocess import Prepared, collate
from segcli.types import InputSize, Label, LabelSet, QueryPredictions
from tests.cli.conftest import Predict, photo
from tests.fakes import ColourNetwork, FakeLoaded


def names(folder: Path | str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def test_a_photo_becomes_three_files_and_a_table(predict: Predict) -> None:
    photo("a.png")
    result = predict("a.png")
    assert result.exit_code == 0, result.output
    assert names("segcli-out") == ["a.json", "a.overlay.jpg", "a.png"]
    lines = result.stdout.splitlines()
    assert lines[0] == "a.png  64×48"
    assert [line.split() for line in lines[3:6]] == [["red", "0.99", "34.4%"]] * 0 + [
        line.split() for line in lines[3:6]
    ]
    assert {line.split()[0] for line in lines[3:6]} == {"red", "green", "dark"}
    assert "1 image in" in result.stderr
    assert "cpu, as asked" in result.stderr
    record = json.loads(Path("segcli-out/a.json").read_text())
    assert record["model"] == "fake"
    assert record["rule"]["score"] == 0.8
    assert record["input"]["short"] == 64
    assert {segment["category_id"] for segment in record["segments"]} == {3, 7, 9}


def test_many_photos_get_a_line_each_and_keep_their_tree(predict: Predict) -> None:
    for name in ("b.png", "a.png", "sub/a.png", "sub/c.png"):
        photo(f"photos/{name}")
    result = predict("photos", "--recursive", "--save", "png", "--out", "out")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [Path(line.split("  ")[0]).as_posix() for line in lines] == [
        "photos/a.png",
        "photos/b.png",
        "photos/sub/a.png",
        "photos/sub/c.png",
    ]
    assert all("red, green" in line or "green, red" in line for line in lines)
    assert names("out") == ["a.png", "b.png", "sub/a.png", "sub/c.png"]


def test_json_is_one_line_an_image_and_nothing_else(predict: Predict) -> None:
    photo("a.png")
    Path("b.png").write_bytes(b"")
    result = predict("a.png", "b.png", "--json", "--save", "png")
    good, bad = (json.loads(line) for line in result.stdout.splitlines())
    assert good["ok"] is True
    assert good["outputs"] == [str(Path("segcli-out/a.png"))]
    assert set(good["timings"]) == {"decode", "model", "post", "write"}
    assert {segment["category_name"] for segment in good["segments"]} == {"red", "green", "dark"}
    assert bad == {"path": "b.png", "ok": False, "error": bad["error"]}
    assert result.exit_code == 1


def test_pages_that_are_not_looked_at_are_named(predict: Predict) -> None:
    page = Image.open(photo("a.png"))
    page.save("b.tif", save_all=True, append_images=[page, page])
    answer = predict("a.png", "b.tif")
    assert answer.exit_code == 0, answer.output
    assert [line for line in answer.stderr.splitlines() if "pages" in line] == [
        "b.tif: 3 pages, only the first is used; --pages all uses each"
    ]
    assert predict("b.tif", "--quiet", "--overwrite").output == ""


@pytest.mark.parametrize("name", ["stack.tif", "large.tif", "stack.gif"])
def test_each_page_of_a_stack_has_results(predict: Predict, name: str) -> None:
    photo("red.png")
    pages = [
        Image.open("red.png").transpose(turn) for turn in (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180)
    ]
    big = {"big_tiff": True} if name == "large.tif" else {}
    Image.open("red.png").save(name, save_all=True, append_images=pages, **big)
    answer = predict(name, "red.png", "--pages", "all", "--save", "png,json")
    assert answer.exit_code == 0, answer.output
    assert "pages" not in answer.stderr
    stem = name.partition(".")[0]
    ids = {path.stem: np.array(Image.open(path)) for path in Path("segcli-out").glob("*.png")}
    assert sorted(ids) == sorted(["red", *(f"{stem}-p00{number}" for number in (1, 2, 3))])
    records = {s: json.loads(Path(f"segcli-out/{s}.json").read_text()) for s in ids}
    first = [s["category_name"] for s in records[f"{stem}-p001"]["segments"]]
    assert first == [s["category_name"] for s in records["red"]["segments"]]
    np.testing.assert_array_equal(ids[f"{stem}-p001"], ids["red"])
    assert not (ids[f"{stem}-p002"] == ids[f"{stem}-p003"]).all()  # the foot of one is the head of the other
    assert predict(name, "--pages", "all", "--save", "png,json", "--skip-existing").exit_code == 0


def test_quiet_prints_nothing(predict: Predict) -> None:
    photo("a.png")
    assert predict("a.png", "--quiet").output == ""


def test_profile(predict: Predict) -> None:
    photo("a.png")
    stages = [line.split()[0] for line in predict("a.png", "--profile", "-q").stderr.splitlines()[2:]]
    assert stages == ["load", "decode", "model", "post", "write"]


def test_nothing_found_says_how_close_it_was(predict: Predict) -> None:
    photo("a.png")
    result = predict("a.png", "--threshold", "0.999", "--task", "panoptic")
    assert result.exit_code == 0
    assert "a.png  64×48  nothing found above --threshold 0.999; the best score was 0.99" in result.stdout


def test_nothing_found_of_the_classes_that_were_asked_for(predict: Predict) -> None:
    """The best score is another class's then."""
    Image.new("RGB", (64, 48), (255, 0, 0)).save("red.png")
    result = predict("red.png", "--classes", "green")
    assert "red.png  64×48  nothing found of green" in result.stdout


def test_stdin_is_called_stdin(predict: Predict) -> None:
    data = io.BytesIO()
    Image.new("RGB", (32, 32), (255, 0, 0)).save(data, "JPEG")
    result = predict("-", "--save", "png,json", input=data.getvalue())
    assert result.exit_code == 0, result.output
    assert names("segcli-out") == ["stdin.json", "stdin.png"]


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_python_and_the_command_agree(predict: Predict, fake: FakeLoaded, task: str) -> None:
    photo("a.png")
    predict("a.png", "--task", task, "--save", "json")
    segments = segcli.predict(fake, "a.png", task=task)  # type: ignore[arg-type]
    recorded = json.loads(Path("segcli-out/a.json").read_text())["segments"]
    assert [segment["category_name"] for segment in recorded] == segments.names()
    assert [segment["area"] for segment in recorded] == segments.areas().tolist()


def test_tiles_of_the_checkpoint_unless_the_user_says_otherwise(fake: FakeLoaded) -> None:
    """The network is asked once for each of the 3 × 2 tiles of 64 pixels."""
    image, asked = np.zeros((90, 140, 3), dtype=np.uint8), []
    fake.model.register_forward_pre_hook(lambda module, inputs: asked.append(inputs[0].images.shape))
    tiled = dataclasses.replace(fake, spec=dataclasses.replace(fake.spec, size=InputSize(64, 96, 32, tile=64)))
    for tile, times in ((None, 6), (0, 1), (90, 2)):
        asked.clear()
        assert segcli.predict(tiled, image, tile=tile).names() == ["dark"]  # type: ignore[arg-type]
        assert len(asked) == times
    tiled.spec = dataclasses.replace(tiled.spec, size=InputSize(64, 96, 32, tile=64, tile_for=90))
    for scale in (1, 3):  # the same scene from a better camera
        for tile, times in ((None, 6), (64, 6 if scale == 1 else 48)):
            asked.clear()
            segcli.predict(tiled, image.repeat(scale, 0).repeat(scale, 1), tile=tile)  # type: ignore[arg-type]
            assert len(asked) == times


def test_a_thing_that_one_tile_is_unsure_of_is_whole(fake: FakeLoaded) -> None:
    """Red all over; the network is sure of it in the first tile, and less than the threshold in the second."""
    sure = iter([6.0, 0.5])

    def network(tiles: Sequence[Prepared]) -> QueryPredictions:
        return ColourNetwork(next(sure))(collate(tiles, fake.device))[-1]

    red = np.zeros((64, 100, 3), dtype=np.uint8)
    red[..., 0] = 255
    [found] = segment_tiles(network, red, [resolve(fake.spec, "instance", tile=64)])
    assert found.areas().tolist() == [64 * 100]


def test_predict_takes_an_array(fake: FakeLoaded) -> None:
    image = np.zeros((40, 40, 3), dtype=np.uint8)
    assert segcli.predict(fake, image).names() == ["dark"]  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"float32 \[40, 40, 3\].*uint8"):
        segcli.predict(fake, image.astype(np.float32))  # type: ignore[arg-type]


def test_coco_gets_what_the_threshold_hides(predict: Predict) -> None:
    photo("a.png")
    result = predict("a.png", "--task", "instance", "--threshold", "0.9", "--save", "coco,json")
    assert result.exit_code == 0
    shown = json.loads(Path("segcli-out/a.json").read_text())["segments"]
    everything = json.loads(Path("segcli-out/predictions.json").read_text())
    assert [segment["category_name"] for segment in shown] == ["red", "green"]
    assert len(everything) > len(shown)
    assert min(result["score"] for result in everything) < 0.9


# ------------------------------------------------------------------------------------------------ which task


def test_the_only_task_is_the_default(predict: Predict, fake: FakeLoaded) -> None:
    photo("a.png")
    fake.spec = fake.with_tasks("semantic").spec
    assert "semantic" in predict("a.png").stderr
    result = predict("a.png", "--task", "instance", "--overwrite")
    assert result.exit_code == 2
    assert "--task instance: this checkpoint is for semantic" in result.stderr


def test_a_model_for_something_else_is_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photo("a.png")
    result = CliRunner().invoke(app, ["predict", "a.png", "-m", "detr-resnet-50", "-t", "panoptic"])
    assert result.exit_code == 2
    assert "--task panoptic: detr-resnet-50 is for detect; models for panoptic: everyday and facade" in result.stderr
    assert "by download eomt-small-coco-panoptic" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--save", "overlay,gif"], "--save gif: there is no such kind; choose from coco, coco-panoptic"),
        (["--save", "coco-panoptic", "--task", "semantic"], "--save coco-panoptic needs --task panoptic"),
        (
            ["--save", "coco", "--task", "semantic"],
            "--save coco needs --task panoptic or instance or detect, not semantic",
        ),
        (["--threshold", "0.5", "--task", "semantic"], "--threshold does not apply to --task semantic"),
        (["--top-k", "5", "--task", "panoptic"], "--top-k does not apply to --task panoptic"),
        (["--overwrite", "--skip-existing"], "contradict"),
        (["--tile-overlap", "0.9"], "--tile-overlap"),
        (["--tile", "40"], "--tile 40: tiles need at least 64 pixels; 0 predicts the photo as a whole"),
        (["--task", "detection"], "detection"),
        (["--batch-size", "0"], "--batch-size"),
    ],
)
def test_wrong_use(predict: Predict, arguments: list[str], message: str) -> None:
    photo("a.png")
    result = predict("a.png", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not Path("segcli-out").exists()


# ----------------------------------------------------------------------------------------- results that exist


def test_existing_results_are_refused_before_any_work(predict: Predict, monkeypatch: pytest.MonkeyPatch) -> None:
    photo("a.png")
    photo("b.png")
    assert predict("b.png").exit_code == 0
    monkeypatch.setattr("segcli.weights.checkpoint.load_model", lambda *args, **options: pytest.fail("loaded a model"))
    result = predict("a.png", "b.png")
    assert result.exit_code == 2
    assert "b.overlay.jpg (and 2 more)" in result.stderr
    assert "--overwrite" in result.stderr
    assert "--skip-existing" in result.stderr
    assert names("segcli-out") == ["b.json", "b.overlay.jpg", "b.png"]


def test_overwrite_and_skip_existing(predict: Predict) -> None:
    photo("a.png")
    photo("b.png")
    predict("a.png", "--save", "json")
    before = Path("segcli-out/a.json").read_text()
    result = predict("a.png", "b.png", "--save", "json", "--skip-existing")
    assert result.exit_code == 0
    assert Path("segcli-out/a.json").read_text() == before
    assert names("segcli-out") == ["a.json", "b.json"]
    assert "nothing left to do" in predict("a.png", "b.png", "--save", "json", "--skip-existing").stderr
    predict("a.png", "--save", "json", "--overwrite", "--threshold", "0.99")
    assert Path("segcli-out/a.json").read_text() != before


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--task", "instance"], "another task"),
        (["--threshold", "0.9"], "another rule"),
        (["--tile", "64"], "another input"),
    ],
)
def test_results_of_another_run_are_not_mixed_in(predict: Predict, arguments: list[str], what: str) -> None:
    photo("a.png")
    predict("a.png", "--save", "json")
    result = predict("a.png", "--save", "json,masks", "--skip-existing", *arguments)
    assert result.exit_code == 2
    assert f"a.json was made with {what}" in result.stderr
    assert names("segcli-out") == ["a.json"]


def test_a_png_among_the_photos_is_not_replaced(predict: Predict) -> None:
    photo("a.bmp")
    before = photo("a.png").read_bytes()
    result = predict("a.bmp", "--out", ".", "--overwrite")
    assert result.exit_code == 2
    assert "a.png lies among the photos" in result.stderr
    assert Path("a.png").read_bytes() == before


def test_coco_run_is_continued(predict: Predict) -> None:
    photo("1.png")
    photo("2.png")
    predict("1.png", "--task", "instance", "--save", "coco")
    assert predict("1.png", "2.png", "--task", "instance", "--save", "coco").exit_code == 2
    assert predict("1.png", "2.png", "--task", "instance", "--save", "coco", "--skip-existing").exit_code == 0
    assert {entry["image_id"] for entry in json.loads(Path("segcli-out/predictions.json").read_text())} == {1, 2}


def test_a_result_never_replaces_its_photo(predict: Predict) -> None:
    before = photo("a.png").read_bytes()
    result = predict("a.png", "--out", ".", "--overwrite")
    assert result.exit_code == 2
    assert "replace this input" in result.stderr
    assert Path("a.png").read_bytes() == before


# ------------------------------------------------------------------------------------- the real thing, outside


def run(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "segcli", *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(segcli.__file__).parents[1]), **environment},
        timeout=120,
        check=False,
    )


def test_real_checkpoint_end_to_end(shared_dir: Path, tmp_path: Path) -> None:
    image = sorted((shared_dir / "data" / "facade" / "images").iterdir())[0]
    model = shared_dir / "models" / "facade-reference"
    result = run("predict", image, "--model", model, "--threshold", "0.5", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    record = json.loads(result.stdout)
    assert "facade" in {segment["category_name"] for segment in record["segments"]}
    assert len(record["outputs"]) == 3
    with Image.open(tmp_path / record["outputs"][0]) as written:
        assert written.size == (512, 512)


def test_predicting_imports_only_what_it_needs(shared_dir: Path, tmp_path: Path) -> None:
    image = sorted((shared_dir / "data" / "facade" / "images").iterdir())[0]
    model = shared_dir / "models" / "facade-reference"
    script = f"""
import sys
from segcli.cli import app
try:
    app(["predict", {str(image)!r}, "--model", {str(model)!r}, "--short-side", "64", "--quiet"])
except SystemExit as exit:
    assert not exit.code, exit.code
unwanted = ["torchvision", "scipy", "huggingface_hub", "torch._dynamo", "rich", "transformers", "timm"]
print([name for name in unwanted if name in sys.modules])
"""
    answer = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(segcli.__file__).parents[1])},
        check=False,
    )
    assert answer.stdout.strip() == "[]", answer.stderr


def test_without_network_and_cache_the_way_out_is_named(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    offline = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    result = run("predict", "a.png", "--model", "swin-tiny-coco-panoptic", cwd=tmp_path, **offline)
    assert result.returncode == 3
    assert result.stderr.count("\n") == 1
    assert "Ready without a download: --model everyday, --model facade" in result.stderr
    assert not (tmp_path / "segcli-out").exists()


def _listen() -> None:
    """A shell without job control starts what runs behind it deaf to Ctrl-C, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_leaves_whole_files(shared_dir: Path, tmp_path: Path) -> None:
    model, images = shared_dir / "models" / "facade-reference", shared_dir / "data" / "facade" / "images"
    process = subprocess.Popen(
        [sys.executable, "-m", "segcli", "predict", str(images), "--model", str(model), "--save", "png,json,coco"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(segcli.__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_listen,
    )
    out = tmp_path / "segcli-out"
    deadline = time.monotonic() + 90
    while len(list(out.glob("*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "--skip-existing" in errors
    written = [path for path in out.iterdir() if path.suffix == ".json" and path.name != "predictions.json"]
    assert 2 <= len(written) < 462
    for path in written:
        assert json.loads(path.read_text())["segments"] is not None
        Image.open(path.with_suffix(".png")).verify()
    assert json.loads((out / "predictions.json").read_text())
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


# ------------------------------------------------------------------------------------------------- chosen classes


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_only_the_chosen_classes_are_written(predict: Predict, task: str) -> None:
    photo("a.png")
    assert predict("a.png", "--task", task, "--classes", "Green, 9", "--save", "json,csv").exit_code == 0
    names = {segment["category_name"] for segment in json.loads(Path("segcli-out/a.json").read_text())["segments"]}
    assert names == ({"green"} if task == "instance" else {"green", "dark"})
    assert "red" not in Path("segcli-out/counts.csv").read_text()
    result = predict("a.png", "--task", task, "--classes", "gren", "--out", "other")
    assert (result.exit_code, "did you mean green?" in result.stderr) == (2, True)
    photo("b.png")
    again = predict("a.png", "b.png", "--task", task, "--skip-existing", "--save", "json")
    assert again.exit_code == 2
    assert "another choice of classes" in again.stderr


def test_one_thing_under_two_names() -> None:
    labels = LabelSet((Label(5, "tvmonitor", True), Label(1, "aeroplane", True), Label(7, "Potted Plant", True)))
    assert choose_classes("TV, airplane", labels) == {0, 1}
    assert choose_classes("pottedplant, 5", labels) == choose_classes(["pottedplant", 5], labels) == {2, 0}
    with pytest.raises(UsageError, match="--classes televison: no such class here; did you mean tvmonitor"):
        choose_classes("televison", labels)


def test_nothing_but_json(predict: Predict) -> None:
    photo("a.png")
    result = predict("a.png", "--save", "none", "--json")
    assert json.loads(result.stdout)["ok"]
    assert not Path("segcli-out").exists()
    assert "results in" not in result.stderr


def test_standard_input_again_and_again(predict: Predict) -> None:
    data = photo("a.png").read_bytes()
    for _ in range(3):
        assert predict("-", "--save", "json", input=data).exit_code == 0
    assert sorted(path.name for path in Path("segcli-out").iterdir()) == ["stdin-2.json", "stdin-3.json", "stdin.json"]


def test_what_is_done_has_its_line_too(predict: Predict) -> None:
    for name in ("a.png", "b.png"):
        photo(name)
    predict("a.png", "--quiet")
    for names in (("a.png", "b.png"), ("a.png", "b.png")):  # one is done, both are
        lines = [json.loads(line) for line in predict(*names, "--skip-existing", "--json").stdout.splitlines()]
        assert sorted(line["path"] for line in lines) == ["a.png", "b.png"]
        assert all(line["ok"] and line["segments"] for line in lines)
    assert all(line["skipped"] for line in lines)


def test_the_looks_of_the_overlay(predict: Predict) -> None:
    photo("a.png")
    predict("a.png", "--save", "overlay", "--alpha", 0, "--no-labels", "--no-outlines")
    plain = np.asarray(Image.open("segcli-out/a.overlay.jpg")).astype(int)
    assert np.abs(plain - np.asarray(Image.open("a.png"))).mean() < 10


def test_counts_come_after_the_table(predict: Predict) -> None:
    photo("a.png")
    assert predict("a.png", "--task", "instance").stdout.splitlines()[-1] == "red, green"


def test_worker_processes_get_the_model_that_was_asked_for(
    predict: Predict, fake: FakeLoaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = []
    run_all = workers.run_all
    monkeypatch.setattr(
        workers, "run_all", lambda here, job, *args, **how: jobs.append(job) or run_all(here, job, *args, **how)
    )
    photo("a.png")
    fake.place, fake.precision = "gpu", "bf16"  # as of an exported model in OpenVINO
    assert predict("a.png", "--model", "models/fake").exit_code == 0
    assert [(job.ref, job.device, job.dtype) for job in jobs] == [("models/fake", "gpu", "bf16")]
