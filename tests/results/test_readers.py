"""Predictions read back: what the writers write comes back as it was, what other tools write means what they meant."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image

from segcli.codecs.panoptic_png import encode_panoptic_png
from segcli.codecs.rle import encode
from segcli.errors import InputError, SegcliError, UsageError
from segcli.results.own import holds_id_maps
from segcli.results.plan import plan
from segcli.results.readers import open_predictions
from segcli.results.writer import ResultsWriter
from segcli.segments import Segments
from segcli.types import Task
from tests.parity.official import LABELS, Case, cases

MASK = np.array([[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=bool)
SIZE = MASK.shape
RUN = {"rule": {"instance_score": 0.5}}
ENTRY = {"image_id": 7, "category_id": 90, "segmentation": encode(MASK).to_coco(), "score": 0.5}
INFO = {"id": 1, "category_id": 90}


def written(folder: Path, case: Case, *kinds: str) -> Path:
    """The predictions of a case as `segcli predict` would write them."""
    task = case[0][0].task
    photos = plan([(folder / f"{truth.image_id}.jpg", None) for _, truth in case])
    with ResultsWriter(folder / "out", kinds, photos, task=task, labels=LABELS, run=RUN, overwrite=True) as writer:
        for photo, (segments, _) in zip(photos, case, strict=True):
            writer.write(photo, None, segments, timings={})
    return folder / "out"


def same(one: Segments, other: Segments) -> None:
    """The same masks of the same classes, by their ids, with the same scores."""
    assert (one.size, len(one)) == (other.size, len(other))
    assert one.category_ids() == other.category_ids()
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)
    for mask, expected in zip(one.masks(), other.masks(), strict=True):
        np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    ("task", "kinds"),
    [
        ("panoptic", ("png", "json")),
        ("panoptic", ("coco-panoptic",)),
        ("panoptic", ("png", "json", "coco-panoptic", "coco")),
        ("instance", ("json",)),
        ("instance", ("coco",)),
        ("instance", ("png", "json", "coco")),
    ],
)
def test_what_predict_writes(task: Task, kinds: tuple[str, ...], tmp_path: Path) -> None:
    @settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(cases(task, side=6).filter(bool))
    def check(case: Case) -> None:
        predictions = open_predictions(written(tmp_path, case, *kinds))
        assert predictions.task == task
        found = {str(image).removesuffix(".jpg"): number for number, image in enumerate(predictions.images)}
        for segments, truth in case:
            if truth.image_id in found:
                same(predictions.read(found[truth.image_id], segments.size), segments)
            else:
                assert not len(segments)  # results files list what was found only

    check()


@pytest.mark.parametrize("kinds", [("png", "json"), ("png",)])
def test_label_maps(kinds: tuple[str, ...], tmp_path: Path) -> None:
    """Alone they say no names: whoever knows the data says what the values mean."""
    ids = np.array([[0, 1, 1], [2, 2, 0]], dtype=np.uint16)
    segments = Segments("semantic", (2, 3), LABELS, np.array([2, 0]), np.full(2, np.nan, np.float32), ids)
    truth: Any = type("Truth", (), {"image_id": "a"})
    predictions = open_predictions(written(tmp_path, [(segments, truth)], *kinds))
    if kinds == ("png",):
        assert not len(predictions.labels)
        predictions.labels = LABELS  # type: ignore[misc]
    same(predictions.read(0, (2, 3)), replace(segments, labels=np.array([2, 0])))


def test_unthresholded_goes_before_what_was_shown(tmp_path: Path) -> None:
    """`--save json,coco`: the results file has every score; the records alone were cut at 0.5."""
    case = [(Segments("instance", SIZE, LABELS, np.zeros(1, int), np.array([0.2]), rles=(encode(MASK),)), TRUTH)]
    assert open_predictions(written(tmp_path, case, "json", "coco")).least_score == 0.2
    assert open_predictions(written(tmp_path / "b", case, "json")).least_score == 0.5


TRUTH: Any = type("Truth", (), {"image_id": "a"})
POLYGONS = [[1.0, 0.2, 3.7, 0.4, 2.9, 2.8, 1.1, 2.3], [0.0, 0.0, 1.0, 0.0, 1.0, 1.5]]


def shape(form: str) -> Any:
    rle = encode(MASK)
    forms: dict[str, Any] = {
        "compressed": rle.to_coco(),
        "uncompressed": {"size": list(SIZE), "counts": rle.counts.tolist()},
        "polygons": POLYGONS,
    }
    return forms[form]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
@pytest.mark.parametrize("form", ["compressed", "uncompressed", "polygons"])
def test_masks_are_those_of_pycocotools(form: str, tmp_path: Path) -> None:
    coco_mask = pytest.importorskip("pycocotools.mask")
    file = tmp_path / "results.json"
    file.write_text(json.dumps([ENTRY | {"segmentation": shape(form)}]))
    [mask] = open_predictions(file).read(0, SIZE).masks()
    theirs = coco_mask.frPyObjects(shape(form), *SIZE) if form != "compressed" else shape(form)
    np.testing.assert_array_equal(mask, coco_mask.decode(coco_mask.merge(theirs) if form == "polygons" else theirs))


def test_order_scores_and_boxes(tmp_path: Path) -> None:
    """Descending, equal ones in the order of the file; boxes that were given stay, as pycocotools reads them."""
    file = tmp_path / "results.json"
    scores = [0.25, 0.1 + 1e-12, 0.9, 0.25]
    rows = [ENTRY | {"score": score, "bbox": [number, 0, 2, 3]} for number, score in enumerate(scores)]
    file.write_text(json.dumps([*rows, ENTRY | {"image_id": 8, "bbox": [9, 9, 1, 1]}]))
    predictions = open_predictions(file)
    segments = predictions.read(0, SIZE)
    assert segments.scores.tolist() == [0.9, 0.25, 0.25, 0.1 + 1e-12]
    assert segments.given_boxes is not None
    assert segments.given_boxes[:, 0].tolist() == [2, 0, 3, 1]
    assert [entry["bbox"][0] for entry in segments.filter(segments.scores < 0.5).to_coco(7)] == [0, 3, 1]
    assert predictions.least_score == 0.1 + 1e-12


def test_results_written_as_a_dataset_are_scored_by_their_annotations(tmp_path: Path) -> None:
    """With the names of images and classes that it gives; without scores they are no predictions."""
    dataset = {
        "info": {"year": 2017},
        "images": [{"id": 7, "file_name": "a.jpg", "height": 3, "width": 4}],
        "annotations": [ENTRY | {"id": 1, "iscrowd": 0}],
        "categories": [{"id": 90, "name": "cat"}],
    }
    file = tmp_path / "results.json"
    file.write_text(json.dumps(dataset))
    predictions = open_predictions(file)
    assert [(image.id, image.file) for image in predictions.images] == [(7, "a.jpg")]
    assert (predictions.task, predictions.labels.names) == ("instance", ["cat"])
    np.testing.assert_array_equal(next(iter(predictions.read(0, SIZE).masks())), MASK)
    del dataset["annotations"][0]["score"]  # type: ignore[attr-defined]
    file.write_text(json.dumps(dataset))
    with pytest.raises(UsageError, match="cannot be read as predictions"):
        open_predictions(file)


def test_pngs_beside_and_below_their_json(tmp_path: Path) -> None:
    """panopticapi's folder is named as the JSON; other tools put the PNGs beside it or in a folder of any name, and
    write names with Windows's slashes, or the photo's."""
    for number, (place, name) in enumerate(
        [("results", "7.png"), (".", "7.png"), ("some_pngs", "7.png"), (".", ".\\7.png"), (".", "7.jpg")]
    ):
        folder = tmp_path / str(number)
        (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / "results.json").write_text(json.dumps({"annotations": [panoptic_entry(file_name=name)]}))
        (folder / place / "7.png").write_bytes(encode_panoptic_png(MASK.astype(np.uint8) * 1))
        predictions = open_predictions(folder / "results.json")
        np.testing.assert_array_equal(predictions.read(0, SIZE).mask(0), MASK)
        assert open_predictions(folder).what == predictions.what


def panoptic_entry(**changes: Any) -> dict[str, Any]:
    return {"image_id": 7, "file_name": "7.png", "segments_info": [INFO]} | changes


def results(*rows: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "results.json").write_text(json.dumps(rows))
        return folder / "results.json"

    return make


def text(content: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "results.json").write_text(content)
        return folder / "results.json"

    return make


def panoptic(pixels: np.ndarray | None, **changes: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "results").mkdir()
        (folder / "results.json").write_text(json.dumps({"annotations": [panoptic_entry(**changes)]}))
        if pixels is not None:
            Image.fromarray(pixels).save(folder / "results/7.png")
        return folder / "results.json"

    return make


def label_map(pixels: np.ndarray) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        Image.fromarray(pixels).save(folder / "7.png")
        return folder

    return make


def rgb(ids: np.ndarray) -> np.ndarray:
    return np.stack([ids, 0 * ids, 0 * ids], axis=2).astype(np.uint8)


IDS = MASK.astype(np.uint8)
WIDE = {"size": [6, 2], "counts": [12]}
BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "box only": (
        results(ENTRY, {key: ENTRY[key] for key in ("image_id", "category_id", "score")} | {"bbox": [0, 0, 1, 1]}),
        r"results.json: entry 2 \(image 7\) has only a box; scoring needs masks",
    ),
    "no mask": (results(ENTRY, ENTRY | {"segmentation": []}), r"entry 2 \(image 7\) has no mask"),
    "NaN score": (
        text(json.dumps([ENTRY | {"score": float("nan")}])),
        r"\(image 7\): score is nan; expected",
    ),
    "score missing": (results({"image_id": 7, "category_id": 90}), "entry 1 has no 'score'; a COCO results file is"),
    "score in words": (results(ENTRY | {"score": "high"}), "score is 'high'; expected a number"),
    "category in words": (results(ENTRY | {"category_id": "cat"}), "category_id is 'cat'; expected a whole number"),
    "category unknown as such": (results(ENTRY | {"category_id": 1.5}), "category_id is 1.5; expected a whole number"),
    "image id of no kind": (results(ENTRY | {"image_id": [7]}), r"image_id is \[7\]; expected a number or a name"),
    "not an object": (results(ENTRY, 12), "entry 2 is not an object"),
    "RLE of another size": (
        results(ENTRY | {"segmentation": WIDE}),
        "results.json: image 7: a mask of 2×6 pixels, the image has 4×3; resize predictions",
    ),
    "RLE that does not add up": (
        results(ENTRY | {"segmentation": {"size": [3, 4], "counts": [5, 9]}}),
        "image 7: run-length mask of 3×4 = 12 pixels has 14",
    ),
    "RLE of other signs": (results(ENTRY | {"segmentation": {"size": [3, 4], "counts": "~~"}}), "image 7: not a COCO"),
    "polygon of two points": (results(ENTRY | {"segmentation": [[0, 0, 1, 1]]}), "neither run lengths nor polygons"),
    "bbox of three": (results(ENTRY | {"bbox": [1, 2, 3]}), "bbox is not"),
    "truncated": (text('[\n {"image_id": 7, "sco'), "results.json: not valid JSON, line 2, column 18: .*cut short"),
    "a dataset": (text('{"images": [], "annotations": [{"id": 1}]}'), "results.json: cannot be read as predictions"),
    "nothing": (text(""), "results.json: empty"),
    "no PNG": (panoptic(None), "results.json: its id map 7.png is not in .*results; put the PNGs there"),
    "PNG of another size": (panoptic(rgb(IDS[:2])), "7.png: 4×2 pixels, the image has 4×3"),
    "grey PNG": (panoptic(IDS), "7.png: a panoptic id map is an RGB PNG, this one has mode L"),
    "id not listed": (panoptic(rgb(IDS * 5)), "7.png: holds segment id 5, which its JSON does not list"),
    "id not painted": (
        panoptic(rgb(IDS), segments_info=[INFO, INFO | {"id": 2}]),
        "7.png: its JSON lists segment id 2, which it does not hold",
    ),
    "id twice": (panoptic(rgb(IDS), segments_info=[INFO, INFO]), "7.png: its JSON lists a segment id twice"),
    "segment without a class": (
        panoptic(rgb(IDS), segments_info=[{"id": 1}]),
        r"info\[0\]: category_id is missing",
    ),
    "map of another size": (label_map(IDS[:2]), "7.png: 4×2 pixels, the image has 4×3; they must agree"),
    "map of colours": (
        label_map(np.arange(36, dtype=np.uint8).reshape(3, 4, 3)),
        "7.png is a picture of colours",
    ),
    "class unknown": (
        label_map(IDS * 90 + 1),
        "7.png: value 91 is not a class of the data, whose 4 ids are 1 to 90; write the data's own ids",
    ),
    "an empty folder": (lambda folder: folder, "holds no predictions; looked for COCO results JSON"),
    "no such file": (lambda folder: folder / "x.json", "x.json: no such file or folder; predictions are COCO"),
    "a picture": (lambda folder: label_map(IDS)(folder) / "7.png", "7.png: cannot be read as predictions"),
}


def first_image(path: Path) -> Segments:
    predictions = open_predictions(path)
    if predictions.task == "semantic":
        predictions.labels = LABELS  # type: ignore[misc]
    return predictions.read(0, SIZE)


@pytest.mark.parametrize("case", BAD)
def test_bad_files(case: str, tmp_path: Path) -> None:
    make, message = BAD[case]
    path = make(tmp_path)
    with pytest.raises(SegcliError, match=message) as caught:
        first_image(path)
    assert "\n" not in str(caught.value)


def test_a_broken_record_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    segments = Segments("panoptic", SIZE, LABELS, np.array([1]), np.array([0.5]), np.ones(SIZE, np.uint8))
    folder, photos = tmp_path / "out", plan([(tmp_path / f"{name}.jpg", None) for name in "abc"])
    with ResultsWriter(folder, ("png", "json"), photos, task="panoptic", labels=LABELS, run=RUN) as writer:
        for photo in photos:
            writer.write(photo, None, segments, timings={})
    (folder / "a.json").write_text((folder / "a.json").read_text()[:-20])
    (folder / "0.json").write_text('{"fi')
    with pytest.raises(InputError, match=r"0\.json: not valid JSON"):
        open_predictions(folder)
    broken: list[InputError] = []
    predictions = open_predictions(folder, broken=broken.append)
    assert [image.file for image in predictions.images] == ["b.jpg", "c.jpg"]
    assert [Path(str(error).split(":")[0]).name for error in broken] == ["0.json", "a.json"]
    same(predictions.read(1, SIZE), segments)
    assert set(predictions.labels) == set(LABELS)  # all that the model knows, not only what was found


def test_evaluations_of_several_tasks_are_chosen_from(tmp_path: Path) -> None:
    for task in ("panoptic", "semantic"):
        (tmp_path / task / "predictions").mkdir(parents=True)
        label_map(IDS)(tmp_path / task / "predictions")
        (tmp_path / task / "metrics.json").write_text("{}")
    with pytest.raises(UsageError, match="holds evaluations of panoptic, semantic; choose one with --task"):
        open_predictions(tmp_path)
    assert open_predictions(tmp_path, "semantic").path == tmp_path / "semantic" / "predictions"


def test_id_maps_are_told_from_photos(tmp_path: Path) -> None:
    wide = IDS.repeat(40, 1)
    for name, pixels in {"ids": rgb(wide), "labels": wide * 9}.items():
        (tmp_path / name).mkdir()
        label_map(pixels)(tmp_path / name)
        assert holds_id_maps(tmp_path / name), name
    photo = np.random.default_rng(0).integers(0, 256, (30, 40)).astype(np.uint8)
    (tmp_path / "grey").mkdir()
    label_map(photo)(tmp_path / "grey")
    assert not holds_id_maps(tmp_path / "grey")
    assert not holds_id_maps(Path(__file__).parent)


def test_two_files_that_could_be_meant(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps([ENTRY]))
    with pytest.raises(UsageError, match=r"both a.json and b.json could be meant; give the file itself"):
        open_predictions(tmp_path)


def test_a_damaged_record_says_where_what_and_what_helps(tmp_path: Path) -> None:
    row = {"id": 1, "category_id": 7, "category_name": "cat", "isthing": True, "score": "high", "segmentation": {}}
    record = {"file_name": "a.jpg", "task": "instance", "size": {"width": 4, "height": 3}, "segments": [row]}
    (tmp_path / "a.json").write_text(json.dumps(record | {"model": "m", "rule": {"instance_score": 0.5}}))
    told = r"a\.json: segments\[0\]: score is 'high'; expected a number; predict the image again, or remove the file"
    with pytest.raises(InputError, match=told):
        open_predictions(tmp_path)


def test_numbers_as_text_and_other_encodings_are_read(tmp_path: Path) -> None:
    """As R, Excel and PowerShell write them; a file of an object a line too."""
    rows = [ENTRY | {"category_id": "90", "score": "5e-1"}, ENTRY | {"image_id": "8", "score": 0.25}]
    texts = {
        "text.json": json.dumps(rows).encode(),
        "wide.json": json.dumps(rows, ensure_ascii=False).encode("utf-16"),
        "lines.jsonl": b"\xef\xbb\xbf" + "".join(json.dumps(row) + "\r\n" for row in rows).encode(),
        "segments.ndjson": b"\n".join(
            json.dumps({key: value for key, value in row.items() if key != "image_id"} | {"image": "a.jpg"}).encode()
            for row in rows
        ),
    }
    for name, content in texts.items():
        (tmp_path / name).write_bytes(content)
        predictions = open_predictions(tmp_path / name)
        found = [predictions.read(number, MASK.shape) for number in range(len(predictions.images))]
        scores = [score for one in found for score in one.scores.tolist()]
        assert (predictions.labels.ids, scores) == ([90], [0.5, 0.25])
        for mask in (mask for one in found for mask in one.masks()):
            np.testing.assert_array_equal(mask, MASK)
    for key, corners in (
        ("predictions", [[[1, 0], [3, 0], [3, 1], [1, 1]]]),
        ("results", "[[1, 0, 3, 0, 3, 1, 1, 1]]"),
    ):
        (tmp_path / "wrapped.json").write_text(json.dumps({"info": {}, key: [ENTRY | {"segmentation": corners}]}))
        assert open_predictions(tmp_path / "wrapped.json").read(0, MASK.shape).mask(0).sum() == 2
    (tmp_path / "lines.json").write_bytes(texts["segments.ndjson"])
    with pytest.raises(InputError, match=r"files of an object a line are called \.jsonl"):
        open_predictions(tmp_path / "lines.json")


def test_rows_of_predict_are_read_where_nothing_else_is(tmp_path: Path) -> None:
    found = Segments("instance", MASK.shape, LABELS, np.array([1]), np.array([0.9]), rles=(encode(MASK),))
    photos = plan([(tmp_path / "7.jpg", None)])
    with ResultsWriter(tmp_path / "out", ("jsonl",), photos, task="instance", labels=LABELS, run=RUN) as writer:
        writer.write(photos[0], None, found, timings={})
    predictions = open_predictions(tmp_path / "out")
    assert [image.file for image in predictions.images] == ["7.jpg"]
    same(predictions.read(0, MASK.shape), found)
