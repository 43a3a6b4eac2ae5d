"""One id per object through a clip: segments of a frame are matched with the tracks so far, without training.

A track and a segment fit as much as their masks overlap, the track's moved on by its last motion, and as the
network's query embeddings agree (MinVIS, arXiv 2208.02245: the queries of Mask2Former name the same object from frame
to frame). The best matching of all together is Hungarian. A track that finds no segment is remembered for a while, so
that an object hidden behind another keeps its id. A track's class is what most of its frames say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segcli.codecs.rle import RLE
from segcli.segments import Segments

_LEAST = 0.1  # of fit, below which a segment begins a track of its own
_LEAST_ALIKE = 0.25  # the same where it is mostly the embeddings' agreement
_APPEARANCE = 0.4  # share of the embeddings' agreement in the fit, where there are embeddings
_SMOOTHING = 0.8  # of a track's embedding, that stays with every frame
_FAR = 1.5  # diagonals of its box, beyond which an object that was lost is not looked for
_NEAR = 0.5  # diagonals, within which what overlaps nothing may still be the object …
_ALIKE = 0.4  # … if the smaller area is at least this share of the larger
_OTHER = 0.4  # of its fit that a segment keeps whose class is not the track's
_PACE = 0.5  # of a new motion in an object's speed


@dataclass
class Track:
    """One object and its history."""

    id: int
    mask: RLE
    box: np.ndarray  # float [4], x0, y0, x1, y1
    seen: int  # number of the last frame that shows it
    speed: np.ndarray = field(default_factory=lambda: np.zeros(2))  # of the box's centre, pixels a frame
    votes: Counter[int] = field(default_factory=Counter)  # class index -> summed scores
    embedding: np.ndarray | None = None  # unit length
    is_new: bool = True  # seen in one frame alone, so that its speed is a guess

    @property
    def label(self) -> int:
        """The class that most of its frames say, weighted by their scores."""
        return self.votes.most_common(1)[0][0]

    def state(self) -> dict[str, Any]:
        """The track as a JSON value, exactly."""
        embedding = None if self.embedding is None else [self.embedding.dtype.name, self.embedding.tolist()]
        state = {
            "id": self.id,
            "mask": self.mask.to_coco(),
            "box": self.box.tolist(),
            "seen": self.seen,
            "is_new": self.is_new,
        }
        return state | {"speed": self.speed.tolist(), "votes": list(self.votes.items()), "embedding": embedding}

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Track:
        """The track of a `state`."""
        own = dict(state)
        own |= {"mask": RLE.from_coco(own["mask"]), "box": np.array(own["box"]), "speed": np.array(own["speed"])}
        votes: Counter[int] = Counter()
        votes.update(dict(own["votes"]))
        if own["embedding"] is not None:
            kind, values = own["embedding"]
            own["embedding"] = np.array(values, dtype=kind)
        return cls(**own | {"votes": votes})


class Tracker:
    """Assigns ids, from 1 on, to the segments of one frame after another.

    memory: frames for which an unseen object keeps its id.
    """

    def __init__(self, memory: int = 30) -> None:
        self._memory = memory
        self._tracks: list[Track] = []
        self._next = 1
        self._frame = -1
        self._stuff: dict[int, int] = {}  # class index -> id: a class of stuff is one segment

    def update(self, segments: Segments, embeddings: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The ids of the next frame's segments, and their classes by vote -> int64 [N], int64 [N].

        embeddings: float [N, C], of each segment's query; None where the model has none.
        """
        self._frame += 1
        self._tracks = [track for track in self._tracks if self._frame - track.seen <= self._memory]
        ids, labels = np.zeros(len(segments), dtype=np.int64), segments.labels.copy()
        isthing = np.array(segments.isthing(), dtype=bool)
        if segments.task == "semantic":
            isthing[:] = False
        for index in np.flatnonzero(~isthing).tolist():
            label = int(labels[index])
            if label not in self._stuff:
                self._stuff[label] = self._take_id()
            ids[index] = self._stuff[label]
        things = np.flatnonzero(isthing)
        rles, boxes = segments.to_rles(), segments.boxes().astype(np.float64)
        seen = [_unit(embeddings[i]) if embeddings is not None else None for i in things.tolist()]
        partners = self._match([rles[i] for i in things], boxes[things], segments.labels[things], seen)
        pan = self._pan(partners.values())
        for place, index in enumerate(things.tolist()):
            track = partners.get(place)
            if track is None:
                track = Track(self._take_id(), rles[index], boxes[index], self._frame, pan)
                self._tracks.append(track)
            self._move(track, rles[index], boxes[index], seen[place])
            score = float(segments.scores[index])
            track.votes[int(segments.labels[index])] += score if np.isfinite(score) else 1  # type: ignore[assignment]
            ids[index], labels[index] = track.id, track.label
        return ids, labels

    def state(self) -> dict[str, Any]:
        """All that the next frames depend on, as a JSON value."""
        return {
            "frame": self._frame,
            "next": self._next,
            "stuff": list(self._stuff.items()),
            "tracks": [track.state() for track in self._tracks],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on after the frame of a `state`."""
        self._frame, self._next = state["frame"], state["next"]
        self._stuff = dict(state["stuff"])
        self._tracks = [Track.of_state(track) for track in state["tracks"]]

    def _take_id(self) -> int:
        self._next += 1
        return self._next - 1

    def _move(self, track: Track, mask: RLE, box: np.ndarray, embedding: np.ndarray | None) -> None:
        passed = self._frame - track.seen
        if passed:
            speed = _motion(track.box, box) / passed
            track.speed = speed if track.is_new else (1 - _PACE) * track.speed + _PACE * speed
            track.is_new = False
        track.mask, track.box, track.seen = mask, box, self._frame
        if embedding is not None:
            before = track.embedding
            track.embedding = embedding if before is None else _unit(_SMOOTHING * before + (1 - _SMOOTHING) * embedding)

    def _match(
        self, masks: list[RLE], boxes: np.ndarray, labels: np.ndarray, embeddings: list[np.ndarray | None]
    ) -> dict[int, Track]:
        """The track of each segment that has one."""
        if not self._tracks or not masks:
            return {}
        from scipy.optimize import linear_sum_assignment

        fits = np.zeros((len(self._tracks), len(masks)))
        areas = np.array([mask.area for mask in masks])
        near_fits = np.zeros_like(fits)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        for row, near_row, track in zip(fits, near_fits, self._tracks, strict=True):
            passed = self._frame - track.seen
            shift = np.rint(track.speed * passed).astype(np.int64)
            moved = track.box + np.tile(shift, 2)
            overlap = _box_iou(moved, boxes)
            near = np.flatnonzero(overlap > 0)
            if len(near):
                mask = _shifted(track.mask, track.box, shift)
                common = mask.common([masks[i] for i in near.tolist()])
                row[near] = common / np.maximum(mask.area + areas[near] - common, 1)
            distance = np.linalg.norm(centres - _centre(moved), axis=1)
            diagonal = float(np.linalg.norm(track.box[2:] - track.box[:2]))
            ratio = np.minimum(areas, track.mask.area) / np.maximum(np.maximum(areas, track.mask.area), 1)
            near_row[:] = np.where(ratio >= _ALIKE, np.maximum(0, 1 - distance / (_NEAR * diagonal + 1)) * ratio, 0)
            if track.embedding is None:
                continue
            alike = np.array([0.0 if e is None else max(0.0, float(e @ track.embedding)) for e in embeddings])
            reach = _FAR * diagonal * (1 + 0.1 * (passed - 1))
            both = (1 - _APPEARANCE) * row + _APPEARANCE * alike**4
            row[:] = np.where((distance < reach) & ((row >= _LEAST) | (both >= _LEAST_ALIKE)), both, 0)
        other = np.array([track.label for track in self._tracks])[:, None] != labels
        fits[other] *= _OTHER
        fits[fits < _LEAST] = 0
        near_fits[other] = 0
        partners: dict[int, Track] = {}
        for scores in (fits, near_fits):
            rows, columns = linear_sum_assignment(scores, maximize=True)
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
                if scores[row, column] > 0:
                    partners[column] = self._tracks[row]
                    near_fits[row], near_fits[:, column] = 0, 0
        return partners

    def _pan(self, tracks: Collection[Track]) -> np.ndarray:
        """What a new object is taken to move by: the median of those that are known, as when the camera moves."""
        speeds = [track.speed for track in tracks if not track.is_new]
        return np.median(speeds, axis=0) if speeds else np.zeros(2)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _motion(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How far an object has moved (x, y). What is hidden in part moves one of its edges alone: the other one tells."""
    first, last = after[:2] - before[:2], after[2:] - before[2:]
    least = np.where(np.abs(first) < np.abs(last), first, last)
    sides = before[2:] - before[:2]
    whole = np.abs(last - first) <= 0.2 * sides + 2
    return np.where(whole, (first + last) / 2, least)


def _centre(box: np.ndarray) -> np.ndarray:
    return (box[:2] + box[2:]) / 2


def _box_iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = sides.clip(min=0).prod(1)
    both = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1)
    return common / np.maximum(both - common, 1e-9)


def _shifted(mask: RLE, box: np.ndarray, shift: np.ndarray) -> RLE:
    """A mask moved by whole pixels (x, y); what leaves the frame is lost."""
    if not shift.any() or not mask.area:
        return mask
    from segcli.codecs.rle import encode

    height, width = mask.size
    x, y, crop = mask.decode_crop()
    x, y = x + int(shift[0]), y + int(shift[1])
    crop = crop[max(0, -y) : max(0, height - y), max(0, -x) : max(0, width - x)]
    return encode(crop, mask.size, (max(0, x), max(0, y))) if crop.size else encode(np.zeros(mask.size, dtype=bool))
