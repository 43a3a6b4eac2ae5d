"""`segcli viz report` from the command line: what it is given, and a clear line for everything that is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from segcli.cli import app
from segcli.codecs.panoptic_png import encode_panoptic_png
from segcli.codecs.png import encode_png
from segcli.codecs.rle import encode
from segcli.errors import SegcliError
from segcli.results.plan import plan
from segcli.results.writer import ResultsWriter
from segcli.segments import Segments
from segcli.types import Label, LabelSet

TASKS = ("panoptic", "instance", "semantic")


def run(*arguments: object) -> tuple[int, str]:
    """(exit code, stderr or what the error says)."""
    answer = CliRunner().invoke(app, ["viz", "report", *map(str, arguments)])
    if isinstance(answer.exception, SegcliError):
        return answer.exception.exit_code, str(answer.exception)
    assert answer.exception is None or isinstance(answer.exception, SystemExit), answer.exception
    return answer.exit_code, answer.stderr


def head_of(page: Path) -> dict[str, Any]:
    """What the page's scripts read first."""
    block = re.search(r'<script type="application/json" id="head">(.*?)</script>', page.read_text(encoding="utf-8"))
    assert block is not None
    value: dict[str, Any] = json.loads(block[1])
    return value


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Panoptic results of three photos of 8×6 pixels: one is gone, one has another size now."""
    out = tmp_path / "out"
    out.mkdir()
    ids = np.zeros((6, 8), dtype=np.uint16)
    ids[:, :3], ids[:2, 3:] = 1, 2
    for name in ("here", "gone", "other"):
        (out / f"{name}.png").write_bytes(encode_panoptic_png(ids))
        segments = [
            {"id": 1, "category_id": 5, "category_name": "cat", "score": 0.9, "area": 18, "isthing": True},
            {"id": 2, "category_id": 2, "category_name": "sky", "score": 0.8, "area": 10, "isthing": False},
        ]
        record = {"file_name": f"{name}.png", "photo": f"../photos/{name}.png", "model": "m", "rule": {"score": 0.5}}
        record |= {"task": "panoptic", "size": {"width": 8, "height": 6}, "segments": segments}
        (out / f"{name}.json").write_text(json.dumps(record))
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "here.png").write_bytes(encode_png(np.zeros((6, 8, 3), dtype=np.uint8)))
    (photos / "other.png").write_bytes(encode_png(np.zeros((6, 9, 3), dtype=np.uint8)))
    return out


def test_photos_that_are_gone_or_have_another_size_are_listed(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    code, said = run(results, "--out", page)
    assert code == 1
    assert "gone" in said
    assert "9×6" in said
    assert "2 of 3 images cannot be shown" in said
    head = head_of(page)
    by_name = {image["name"]: image for image in head["images"]}
    assert [name for name, image in sorted(by_name.items()) if "problem" in image] == ["gone.png", "other.png"]
    assert by_name["here.png"]["prediction"] == {"labels": [1, 0], "scores": [0.9, 0.8], "areas": [18, 10]}
    assert [label["name"] for label in head["classes"]] == ["sky", "cat"]
    assert ["model", "m"] in head["facts"]


def test_the_page_starts_at_the_models_own_threshold_and_holds_what_is_below(tmp_path: Path) -> None:
    """Instances as an evaluation keeps them: records of what the model shows, COCO results of every score."""
    labels = LabelSet((Label(3, "cell", True),))
    masks = tuple(encode(np.roll(np.eye(8, dtype=bool), n, axis=1)) for n in range(4))
    scores = np.array([0.9, 0.2, 0.06, 0.01])
    found = Segments("instance", (8, 8), labels, np.zeros(4, dtype=np.int64), scores, rles=masks)
    photo = tmp_path / "a.png"
    photo.write_bytes(encode_png(np.zeros((8, 8, 3), dtype=np.uint8)))
    photos, rule = plan([(photo, None)]), {"instance_score": 0.1}
    facts: dict[str, Any] = {"model": "m", "rule": rule}
    kinds = ("json", "coco")
    with ResultsWriter(tmp_path / "out", kinds, photos, task="instance", labels=labels, run=facts) as writer:
        writer.write(photos[0], None, found.filter(scores >= 0.1), unthresholded=found, timings={})
    assert run(tmp_path / "out", "--out", tmp_path / "page.html", "--photos", tmp_path)[0] == 0
    head = head_of(tmp_path / "page.html")
    assert head["threshold"] == 0.1
    assert head["images"][0]["prediction"]["scores"] == [0.9, 0.2, 0.06]


def test_a_page_that_is_there_stays_unless_told_otherwise(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("mine")
    code, said = run(results, "--out", page)
    assert (code, page.read_text()) == (2, "mine")
    assert "--overwrite" in said
    assert run(results, "--out", page, "--overwrite")[0] == 1  # for the photo that is gone
    assert head_of(page)["task"] == "panoptic"


def test_a_run_has_curves_tables_and_pictures(tmp_path: Path) -> None:
    run_ = tmp_path / "run"
    (run_ / "pictures").mkdir(parents=True)
    lines: list[dict[str, Any]] = [
        {"kind": "train", "step": step, "loss": 100.0 / step, "loss/class": 1.0, "lr": 1e-4} for step in range(1, 2001)
    ]
    lines[6]["loss"] = None
    per_class = [
        {"id": 1, "name": "cat", "isthing": True, "PQ": 0.5, "matched": 3},
        {"id": 2, "name": "sky", "PQ": None},
    ]
    for step in (1000, 2000):
        validation = {"kind": "validation", "step": step, "metric": "PQ", "value": step / 4000}
        lines.append(validation | {"summary": {"PQ": step / 4000}, "per_class": per_class})
        (run_ / "pictures" / f"a-b-{step:07d}.png").write_bytes(encode_png(np.zeros((4, 4, 3), dtype=np.uint8)))
    (run_ / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"kind": "tr')
    (run_ / "config.toml").write_text('preset = "small"\n[schedule]\nsteps = 2000\n')
    assert run(run_, "--out", tmp_path / "page.html") == (0, "")
    head = head_of(tmp_path / "page.html")
    assert head["subtitle"] == "training run · step 2,000 · PQ 50.0 % at best in the validations during training"
    assert [curve["title"] for curve in head["curves"]][:2] == ["PQ on validation (%)", "loss (weighted sum)"]
    assert all(len(series["steps"]) <= 601 for curve in head["curves"] for series in curve["series"])
    validations, classes, recipe = head["tables"]
    assert validations["rows"] == [[1000, 0.25], [2000, 0.5]]
    assert [column["name"] for column in classes["columns"]] == ["class", "PQ (%)", "matched"]
    assert classes["rows"] == [["cat", 0.5, 3], ["sky", None, None]]
    assert recipe["rows"] == [["", "preset", "small"], ["schedule", "steps", "2000"]]
    assert [picture["caption"] for picture in head["pictures"]] == ["a-b, step 1,000", "a-b, step 2,000"]


@pytest.fixture
def evaluation(results: Path, tmp_path: Path) -> Path:
    """What `segcli eval` leaves of those results; the data it names are gone."""
    folder = tmp_path / "scores"
    folder.mkdir()
    results.rename(folder / "predictions")
    (tmp_path / "photos" / "other.png").unlink()
    for name in ("gone", "other"):
        for suffix in (".json", ".png"):
            (folder / "predictions" / (name + suffix)).unlink()
    record = folder / "predictions" / "here.json"
    record.write_text(record.read_text().replace("../photos", "../../photos"))
    measured = {"kind": "segcli eval", "task": "panoptic", "metric": "PQ", "value": 0.25, "summary": {"PQ": 0.25}}
    measured |= {"per_class": [{"id": 5, "name": "cat", "PQ": 0.5}], "model": {"name": "m"}, "data": {"root": "away"}}
    (folder / "metrics.json").write_text(json.dumps(measured))
    row = {"image_id": "1", "file": "photos/here.png", "value": 0.75, "counts": {}}
    (folder / "per_image.jsonl").write_text(json.dumps(row) + "\n")
    return folder


def test_an_evaluation_without_its_data_is_shown_without_truth(evaluation: Path, tmp_path: Path) -> None:
    assert run(evaluation, "--out", tmp_path / "page.html") == (0, "")
    head = head_of(tmp_path / "page.html")
    assert (head["truth"], head["metric"], head["images"][0]["value"]) == (False, "PQ", 0.75)
    assert head["subtitle"] == "PQ 25.0 % · m"
    assert head["tables"][0]["rows"] == [["PQ", 0.25]]
    assert any(name == "note" and value.startswith("without truth: away") for name, value in head["facts"])


def test_a_real_evaluation_has_truth(shared_dir: Path, tmp_path: Path) -> None:
    data = shared_dir / "data" / "facade"
    truth = json.loads((data / "panoptic_val.json").read_text())
    annotation = truth["annotations"][0]
    image = next(image for image in truth["images"] if image["id"] == annotation["image_id"])
    names = {category["id"]: category for category in truth["categories"]}
    predictions = tmp_path / "scores" / "predictions"
    predictions.mkdir(parents=True)
    stem = Path(image["file_name"]).stem
    (predictions / f"{stem}.png").write_bytes((data / "panoptic_val" / annotation["file_name"]).read_bytes())
    segments = [
        {"id": info["id"], "category_id": info["category_id"], "category_name": names[info["category_id"]]["name"]}
        | {"score": 0.9, "area": info["area"], "isthing": bool(names[info["category_id"]]["isthing"])}
        for info in annotation["segments_info"]
    ]
    record = {"file_name": image["file_name"], "task": "panoptic", "segments": segments}
    record |= {"size": {"width": image["width"], "height": image["height"]}}
    (predictions / f"{stem}.json").write_text(json.dumps(record))
    measured = {"kind": "segcli eval", "task": "panoptic", "metric": "PQ", "value": 1.0, "summary": {}, "per_class": []}
    measured |= {"data": {"root": str(data), "split": "val"}}
    (tmp_path / "scores" / "metrics.json").write_text(json.dumps(measured))
    (tmp_path / "scores" / "per_image.jsonl").write_text("")
    assert run(tmp_path / "scores", "--out", tmp_path / "page.html")[0] == 0
    head = head_of(tmp_path / "page.html")
    (shown,) = head["images"]
    assert head["truth"]
    assert sorted(shown["truth"]["areas"]) == sorted(shown["prediction"]["areas"])


def test_bad_input_is_one_clear_line(evaluation: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert run(tmp_path / "nowhere", "--out", page)[0] == 2
    empty = tmp_path / "empty"
    empty.mkdir()
    code, said = run(empty, "--out", page)
    assert code == 2
    assert "holds no predictions" in said
    code, said = run(evaluation, "--task", "semantic", "--out", page)
    assert code == 2
    assert "holds no evaluation of --task semantic, only of panoptic" in said
    (evaluation / "metrics.json").write_text('{"kind": "segcli eval", "task": "panoptic"}')
    code, said = run(evaluation, "--out", page)
    assert code == 1
    assert "evaluate again" in said
    both = tmp_path / "both"
    minimal = {"kind": "segcli eval", "metric": "PQ", "per_class": [], "data": {}}
    for task in TASKS[:2]:
        (both / task).mkdir(parents=True)
        (both / task / "metrics.json").write_text(json.dumps(minimal | {"task": task}))
    code, said = run(both, "--out", page)
    assert code == 2
    assert "choose one with --task" in said
    assert not page.exists()


def test_a_clip_is_sent_to_where_it_is_drawn(results: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip"
    (clip / "walk.ids").mkdir(parents=True)
    (clip / "walk.ids" / "000000.png").write_bytes(encode_png(np.ones((6, 8), dtype=np.uint8)))
    about = {
        "clip": {"file_name": "walk.mp4", "task": "panoptic", "classes": [{"id": 1, "name": "cat", "isthing": True}]}
    }
    for folder in (clip, results):
        (folder / "walk.video.json").write_text(json.dumps(about))
        (folder / "walk.jsonl").write_text("")
    for source in (clip, results / "walk.jsonl"):
        code, said = run(source, "--out", tmp_path / "page.html")
        assert code == 2
        assert f"{source}: holds the tracks of a clip; draw them over it with: segcli viz overlays {source}" in said
    run(results, "--out", tmp_path / "page.html")  # photos are there too: they are shown, and the clip is named
    facts = head_of(tmp_path / "page.html")["facts"]
    assert ["note", f"left out: the clip walk; see segcli viz overlays {results}"] in facts
