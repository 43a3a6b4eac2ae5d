"""Is B better than A: what chance can do is told from what it cannot, by counts that give the dataset's own number."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segcli.errors import SegcliError
from segcli.evaluation.compare import Comparison, compare
from segcli.evaluation.from_files import as_semantic
from segcli.metrics import count_image, metric_for, metrics_of
from segcli.metrics.bootstrap import mean
from segcli.segments import Segments
from segcli.types import MASK_TASKS, Task
from tests.parity.official import LABELS, Case, cases, same

ids = [label.id for label in LABELS]


@pytest.mark.parametrize("task", MASK_TASKS)
def test_counts_give_the_number_of_any_choice_of_images(task: Task) -> None:
    """Weights 0, 1, 2, …: the metric over the images, each as often as it was drawn."""

    @settings(max_examples=25)
    @given(cases("instance" if task == "instance" else "panoptic", side=6, images=4), st.data())
    def check(case: Case, data: st.DataObject) -> None:
        if task == "instance":  # of equal scores in one image, the order in a draw is not that of its copies
            case = [(distinct(segments, place), truth) for place, (segments, truth) in enumerate(case)]
        if task == "semantic":
            case = [(as_semantic(segments), truth) for segments, truth in case]
        weights = np.array([[1] * len(case), [data.draw(st.integers(0, 2)) for _ in case]], dtype=np.int64)
        counts = [count_image(segments, truth, LABELS).counts for segments, truth in case]
        numbers = mean(metrics_of(task)[0].resample(json.loads(json.dumps(counts)), ids, weights.reshape(2, len(case))))
        for number, row in zip(numbers, weights, strict=True):
            metric = metric_for(task, LABELS)
            for place, times in enumerate(row.tolist()):
                for copy in range(times):
                    segments, truth = case[place]
                    metric.update(segments, replace(truth, image_id=str(10 * place + copy)))
            same({"value": float(number)}, {"value": metric.compute().value})

    check()


def distinct(segments: Segments, place: int) -> Segments:
    """Instances with scores of their own, as networks give them."""
    return replace(segments, scores=1 - np.arange(len(segments)) / 9 - place / 99)


# ---------------------------------------------------------------------------------------------------------- the verdict


def evaluation(folder: Path, rows: list[dict[str, list[float]]], **changes: Any) -> Path:
    """A panoptic evaluation folder with these counts a image."""
    folder.mkdir()
    classes = [{"id": 1, "name": "cat", "isthing": True}, {"id": 7, "name": "sky", "isthing": False}]
    quality = metrics_of("panoptic")[0].resample(rows, [1, 7], np.ones((1, len(rows)), dtype=np.int64))
    document = {"kind": "segcli eval", "task": "panoptic", "metric": "PQ", "value": float(mean(quality)[0])}
    document |= {"per_class": classes, "data": {"split": "val", "root": "/data"}} | changes
    (folder / "metrics.json").write_text(json.dumps(document))
    lines = (
        {"image_id": str(number), "file": f"{number}.jpg", "value": counts["1"][0] / 4, "counts": counts}
        for number, counts in enumerate(rows)
    )
    (folder / "per_image.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def images(found: list[int]) -> list[dict[str, list[float]]]:
    """Four cats in each image, of which so many are found with IoU 1, and a sky that always is."""
    return [{"1": [float(n), n, 0, 4 - n], "7": [1.0, 1, 0, 0]} for n in found]


def verdict(tmp_path: Path, a: list[int], b: list[int]) -> Comparison:
    [comparison] = compare(evaluation(tmp_path / "a", images(a)), evaluation(tmp_path / "b", images(b)))
    return comparison


def test_a_difference_in_every_image_is_shown_by_few(tmp_path: Path) -> None:
    comparison = verdict(tmp_path, [2] * 10, [3] * 10)
    assert comparison.difference.shown == 1
    assert comparison.difference.low == comparison.difference.high
    assert comparison.sentence.startswith("B is better than A: PQ 92.86 against 83.33, +9.52 (95 % interval +9.52 to")
    assert [own.difference.shown for own in comparison.classes] == [1, 0]


def test_one_lucky_image_is_no_difference(tmp_path: Path) -> None:
    """The mean is better by as much; another draw of images might not have had that one."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 5, 40)
    comparison = verdict(tmp_path, a.tolist(), np.append(rng.permutation(a[:-1]), 4).tolist())
    assert comparison.difference.shown == 0
    assert comparison.difference.low < 0 < comparison.difference.high
    assert comparison.sentence.startswith("No difference between A and B that 40 images can show: PQ")


