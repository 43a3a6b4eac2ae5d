"""An evaluation: each image once through the network for all tasks, shared among ranks, stopped and gone on with."""

from __future__ import annotations

import dataclasses
import json
import pickle
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segcli.codecs.image import read_image
from segcli.codecs.panoptic_png import encode_panoptic_png, read_panoptic_png
from segcli.codecs.png import encode_png
from segcli.data.dataset import Sample, truth_segments
from segcli.data.truth import MapTruth
from segcli.distributed import Ranks
from segcli.errors import UsageError
from segcli.evaluation import from_model
from segcli.evaluation.dataset import choose_tasks, for_model, open_data, open_tasks
from segcli.evaluation.folder import read_evaluations
from segcli.evaluation.from_model import of_model
from segcli.evaluation.protocol import Protocol
from segcli.evaluation.published import open_verification, verification
from segcli.evaluation.run import Evaluation, Output
from segcli.inference.predict import forward, predict
from segcli.inference.preprocess import collate, prepare
from segcli.inference.tiling import windows
from segcli.inference.tta import segment_averaged, sizes
from segcli.metrics import metric_for
from segcli.metrics.match_classes import match_classes
from segcli.training.validate import best_of, candidates, validate
from segcli.types import MASK_TASKS, InputSize, Label, LabelSet, MergeRule, Task
from segcli.weights.checkpoint import LoadedModel
from segcli.weights.manifest import manifest
from tests.evaluation.scored import write_scored
from tests.fakes import ColourNetwork, FakeLoaded


