"""Ids of moving objects, from the masks of clips with a known truth: segcli, greedy mask overlap and ByteTrack.

    pip install trackeval; pip install --no-deps trackers
    python benchmarks/tracking.py --nuclei LABELS/ --photos PHOTOS/ --frames 40

Clips are rendered from pictures with their instance masks (0 = background, 1 … n = objects): nuclei that drift, each
with a speed of its own, cross, are hidden by a band for a while, and divide; and photos with a camera that pans, zooms
and cuts to another place. Every tracker gets the same masks, of which some are missing and the edges of the others
uncertain, as a network's are; truth and masks never meet before the metrics. Printed for each kind of clip and
tracker: HOTA and IDF1 by trackeval, with mask overlap as similarity; id switches; VPQ over windows of 1, 5, 10 and 15
frames; STQ; milliseconds a frame.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segcli.codecs.label_png import read_label_map
from segcli.codecs.rle import RLE, encode, from_runs, shared_pixels
from segcli.inference.video.tracking import Tracker
from segcli.segments import Segments
from segcli.types import Label, LabelSet

LABELS = LabelSet((Label(1, "object", True),))
MOST = 100  # objects of a picture


@dataclass
class Frame:
    """What a frame shows: the true masks with their objects' numbers, and the masks that trackers get."""

    truth: list[RLE]
    objects: np.ndarray  # int64 [N]
    found: Segments


# --------------------------------------------------------------------------------------------------------- the clips


