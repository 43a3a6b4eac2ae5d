"""What a clip is saved as, read by evaluators that are not ours: trackeval's reader of YouTube-VIS results, and a plain
reader of the VIPSeg form with VPQ and STQ as their papers write them."""

from __future__ import annotations

import json
from collections import defaultdict
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.tracking import LABELS, Frame, scored, stq, vpq
from segcli.codecs.rle import encode
from segcli.inference.video.clip import ClipFrame
from segcli.inference.video.kinds import CLIP_KINDS, ClipRun, FrameAnswer
from segcli.inference.video.predict_clip import _answer
from segcli.inference.video.tracking import Tracker
from segcli.render import Style
from segcli.segments import Segments

pytest.importorskip("trackeval")
SIZE = (60, 80)
FRAMES = 18


@pytest.fixture(scope="module")
def clip() -> list[Frame]:
    """Five squares that move in lanes of their own; as found they are shifted, sometimes missing, sometimes halved."""
    random = np.random.default_rng(3)
    frames = []
    for time in range(FRAMES):
        truth, found = [], np.zeros(SIZE, dtype=np.uint16)
        for lane in range(5):
            x = 5 + 3 * time * (1 if lane % 2 else -1) + (0 if lane % 2 else 52)
            mask = np.zeros(SIZE, dtype=bool)
            mask[12 * lane + 1 : 12 * lane + 11, max(0, x) : x + 12] = True
            truth.append((lane + 1, mask))
            if random.random() < 0.85:
                shifted = np.roll(mask, random.integers(-4, 5), axis=1)
                found[shifted] = lane + 1
                if random.random() < 0.1:
                    found[12 * lane + 1 : 12 * lane + 6][shifted[12 * lane + 1 : 12 * lane + 6]] = 6 + lane
        truth = [(number, mask) for number, mask in truth if mask.any()]
        numbers = np.unique(found[found > 0])
        painted = np.searchsorted(np.concatenate([[0], numbers]), found).astype(np.uint16)
        scores = np.sort(random.uniform(0.7, 1, len(numbers)))[::-1].astype(np.float32)
        segments = Segments("panoptic", SIZE, LABELS, np.zeros(len(numbers), int), scores, map=painted)
        objects = np.array([number for number, _ in truth], dtype=np.int64)
        frames.append(Frame([encode(mask) for _, mask in truth], objects, segments))
    return frames


@pytest.fixture(scope="module")
def ids(clip: list[Frame]) -> list[np.ndarray]:
    tracker = Tracker(memory=3)
    return [tracker.update(frame.found)[0] for frame in clip]