class Counting(ColourNetwork):
    """Counts how often it is asked."""

    calls = 0

    def forward(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        return super().forward(*args, **options)


@pytest.fixture
def loaded() -> LoadedModel:
    return cast(LoadedModel, FakeLoaded(Counting()))


def calls(loaded: LoadedModel) -> int:
    assert isinstance(loaded.model, Counting)
    return loaded.model.calls


def opened(loaded: LoadedModel, data: Path, tasks: Sequence[Task] = MASK_TASKS, **options: Any) -> Evaluation:
    info = open_data(data, tasks[0], None, "val")
    classes = match_classes(loaded.labels, info.source_labels, "the model")
    protocol = Protocol.of(loaded.spec, tasks, max_dets=options.pop("max_dets", None))
    return of_model(loaded, info, "val", open_tasks(info, "val", tasks), protocol, classes, **options)


def documents(evaluation: Evaluation) -> dict[Task, dict[str, Any]]:
    for _ in evaluation.run():
        pass
    return evaluation.finish()


def numbers(documents: dict[Task, dict[str, Any]]) -> dict[Task, Any]:
    return {task: (document["summary"], document["per_class"]) for task, document in documents.items()}


def in_tiles(loaded: LoadedModel, tile: int | None) -> LoadedModel:
    """The same network, whose checkpoint says that photos are predicted in tiles."""
    return dataclasses.replace(
        loaded, spec=dataclasses.replace(loaded.spec, size=dataclasses.replace(loaded.spec.size, tile=tile))
    )


def test_tiles_are_part_of_a_checkpoint(loaded: LoadedModel, tmp_path: Path) -> None:
    """Each goes through the network once for all tasks; what comes is what predict says of the photo."""
    data, tiled = write_scored(tmp_path), in_tiles(loaded, 64)
    for evaluated in opened(tiled, data).run():
        sample = next(iter(evaluated.samples.values()))
        for task in MASK_TASKS:
            theirs = predict(loaded, sample.image, task, tile=64)
            mine = evaluated.segments[task]
            if task == "instance":
                mine = mine.filter(mine.scores >= loaded.spec.rule.instance_score)
            assert [mask.tolist() for mask in mine.masks()] == [mask.tolist() for mask in theirs.masks()]
    once = 1 + 4 * 2  # the first photo is no wider than a tile
    assert calls(loaded) == once * (1 + len(MASK_TASKS))


def test_tiles_hold_many_and_know_no_tta(loaded: LoadedModel) -> None:
    tiled = in_tiles(loaded, 64)
    assert Protocol.of(tiled.spec, ["instance"]).max_dets == 500
    assert Protocol.of(loaded.spec, ["instance"]).max_dets == 100
    with pytest.raises(UsageError, match="tiles of 64 pixels; add --tile 0, or leave out --tta"):
        Protocol.of(tiled.spec, ["semantic"], tta=True)
    assert "tile" not in Protocol.of(loaded.spec, ["panoptic"]).describe("panoptic")["size"]
    assert Protocol.of(tiled.spec, ["panoptic"]).describe("panoptic")["size"]["tile"] == 64


def test_training_measures_in_tiles_too(loaded: LoadedModel, tmp_path: Path) -> None:
    data, tiled = write_scored(tmp_path), in_tiles(loaded, 64)
    dataset = open_tasks(open_data(data, "panoptic", None, "val"), "val", ["panoptic"])["panoptic"]
    before = calls(loaded)
    steps = validate(tiled, dataset, "panoptic", Ranks(), [loaded.spec.rule, MergeRule(score=0.999)])
    try:
        while True:
            next(steps)
    except StopIteration as end:
        usual, strict = end.value
    assert calls(loaded) - before == 1 + 4 * 2
    metric = metric_for("panoptic", loaded.labels)
    for number in range(len(dataset)):
        metric.update(predict(loaded, dataset[number].image, tile=64), dataset[number])
    assert usual.metric.value == metric.compute().value > 0.5
    assert strict.metric.value == 0


def test_images_without_objects_are_validated_too(loaded: LoadedModel, tmp_path: Path) -> None:
    """Two of five: one whose truth is void everywhere, one that has stuff alone. What is found there is too much."""
    data = write_scored(tmp_path)
    document = json.loads((data / "panoptic_val.json").read_text(encoding="utf-8"))
    void, stuff = document["annotations"][:2]
    ids = read_panoptic_png(data / "panoptic_val" / void["file_name"])
    (data / "panoptic_val" / void["file_name"]).write_bytes(encode_panoptic_png(np.zeros_like(ids)))
    void["segments_info"] = []
    for segment in stuff["segments_info"]:
        segment["category_id"] = loaded.labels[2].id
    (data / "panoptic_val.json").write_text(json.dumps(document), encoding="utf-8")
    dataset = open_tasks(open_data(data, "instance", None, "val"), "val", ["instance"])["instance"]
    assert [len(sample.labels) for sample in dataset] == [0, 0, 2, 2, 2]
    steps = validate(loaded, dataset, "instance", Ranks(), [loaded.spec.rule])
    try:
        while True:
            next(steps)
    except StopIteration as end:
        (finding,) = end.value
    assert finding.tally.images == 5
    assert finding.measure == 2 * 6 / (10 + 6)  # F1 of six right, ten found, six true


@pytest.mark.parametrize("task", MASK_TASKS)
def test_measuring_makes_no_mask_of_the_image_for_every_object(task: Task, tmp_path: Path) -> None:
    """A hundred segments of 600×500 pixels would be 30 MB of masks."""
    ids = (np.arange(600)[:, None] // 60 * 10 + np.arange(500) // 50 + 1).astype(np.int32)
    labels = LabelSet((Label(1, "cell", True),))
    classes, crowd = np.zeros(100, dtype=np.int64), np.zeros(100, dtype=bool)
    sample = Sample(np.zeros((600, 500, 3), dtype=np.uint8), MapTruth(ids, classes, crowd), tmp_path, "a")
    found = truth_segments(sample, task, labels)
    found = dataclasses.replace(found, scores=np.full(100, 0.9, dtype=np.float32))
    metric = metric_for(task, labels)
    tracemalloc.start()
    metric.update(found, sample)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert metric.compute().value == pytest.approx(1)
    assert peak < 15e6


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_the_sweep_drops_specks_where_that_serves_the_data(loaded: LoadedModel, tmp_path: Path, task: Task) -> None:
    """Something red at the foot of each photo is not the red thing."""
    data = write_scored(tmp_path)
    for file in (data / "images").iterdir():
        photo = read_image(file).copy()
        height, width = photo.shape[:2]
        photo[height * 3 // 4 :, width // 2 + 8 :] = (255, 0, 0)
        file.write_bytes(encode_png(photo))
    dataset = open_tasks(open_data(data, task, None, "val"), "val", [task])[task]
    steps = validate(loaded, dataset, task, Ranks(), candidates(task, loaded.spec.rule))
    try:
        while True:
            next(steps)
    except StopIteration as end:
        best = best_of(end.value)
        others = [
            finding
            for finding in end.value
            if finding.rule == dataclasses.replace(best.rule, part_min=0.0, repeat_iou=None)
        ]
    assert (best.rule.part_min, best.rule.repeat_iou) == (1, 0.8)
    assert best.metric.value > others[0].metric.value


@pytest.mark.parametrize("tile", [None, 64])
def test_the_pixels_of_a_semantic_result_have_scores(loaded: LoadedModel, tmp_path: Path, tile: int | None) -> None:
    """For the calibration picture, where one is drawn: those of the network, of every tile."""
    data, model = write_scored(tmp_path / "data"), in_tiles(loaded, tile)
    assert not any(evaluated.pixels for evaluated in opened(model, data, ["semantic"]).run())
    for evaluated in opened(model, data, ["semantic"], output=Output(tmp_path / "out")).run():
        boxes = [box for box, _, _ in evaluated.pixels]
        height, width = evaluated.sample.size
        assert boxes == (windows((height, width), tile, 0.2) if tile else [(0, 0, width, height)])
        for box, classes, scores in evaluated.pixels:
            assert classes.shape == scores.shape
            foot = (box.y1 - box.y0) * 5 // 6 * len(classes) // (box.y1 - box.y0)
            assert (classes[foot] == 2).all()  # dark
            assert np.median(scores[foot]) > 0.9


def test_all_tasks_from_one_pass(loaded: LoadedModel, tmp_path: Path) -> None:
    data = write_scored(tmp_path)
    together = documents(opened(loaded, data))
    assert calls(loaded) == 5
    assert together["panoptic"]["summary"]["SQ"] < 1
    assert [together[task]["metric"] for task in MASK_TASKS] == ["PQ", "AP", "mIoU"]
    assert [row["name"] for row in together["instance"]["per_class"]] == ["red", "green"]
    for task in MASK_TASKS:
        assert numbers(documents(opened(loaded, data, [task]))) == numbers({task: together[task]})
    assert numbers(documents(opened(loaded, data, batch_size=3))) == numbers(together)


def test_the_truth_is_as_annotated(loaded: LoadedModel, tmp_path: Path) -> None:
    """Two segments of one stuff class: panopticapi counts two, of which one segment can match but one."""
    row = documents(opened(loaded, write_scored(tmp_path, 1), ["panoptic"]))["panoptic"]["per_class"][2]
    assert (row["name"], row["matched"], row["false positives"], row["missed"]) == ("dark", 1, 0, 1)


def test_instances_take_the_instance_annotations(loaded: LoadedModel, tmp_path: Path) -> None:
    found = documents(opened(loaded, write_scored(tmp_path, 2, instances=True)))
    assert [row["instances"] for row in found["instance"]["per_class"]] == [2, 0]


class OneOfTwo(Ranks):
    """A rank in this process: the second leaves what it gathers for the first, which comes after it."""

    left: ClassVar[list[Any]] = []

    def gather(self, value: Any) -> list[Any]:
        if self.is_first:
            return [value, *self.left]
        self.left[:] = [pickle.loads(pickle.dumps(value))]
        return []

    def broadcast(self, value: Any) -> Any:
        return value


def test_worker_processes_compute_where_and_in_what_this_one_does(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Any] = []
    monkeypatch.setattr(from_model, "run_all", lambda here, job, *args, **how: jobs.append((job, how["on_cpu"])))
    model = dataclasses.replace(cast(Any, loaded), place="gpu", precision="bf16")  # an exported one, in OpenVINO
    opened(model, write_scored(tmp_path))
    assert [(job.ref, job.device, job.dtype, here) for job, here in jobs] == [(loaded.ref, "gpu", "bf16", False)]


def test_ranks_share_the_images(loaded: LoadedModel, tmp_path: Path) -> None:
    data, alone, shared = write_scored(tmp_path / "data"), tmp_path / "alone", tmp_path / "shared"
    expected = documents(opened(loaded, data, output=Output(alone)))
    ranks = [opened(loaded, data, output=Output(shared), ranks=OneOfTwo(rank, 2)) for rank in (0, 1)]
    assert [evaluation.images for evaluation in ranks] == [3, 2]
    assert documents(ranks[1]) == {}
    found = documents(ranks[0])
    for task in MASK_TASKS:
        assert found[task]["summary"] == pytest.approx(expected[task]["summary"], abs=1e-12)
        one, other = ((folder / task / "per_image.jsonl").read_text() for folder in (alone, shared))
        assert one == other
    results = [folder / "instance" / "predictions" / "predictions.json" for folder in (alone, shared)]
    ids = [[row["image_id"] for row in json.loads(file.read_text())] for file in results]
    assert sorted(ids[0]) == sorted(ids[1])


def test_goes_on_where_it_was_stopped(loaded: LoadedModel, tmp_path: Path) -> None:
    data, whole, out = write_scored(tmp_path / "data"), tmp_path / "whole", tmp_path / "out"
    expected = documents(opened(loaded, data, output=Output(whole)))
    before = calls(loaded)
    stream = opened(loaded, data, output=Output(out)).run()
    next(stream)
    next(stream)
    stream.close()  # as Ctrl-C does
    with pytest.raises(UsageError, match="not finished: continue with --skip-existing"):
        read_evaluations(out)
    seen = calls(loaded)
    assert numbers(documents(opened(loaded, data, output=Output(out, skip_existing=True)))) == numbers(expected)
    assert calls(loaded) - seen == 3 < seen - before + 3
    for task in MASK_TASKS:
        for file in ("per_image.jsonl", "per_class.csv", "predictions/photo 3.json", "predictions/photo 3.png"):
            if task != "instance" or not file.endswith(".png"):
                one, other = ((folder / task / file).read_text(errors="replace") for folder in (whole, out))
                assert without_timings(one) == without_timings(other)
    rows = [row["file"] for row in read_evaluations(out)["instance"].rows()]
    assert rows == [f"photo {number}.png" for number in range(5)]
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]


def test_goes_on_with_an_image_whose_id_is_zero(loaded: LoadedModel, tmp_path: Path) -> None:
    data, out = write_scored(tmp_path / "data", 2), tmp_path / "out"
    file = data / "panoptic_val.json"
    file.write_text(file.read_text().replace('"id": 10,', '"id": 0,').replace('"image_id": 10,', '"image_id": 0,'))
    expected = documents(opened(loaded, data, ["instance"], output=Output(out)))
    again = documents(opened(loaded, data, ["instance"], output=Output(out, skip_existing=True)))
    assert numbers(again) == numbers(expected)
    rows = list(read_evaluations(out)["instance"].rows())
    assert [(row["image_id"], row["value"] > 0) for row in rows] == [("0", True), ("11", True)]


def without_timings(text: str) -> list[str]:
    return [line for line in text.splitlines() if '"timings"' not in line]


def test_other_settings_are_refused_and_nothing_is_lost(loaded: LoadedModel, tmp_path: Path) -> None:
    data, out = write_scored(tmp_path / "data", 2), tmp_path / "out"
    documents(opened(loaded, data, output=Output(out)))
    kept = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=r"another protocol, instances \(100, now 7\)"):
        opened(loaded, data, max_dets=7, output=Output(out, skip_existing=True))
    with pytest.raises(UsageError, match=r"exists already: .*--overwrite.*--skip-existing"):
        opened(loaded, data, output=Output(out))
    with torch.no_grad():
        next(loaded.model.parameters()).mul_(0.5)
    with pytest.raises(UsageError, match="another model, weights"):
        opened(loaded, data, output=Output(out, skip_existing=True))
    assert kept == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_predictions_are_those_of_predict(loaded: LoadedModel, tmp_path: Path) -> None:
    data, out = write_scored(tmp_path / "data", 1), tmp_path / "out"
    documents(opened(loaded, data, ["instance"], output=Output(out)))
    results = json.loads((out / "predictions" / "predictions.json").read_text())
    segments = predict(loaded, data / "images" / "photo 0.png", "instance", threshold=0)
    assert results == json.loads(json.dumps(segments.to_coco(10)))
    record = json.loads((out / "predictions" / "photo 0.json").read_text())
    assert [segment["category_name"] for segment in record["segments"]] == ["red", "green"]


def test_an_image_that_cannot_be_read_is_left_out(loaded: LoadedModel, tmp_path: Path) -> None:
    data = write_scored(tmp_path, 3)
    (data / "images" / "photo 1.png").write_bytes(b"nothing")
    evaluation = opened(loaded, data, ["panoptic"])
    found = documents(evaluation)["panoptic"]
    assert found["data"]["images"] == 2
    assert "photo 1.png" in found["failed"][0]


# ------------------------------------------------------------------------------------------------- what can be scored


def test_tasks_are_those_of_model_and_data(tmp_path: Path) -> None:
    spec = FakeLoaded().spec
    info = open_data(write_scored(tmp_path, 1), None, None, "val")
    assert choose_tasks(spec, info, None) == ("panoptic",)
    only = dataclasses.replace(spec, tasks=("semantic",))
    assert choose_tasks(only, for_model(info, only, None), None) == ("semantic",)
    assert choose_tasks(only, for_model(info, only, "all"), "all") == ("semantic",)
    with pytest.raises(UsageError, match="--task panoptic: this checkpoint is for semantic"):
        choose_tasks(only, for_model(info, only, "panoptic"), "panoptic")


def test_options_without_meaning_are_refused() -> None:
    spec = FakeLoaded().spec
    with pytest.raises(UsageError, match="--tta averages the scores of semantic segmentation"):
        Protocol.of(spec, ["panoptic"], tta=True)
    with pytest.raises(UsageError, match="--max-dets limits instances"):
        Protocol.of(spec, ["semantic"], max_dets=10)
    assert Protocol.of(spec, ["instance"], max_dets=7).spec.rule.top_k == 7


# ------------------------------------------------------------------------------------------------------ ms+flip, verify


@pytest.mark.parametrize("tasks", [("semantic",), MASK_TASKS])
def test_averaged_over_sizes_and_mirror_images(tasks: tuple[Task, ...], tmp_path: Path) -> None:
    """Against the plain computation: dense scores at the photo's size, mirrored back, averaged."""
    loaded = cast(LoadedModel, FakeLoaded().with_tasks(*tasks))
    image = read_image(write_scored(tmp_path, 4) / "images" / "photo 3.png")
    total = torch.zeros(len(loaded.spec.labels), *image.shape[:2])
    for size in sizes(loaded.spec.size):
        for flip in (False, True):
            photo = prepare(image[:, ::-1] if flip else image, dataclasses.replace(loaded.spec, size=size))
            pred = loaded.model(collate([photo], torch.device("cpu")))[-1]
            masks = F.interpolate(pred.masks.dense(), size=photo.frame.padded, mode="bilinear", align_corners=False)
            height, width = photo.frame.resized
            scores = torch.einsum("qk,qhw->khw", pred.classes[0].softmax(-1)[:, :-1], masks[0].sigmoid())
            if tasks != ("semantic",):  # masks are brought to the photo before they become probabilities
                masks = F.interpolate(masks[..., :height, :width], size=image.shape[:2], mode="bilinear")
                scores = torch.einsum("qk,qhw->khw", pred.classes[0].softmax(-1)[:, :-1], masks[0].sigmoid())
            else:
                scores = scores[:, :height, :width]
            scores = F.interpolate(scores[None], size=image.shape[:2], mode="bilinear")[0]
            total += scores.flip(2) if flip else scores
    segments = segment_averaged(lambda inputs: forward(loaded, inputs), image, loaded.spec)
    classes = np.append(-1, segments.labels)[segments.id_map()]
    assert (classes == total.argmax(0).numpy()).mean() > 0.999


def test_the_scales_are_the_published_ones() -> None:
    assert [size.short for size in sizes(InputSize(512, 2048))] == [256, 384, 512, 640, 768, 896]
    assert {size.long for size in sizes(InputSize(640, 2560))} == {4480}


def test_published_numbers_are_measured(loaded: LoadedModel, tmp_path: Path) -> None:
    entry = dataclasses.replace(
        manifest()["facade"], metrics={"mIoU": 90.0, "PQ": 12.5, "mIoU (ms+flip)": 91.0}, measured="five photos"
    )
    evaluation = open_verification(loaded, entry, write_scored(tmp_path))
    found = documents(evaluation)
    entry = dataclasses.replace(
        entry, metrics=dict(entry.metrics) | {"mIoU": round(100 * found["semantic"]["value"], 1)}
    )
    checked = verification(entry, evaluation, found)
    assert [(m.metric, m.agrees) for m in checked.metrics] == [("mIoU", True), ("PQ", False)]
    assert checked.passed
    assert not verification(dataclasses.replace(entry, measured="COCO val2017"), evaluation, found).passed


# --------------------------------------------------------------------------------------------------------- real photos


def test_facade_is_panopticapis(shared_dir: Path, tmp_path: Path) -> None:
    """The bundled model on three photographs: from the files that --out writes, panopticapi's PQ."""
    pytest.importorskip("panopticapi.evaluation")
    from segcli.weights.checkpoint import load_model
    from tests.parity.official import panoptic_numbers, same

    data = shared_dir / "data" / "facade"
    evaluation = opened(load_model("facade", "cpu", "fp32"), data, ["panoptic"], images=3, output=Output(tmp_path))
    found = documents(evaluation)["panoptic"]
    truth = json.loads((data / "panoptic_val.json").read_text())
    names = {image["id"]: Path(image["file_name"]).stem for image in truth["images"]}
    pairs = []
    for annotation in truth["annotations"]:
        record = tmp_path / "predictions" / f"{names[annotation['image_id']]}.json"
        if record.is_file():
            infos = json.loads(record.read_text())["segments"]
            pairs.append((annotation, annotation | {"file_name": f"{record.stem}.png", "segments_info": infos}))
    labels = next(iter(evaluation.datasets.values())).labels
    summary, _ = panoptic_numbers(pairs, labels, data / "panoptic_val", tmp_path / "predictions")
    assert len(pairs) == 3
    assert found["summary"]["PQ"] > 0.05
    same(found["summary"], summary)