def nuclei(path: Path, frames: int) -> Iterator[list[tuple[int, np.ndarray]]]:
    """(object, bool [H, W]) of each frame: objects drift, divide once, and are hidden by a band in the middle."""
    ids = read_label_map(path).astype(np.int64)
    size = ids.shape
    random = np.random.default_rng(0)
    objects = [number for number in np.unique(ids).tolist() if number][:MOST]
    crops = {number: np.argwhere(ids == number) for number in objects}
    speeds = {number: random.normal(0, 2.0, 2) for number in objects}
    births = dict.fromkeys(objects, 0)
    for number in objects[::8]:  # some divide: the halves are new objects that move apart
        crop, when = crops[number], int(random.integers(frames // 4, frames))
        upper = crop[:, 0] < np.median(crop[:, 0])
        for half, push in ((upper, -1.5), (~upper, 1.5)):
            new = 10_000 + len(crops)
            crops[new], births[new] = crop[half], when
            speeds[new] = speeds[number] + (push, 0)
        births[number] = -when
    for frame in range(frames):
        shown = []
        for number, crop in crops.items():
            born = births[number]
            if (born > 0 and frame < born) or (born < 0 and frame >= -born):
                continue
            moved = speeds[number] * frame + np.sin(frame / 4 + number) * 1.5
            places = np.rint(crop + moved).astype(np.int64)
            inside = ((places >= 0) & (places < size)).all(1)
            if frames // 3 <= frame < frames // 3 + 6:
                inside &= (places[:, 1] < size[1] * 0.4) | (places[:, 1] > size[1] * 0.6)
            mask = np.zeros(size, dtype=bool)
            mask[tuple(places[inside].T)] = True
            if mask.sum() > 8:
                shown.append((number, mask))
        yield shown


def camera(path: Path, frames: int) -> Iterator[list[tuple[int, np.ndarray]]]:
    """(object, bool [H, W]) of each frame, seen by a camera that pans, zooms and, in the middle, cuts away and back."""
    ids = read_label_map(path).astype(np.int64)
    if ids.ndim == 3:
        ids = ids @ np.array([1, 256, 65_536])
    height, width = ids.shape
    for frame in range(frames):
        share = frame / max(1, frames - 1)
        scale = 0.6 - 0.25 * np.sin(np.pi * share)
        centre = 0.3 + 0.4 * share
        if frames // 2 <= frame < frames // 2 + 4:
            centre = 1 - centre
        h, w = int(height * scale), int(width * scale)
        y, x = int((height - h) * 0.5), int((width - w) * centre)
        rows = y + (np.arange(240) * h / 240).astype(int)
        columns = x + (np.arange(320) * w / 320).astype(int)
        seen = ids[np.ix_(rows, columns)]
        present, areas = np.unique(seen, return_counts=True)
        yield [(int(n), seen == n) for n, area in zip(present, areas, strict=True) if n and 30 < area < seen.size / 2]


def observed(shown: list[tuple[int, np.ndarray]], random: np.random.Generator) -> Frame:
    """The masks as a network would find them: one in twenty is missing, edges are uncertain by a pixel or two."""
    import cv2

    masks, scores = [], []
    for place in random.permutation(len(shown)).tolist():
        if random.random() < 0.05:
            continue
        mask = shown[place][1].astype(np.uint8)
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
        mask = (cv2.erode, cv2.dilate)[int(random.integers(2))](mask, kernel, iterations=int(random.integers(0, 3)))
        if mask.any():
            masks.append(encode(mask))
            scores.append(random.uniform(0.65, 1))
    size = shown[0][1].shape if shown else (1, 1)
    found = Segments(
        "instance", size, LABELS, np.zeros(len(masks), int), np.array(scores, np.float32), rles=tuple(masks)
    )
    return Frame([encode(mask) for _, mask in shown], np.array([number for number, _ in shown], dtype=np.int64), found)


# ------------------------------------------------------------------------------------------------------ the trackers


class Greedy:
    """Each segment takes the id of the last frame's mask that it overlaps most, the best pairs first."""

    def __init__(self) -> None:
        self._last: list[tuple[int, RLE]] = []
        self._next = 1

    def update(self, segments: Segments) -> tuple[np.ndarray, np.ndarray]:
        """As `Tracker.update`."""
        rles = segments.to_rles()
        ids = np.zeros(len(rles), dtype=np.int64)
        common = overlaps([mask for _, mask in self._last], rles)
        while common.size and common.max() > 0.25:
            row, column = np.unravel_index(common.argmax(), common.shape)
            ids[column] = self._last[row][0]
            common[row], common[:, column] = 0, 0
        for index in np.flatnonzero(ids == 0):
            ids[index], self._next = self._next, self._next + 1
        self._last = list(zip(ids.tolist(), rles, strict=True))
        return ids, segments.labels


class Byte:
    """ByteTrack of the package trackers, on the masks' boxes. What it gives no id (yet) has one of its own."""

    def __init__(self) -> None:
        from trackers import ByteTrackTracker

        self._tracker = ByteTrackTracker(minimum_consecutive_frames=1)
        self._next = 1_000_000

    def update(self, segments: Segments) -> tuple[np.ndarray, np.ndarray]:
        """As `Tracker.update`."""
        import supervision

        detections = supervision.Detections(
            xyxy=segments.boxes().astype(np.float32),
            confidence=segments.scores,
            class_id=np.zeros(len(segments), dtype=int),
            data={"place": np.arange(len(segments))},
        )
        tracked = self._tracker.update(detections)
        ids = np.zeros(len(segments), dtype=np.int64)
        for place, id_ in zip(tracked.data.get("place", ()), tracked.tracker_id, strict=True):
            ids[place] = max(0, int(id_) + 1)
        for index in np.flatnonzero(ids == 0):
            ids[index], self._next = self._next, self._next + 1
        return ids, segments.labels


# ------------------------------------------------------------------------------------------------------- the metrics


def overlaps(first: list[RLE] | tuple[RLE, ...], second: list[RLE] | tuple[RLE, ...]) -> np.ndarray:
    """Intersection over union of each pair, float [M, N]."""
    common = shared_pixels(first, second).astype(float)
    areas = [np.array([mask.area for mask in masks], dtype=float) for masks in (first, second)]
    return common / np.maximum(areas[0][:, None] + areas[1][None] - common, 1)


def scored(clip: list[Frame], ids: list[np.ndarray]) -> dict[str, float]:
    """HOTA, IDF1, id switches, VPQ and STQ of one clip, to be averaged or summed over clips."""
    from trackeval.metrics import CLEAR, HOTA, Identity

    numbers, similarities = {}, []
    for frame in clip:
        similarities.append(overlaps(frame.truth, frame.found.to_rles()))
    for name, values in (("gt", [frame.objects for frame in clip]), ("tracker", ids)):
        known, places = np.unique(np.concatenate(values), return_inverse=True)
        ends = np.cumsum([0, *map(len, values)])
        numbers[f"{name}_ids"] = [places[a:b] for a, b in itertools.pairwise(ends)]
        numbers[f"num_{name}_ids"], numbers[f"num_{name}_dets"] = len(known), len(places)
    data: dict[str, Any] = numbers | {"similarity_scores": similarities, "num_timesteps": len(clip)}
    hota = float(np.mean(HOTA().eval_sequence(data)["HOTA"]))
    switches = int(CLEAR({"PRINT_CONFIG": False}).eval_sequence(data)["IDSW"])
    idf1 = float(Identity({"PRINT_CONFIG": False}).eval_sequence(data)["IDF1"])
    return {"HOTA": hota, "IDF1": idf1, "switches": switches, "VPQ": vpq(clip, ids), "STQ": stq(clip, ids)}


def vpq(clip: list[Frame], ids: list[np.ndarray]) -> float:
    """Video panoptic quality of one class (Kim et al. 2020): PQ of the tubes in windows of 1, 5, 10 and 15 frames."""
    qualities = []
    for length in (1, 5, 10, 15):
        overlap, true, false, missed = 0.0, 0, 0, 0
        for begin in range(len(clip) - length + 1):
            window = range(begin, begin + length)
            truth = tubes([(clip[t].objects.tolist(), clip[t].truth) for t in window])
            found = tubes([(ids[t].tolist(), list(clip[t].found.to_rles())) for t in window])
            pairs = overlaps(truth, found)
            hits = pairs > 0.5  # at most one a row and column, where masks do not overlap much
            overlap += float(pairs[hits].sum())
            true += int(hits.sum())
            missed += int((~hits.any(1)).sum())
            false += int((~hits.any(0)).sum())
        qualities.append(overlap / max(true + 0.5 * (false + missed), 1e-9))
    return float(np.mean(qualities))


def stq(clip: list[Frame], ids: list[np.ndarray]) -> float:
    """Segmentation and tracking quality (Weber et al. 2021) of one class of things over nothing.

    The geometric mean of how well pixels keep their object's id and of the mean IoU of the class and of the rest.
    """
    truth = tubes([(frame.objects.tolist(), frame.truth) for frame in clip])
    found = tubes([(own.tolist(), list(frame.found.to_rles())) for own, frame in zip(ids, clip, strict=True)])
    common = shared_pixels(truth, found).astype(float)
    areas = np.array([mask.area for mask in truth], dtype=float)
    association = float(((common * overlaps(truth, found)).sum(1) / areas).mean()) if truth else 0.0
    table = np.zeros((2, 2))  # pixels by whether they are of an object, in truth and as found
    for frame in clip:
        true, said = (
            np.any([mask.decode() for mask in masks], axis=0) if masks else np.zeros(frame.found.size, dtype=bool)
            for masks in (frame.truth, frame.found.to_rles())
        )
        table += np.bincount((2 * true + said).ravel(), minlength=4).reshape(2, 2)
    union = table.sum(0) + table.sum(1) - table.diagonal()
    return float(np.sqrt(association * np.mean(table.diagonal()[union > 0] / union[union > 0])))


def tubes(frames: list[tuple[list[int], list[RLE]]]) -> list[RLE]:
    """The masks of each id over some frames, one frame behind the other in one long mask."""
    size = next((masks[0].size for _, masks in frames if masks), (1, 1))
    pixels = size[0] * size[1]
    runs: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for place, (ids, masks) in enumerate(frames):
        for id_, mask in zip(ids, masks, strict=True):
            starts, stops = mask.runs()
            runs.setdefault(id_, []).append((starts + place * pixels, stops + place * pixels))
    whole = (size[0], size[1] * len(frames))
    return [from_runs(whole, *(np.concatenate(ends) for ends in zip(*own, strict=True))) for own in runs.values()]


def main() -> None:
    """Print one line a kind of clip and tracker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nuclei", type=Path, help="folder of instance maps")
    parser.add_argument("--photos", type=Path, help="folder of COCO panoptic PNGs")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--frames", type=int, default=40)
    options = parser.parse_args()
    for kind, folder, render in (("nuclei", options.nuclei, nuclei), ("camera", options.photos, camera)):
        files = sorted(folder.glob("*.png"))[: options.clips] if folder else []
        clips = []
        for number, file in enumerate(files):
            random = np.random.default_rng(number)
            clips.append([observed(shown, random) for shown in render(file, options.frames) if shown])
        for name, make in (("segcli", Tracker), ("greedy mask overlap", Greedy), ("ByteTrack", Byte)) if clips else ():
            results, spent, frames = [], 0.0, 0
            for clip in clips:
                tracker, ids = make(), []
                for frame in clip:
                    start = time.process_time()
                    ids.append(tracker.update(frame.found)[0])
                    spent += time.process_time() - start
                frames += len(clip)
                results.append(scored(clip, ids))
            mean = {key: np.mean([result[key] for result in results]) for key in ("HOTA", "IDF1", "VPQ", "STQ")}
            switches = sum(int(result["switches"]) for result in results)
            words = ", ".join(f"{key} {value:.3f}" for key, value in mean.items())
            print(
                f"{kind}, {name}: {words}, {switches} id switches, {1000 * spent / frames:.1f} ms a frame", flush=True
            )


if __name__ == "__main__":
    main()
