"""Ids of nuclei that drift, cross and hide, by segcli's tracker and by greedy mask overlap, from their true masks.

    python benchmarks/tracking.py LABELS/ --frames 60

LABELS is a folder of instance maps (0 = background, 1 … n = objects), such as a dataset's labels. Each object of a map
moves with a speed of its own; for a while in the middle a band hides what it covers. Printed for each tracker: id
switches (an object that has another id than when it was last seen), IDF1 (the share of detections whose id is the one
that its object and its track agree on most), and milliseconds a frame.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from segcli.codecs.label_png import read_label_map
from segcli.codecs.rle import RLE, encode, shared_pixels
from segcli.inference.video.tracking import Tracker
from segcli.segments import Segments
from segcli.types import Label, LabelSet

LABELS = LabelSet((Label(1, "nucleus", True),))


class Greedy:
    """Each segment takes the id of the last frame's mask that it overlaps most, the best pairs first."""

    def __init__(self) -> None:
        self._last: list[tuple[int, RLE]] = []
        self._next = 1

    def update(self, segments: Segments) -> tuple[np.ndarray, np.ndarray]:
        """As `Tracker.update`."""
        rles = segments.to_rles()
        ids = np.zeros(len(rles), dtype=np.int64)
        common = shared_pixels([mask for _, mask in self._last], rles).astype(float)
        for row, (_, mask) in zip(common, self._last, strict=True):
            row /= np.maximum(mask.area + segments.areas() - row, 1)
        while common.size and common.max() > 0.25:
            row, column = np.unravel_index(common.argmax(), common.shape)
            ids[column] = self._last[row][0]
            common[row], common[:, column] = 0, 0
        for index in np.flatnonzero(ids == 0):
            ids[index], self._next = self._next, self._next + 1
        self._last = list(zip(ids.tolist(), rles, strict=True))
        return ids, segments.labels


def clip(path: Path, frames: int) -> Iterator[tuple[Segments, list[int]]]:
    """Frames of a map whose objects move, and which object each segment is."""
    ids = read_label_map(path).astype(np.int64)
    height, width = ids.shape
    random = np.random.default_rng(0)
    objects = [number for number in np.unique(ids).tolist() if number][:100]
    crops = {number: np.argwhere(ids == number) for number in objects}
    speeds = {number: random.normal(0, 2.5, 2) for number in objects}
    for frame in range(frames):
        rles, seen = [], []
        for number in random.permutation(objects).tolist():
            places = np.rint(crops[number] + speeds[number] * frame).astype(np.int64)
            inside = ((places >= 0) & (places < (height, width))).all(1)
            if frames // 3 <= frame < frames // 3 + 8:
                inside &= (places[:, 1] < width * 0.4) | (places[:, 1] > width * 0.6)
            mask = np.zeros((height, width), dtype=bool)
            mask[tuple(places[inside].T)] = True
            if mask.any():
                rles.append(encode(mask))
                seen.append(number)
        scores = np.full(len(rles), 0.9, dtype=np.float32)
        yield Segments("instance", (height, width), LABELS, np.zeros(len(rles), int), scores, rles=tuple(rles)), seen


def main() -> None:
    """Print one line a tracker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--clips", type=int, default=10)
    parser.add_argument("--frames", type=int, default=60)
    options = parser.parse_args()
    files = sorted(options.labels.glob("*.png"))[: options.clips]
    for name, make in (("segcli", Tracker), ("greedy mask overlap", Greedy)):
        switches = agreeing = detections = 0
        spent = 0.0
        for file in files:
            tracker, last, pairs = make(), dict[int, int](), dict[tuple[int, int], int]()
            for segments, objects in clip(file, options.frames):
                start = time.process_time()
                ids, _ = tracker.update(segments)
                spent += time.process_time() - start
                for object_, track in zip(objects, ids.tolist(), strict=True):
                    switches += last.get(object_, track) != track
                    last[object_] = track
                    pairs[object_, track] = pairs.get((object_, track), 0) + 1
            rows = {number: place for place, number in enumerate(sorted({pair[0] for pair in pairs}))}
            columns = {number: place for place, number in enumerate(sorted({pair[1] for pair in pairs}))}
            table = np.zeros((len(rows), len(columns)))
            for (object_, track), count in pairs.items():
                table[rows[object_], columns[track]] = count
            agreeing += table[linear_sum_assignment(table, maximize=True)].sum()
            detections += table.sum()
        milliseconds = 1000 * spent / (len(files) * options.frames)
        print(
            f"{name}: {switches} id switches, IDF1 {agreeing / detections:.3f}, {milliseconds:.1f} ms a frame",
            flush=True,
        )


if __name__ == "__main__":
    main()