@pytest.fixture(scope="module")
def saved(clip: list[Frame], ids: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what `--save coco,coco-panoptic` writes."""
    out = tmp_path_factory.mktemp("out")
    source: Any = SimpleNamespace(name="clip", rate=Fraction(25))
    run = ClipRun(source, out, "clip", ("coco", "coco-panoptic"), "panoptic", LABELS, Style(), {})
    kinds = [CLIP_KINDS[name](run) for name in run.kinds]
    for number, (frame, own) in enumerate(zip(clip, ids, strict=True)):
        shown = ClipFrame(number, number / 25, np.zeros((*SIZE, 3), dtype=np.uint8))
        answer: FrameAnswer = _answer(number, shown, frame.found, own, run)
        for kind in kinds:
            kind.write(answer)
    for kind in kinds:
        kind.finish()
    return out


def test_trackeval_reads_youtube_vis(clip: list[Frame], ids: list[np.ndarray], saved: Path, tmp_path: Path) -> None:
    from trackeval.datasets import YouTubeVIS
    from trackeval.metrics import HOTA, TrackMAP

    tracks: dict[int, list[Any]] = defaultdict(lambda: [None] * FRAMES)
    for time, frame in enumerate(clip):
        for number, mask in zip(frame.objects.tolist(), frame.truth, strict=True):
            tracks[number][time] = {"size": list(SIZE), "counts": mask.counts.tolist()}
    truth = {
        "categories": [{"id": 1, "name": "object"}],
        "videos": [{"id": "clip", "file_names": [f"clip/{time}.jpg" for time in range(FRAMES)]}],
        "annotations": [
            {"id": number, "video_id": "clip", "category_id": 1, "iscrowd": 0, "height": SIZE[0], "width": SIZE[1]}
            | {"segmentations": places, "areas": [place and sum(place["counts"][1::2]) for place in places]}
            for number, places in tracks.items()
        ],
    }
    for folder, name, content in (
        ("gt/youtube_vis_val", "truth.json", json.dumps(truth)),
        ("found/youtube_vis_val/segcli/data", "results.json", (saved / "clip.youtube-vis.json").read_text()),
    ):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).write_text(content)
    places = {"GT_FOLDER": f"{tmp_path}/gt/", "TRACKERS_FOLDER": f"{tmp_path}/found/", "SPLIT_TO_EVAL": "val"}
    data = YouTubeVIS(places | {"PRINT_CONFIG": False})
    sequence = data.get_preprocessed_seq_data(data.get_raw_seq_data("segcli", "clip"), "object")
    assert sequence["num_tracker_dets"] == sum(map(len, ids))
    assert sequence["num_tracker_ids"] == len(np.unique(np.concatenate(ids)))
    own = scored(clip, ids)["HOTA"]
    assert np.mean(HOTA().eval_sequence(sequence)["HOTA"]) == pytest.approx(own)
    assert 0.4 < own < 0.95
    how = {"PRINT_CONFIG": False, "USE_TIME_RANGES": False, "USE_AREA_RANGES": False}
    track_map = TrackMAP(how)
    precision = track_map.combine_sequences({"clip": track_map.eval_sequence(sequence)})["AP_all"]
    assert 0.02 < np.mean(precision) < 0.9


# ----------------------------------------------------------------------------------------------- the VIPSeg form


def read(saved: Path) -> tuple[np.ndarray, list[dict[int, int]]]:
    """Ids [T, H, W] and the classes of each frame's, as a reader of VIPSeg finds them."""
    whole = json.loads((saved / "clip.vipseg.json").read_text())
    [video], [own] = whole["videos"], whole["annotations"]
    assert video["video_id"] == own["video_id"]
    assert [image["id"] for image in video["images"]] == [entry["image_id"] for entry in own["annotations"]]
    maps, classes = [], []
    for entry in own["annotations"]:
        pixels = np.array(Image.open(saved / "clip.panoptic" / entry["file_name"])).astype(np.int64)
        found = pixels[..., 0] + 256 * pixels[..., 1] + 65_536 * pixels[..., 2]
        infos = {info["id"]: info for info in entry["segments_info"]}
        assert set(np.unique(found)) - {0} == infos.keys()
        for number, info in infos.items():
            rows, columns = np.nonzero(found == number)
            assert info["area"] == len(rows)
            x, y, width, height = info["bbox"]
            assert (x, y, x + width - 1, y + height - 1) == (columns.min(), rows.min(), columns.max(), rows.max())
        maps.append(found)
        classes.append({number: info["category_id"] for number, info in infos.items()})
    return np.stack(maps), classes


def truth_of(clip: list[Frame]) -> np.ndarray:
    maps = np.zeros((FRAMES, *SIZE), dtype=np.int64)
    for time, frame in enumerate(clip):
        for number, mask in zip(frame.objects.tolist(), frame.truth, strict=True):
            maps[time][mask.decode()] = number
    return maps


def pixels_of(maps: np.ndarray) -> dict[int, set[int]]:
    """Each id's pixels, by their places in all frames."""
    found: dict[int, set[int]] = defaultdict(set)
    for place, number in enumerate(maps.ravel().tolist()):
        if number:
            found[number].add(place)
    return found


def naive_vpq(truth: np.ndarray, found: np.ndarray) -> float:
    """Kim et al. 2020, section 3.2, for one class."""
    qualities = []
    for length in (1, 5, 10, 15):
        overlap, true, false, missed = 0.0, 0, 0, 0
        for begin in range(len(truth) - length + 1):
            tubes, said = pixels_of(truth[begin : begin + length]), pixels_of(found[begin : begin + length])
            taken = set()
            for tube in tubes.values():
                best = [(len(tube & other) / len(tube | other), name) for name, other in said.items()]
                quality, name = max(best, default=(0.0, 0))
                if quality > 0.5:
                    overlap, true = overlap + quality, true + 1
                    taken.add(name)
                else:
                    missed += 1
            false += len(said.keys() - taken)
        qualities.append(overlap / (true + false / 2 + missed / 2))
    return sum(qualities) / 4


def naive_stq(truth: np.ndarray, found: np.ndarray) -> float:
    """Weber et al. 2021, equations 1 to 5, for one class of things and the rest."""
    tubes, said = pixels_of(truth), pixels_of(found)
    association = 0.0
    for tube in tubes.values():
        inner = sum(len(tube & other) * len(tube & other) / len(tube | other) for other in said.values())
        association += inner / len(tube) / len(tubes)
    classes = [((truth > 0) == thing, (found > 0) == thing) for thing in (False, True)]
    segmentation = sum((a & b).sum() / (a | b).sum() for a, b in classes) / 2
    return float((association * segmentation) ** 0.5)


def test_vipseg_is_read_and_scored_alike(clip: list[Frame], ids: list[np.ndarray], saved: Path) -> None:
    found, classes = read(saved)
    assert {name for own in classes for name in own.values()} == {1}
    for time, (frame, own) in enumerate(zip(clip, ids, strict=True)):
        assert np.array_equal(found[time], np.concatenate([[0], own])[frame.found.map])
    truth = truth_of(clip)
    assert vpq(clip, ids) == pytest.approx(naive_vpq(truth, found))
    assert stq(clip, ids) == pytest.approx(naive_stq(truth, found))
    assert 0.3 < vpq(clip, ids) < 0.95