def test_too_few_images_have_no_verdict(tmp_path: Path) -> None:
    """Nine images, each better: their bootstrap cannot see beyond them. The same of a class that is in few of many."""
    comparison = verdict(tmp_path, [2] * 9, [3] * 9)
    assert comparison.difference.low > 0
    assert comparison.difference.shown == 0
    assert comparison.sentence.startswith(
        "No verdict on whether B is better than A (9 images, at least 10 are needed): PQ 92.86"
    )
    assert comparison.to_json()["verdict"] == "too few images"
    assert [own.difference.verdict for own in comparison.classes] == ["too few images"] * 2


def test_worse_is_better_the_other_way_round(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(1, 5, 30)
    b = a - (rng.random(30) < 0.5)
    one, other = verdict(tmp_path, a.tolist(), b.tolist()), compare(tmp_path / "b", tmp_path / "a")[0]
    assert (one.difference.shown, other.difference.shown) == (-1, 1)
    assert one.difference.low == -other.difference.high
    changed = [image.a - image.b for image in one.images]
    assert changed == sorted(changed, reverse=True)
    assert json.loads(json.dumps(one.to_json(), allow_nan=False))["verdict"] == "worse"


def test_the_interval_holds_what_it_says(tmp_path: Path) -> None:
    """Of evaluations whose images are drawn from one population, about one in twenty seems to differ."""
    rng = np.random.default_rng(0)
    wrong = 0
    for trial in range(60):
        folder = tmp_path / str(trial)
        folder.mkdir()
        wrong += verdict(folder, rng.integers(0, 5, 40).tolist(), rng.integers(0, 5, 40).tolist()).difference.shown != 0
    assert wrong <= 9


def test_the_same_draws_every_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    verdict(tmp_path, rng.integers(0, 5, 20).tolist(), rng.integers(0, 5, 20).tolist())
    first, again = (compare(tmp_path / "a", tmp_path / "b")[0].to_json() for _ in range(2))
    assert first == again


def folders(tmp_path: Path, *changes: dict[str, Any]) -> None:
    for name, own in zip("ab", changes, strict=True):
        evaluation(tmp_path / name, images([1, 2]), **own)


def other_truth(tmp_path: Path) -> None:
    evaluation(tmp_path / "a", images([1, 2]))
    evaluation(tmp_path / "b", [{"1": [1.0, 1, 0, 9], "7": [1.0, 1, 0, 0]}, images([2])[0]])


def more_images(tmp_path: Path) -> None:
    evaluation(tmp_path / "a", images([1, 2]))
    evaluation(tmp_path / "b", images([1, 2, 3]))


def broken_line(tmp_path: Path) -> None:
    folders(tmp_path, {}, {})
    with (tmp_path / "b/per_image.jsonl").open("a") as file:
        file.write('{"image_id": "2", "fi')


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "another split": (
        lambda p: folders(p, {}, {"data": {"split": "test"}}),
        "the split of .*a is val, that of .*b test",
    ),
    "another task": (
        lambda p: folders(p, {}, {"task": "semantic"}),
        "a is of the task panoptic, .*b of semantic, so there is nothing to compare",
    ),
    "other classes": (
        lambda p: folders(p, {}, {"per_class": [{"id": 1, "name": "dog"}, {"id": 7, "name": "sky"}]}),
        "have different classes; evaluate both on the same data",
    ),
    "other images": (more_images, "image 2 is in .*b and not in .*a; evaluate both on the same images"),
    "another truth": (other_truth, "the truth of image 0 is not the same in .*a and .*b: the data has changed"),
    "counts of another number": (
        lambda p: folders(p, {}, {"value": 0.5}),
        "b: per_image.jsonl gives PQ 77.273, metrics.json says 50.000; they come from different evaluations",
    ),
    "a broken line": (broken_line, "per_image.jsonl: line 3: not valid JSON"),
    "no evaluation": (lambda p: folders(p, {}, {"kind": "x"}), "metrics.json was not written by segcli eval"),
    "no folder": (lambda p: None, "a: holds no evaluation"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_compared(case: str, tmp_path: Path) -> None:
    make, message = BAD[case]
    make(tmp_path)
    with pytest.raises(SegcliError, match=message) as caught:
        compare(tmp_path / "a", tmp_path / "b")
    assert "\n" not in str(caught.value)
