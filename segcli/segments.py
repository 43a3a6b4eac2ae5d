"""The one result type: what a model found in one image, at the image's own size. Numpy only.

Panoptic and semantic results are an id map (every pixel belongs to at most one segment), instances are run-length
masks (they may overlap). A dense [N, H, W] stack exists only if a caller asks for each mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from segcli.codecs.rle import RLE, encode, encode_map, from_runs
from segcli.errors import UsageError
from segcli.types import LabelSet, Task

_PART = 1e-3  # of a pixel; rounding makes less of a border that lies between two


class SoftMasks(Protocol):
    """Where the masks of segments end, finer than a pixel."""

    def crop(self, index: int, box: tuple[int, int, int, int]) -> np.ndarray:
        """Logits of one segment, float32 [h, w], in the pixels x0, y0, x1, y1 of the image; 0 where it ends."""

    def filter(self, keep: np.ndarray) -> SoftMasks:
        """Those of some segments, bool [N]."""


@dataclass(frozen=True, eq=False)
class Segments:
    """N segments of one image.

    task: which question this answers.
    size: (H, W) of the image, in pixels.
    label_set: the model's classes; `labels` indexes it.
    labels: int64 [N] class indices (not dataset ids: see `category_ids`).
    scores: float [N], NaN for semantic results, which have none. Panoptic and instance results come in descending
        order of score.
    map: uint16 or int32 [H, W], value i + 1 = segment i, 0 = nothing (panoptic, semantic); None for instances.
    rles: one RLE per instance; None for panoptic and semantic.
    best_score: the best class probability seen before any threshold, to tell "almost" from "nothing".
    given_boxes: float [N, 4] x, y, width, height that another tool wrote beside its masks, or that the answer is made
        of ("detect"); None = those of the masks.
    """

    task: Task
    size: tuple[int, int]
    label_set: LabelSet
    labels: np.ndarray
    scores: np.ndarray
    map: np.ndarray | None = None
    rles: tuple[RLE, ...] | None = None
    best_score: float = float("nan")
    given_boxes: np.ndarray | None = None
    soft: SoftMasks | None = None  # the masks' logits, where they were asked for
    queries: np.ndarray | None = None  # int64 [N], the network's query behind each segment, where one was kept

    def __post_init__(self) -> None:
        if (self.map is None) == (self.rles is None):
            raise ValueError("Segments take an id map or RLEs, exactly one of them")
        if self.map is not None and self.map.shape != tuple(self.size):
            raise ValueError(f"id map is {self.map.shape}, the image {self.size}")
        if self.rles is not None and len(self.rles) != len(self.labels):
            raise ValueError(f"{len(self.rles)} masks for {len(self.labels)} labels")
        if len(self.scores) != len(self.labels):
            raise ValueError(f"{len(self.scores)} scores for {len(self.labels)} labels")

    @classmethod
    def of_boxes(
        cls,
        size: tuple[int, int],
        label_set: LabelSet,
        labels: np.ndarray,
        scores: np.ndarray,
        xywh: np.ndarray,
        best_score: float = float("nan"),
    ) -> Segments:
        """Boxes alone, float [N, 4] x, y, width, height in pixels. The masks are their pixels: what they cover in whole
        or in part (of which a thousandth does not count), inside the image.
        """
        height, width = size
        x0, y0 = (
            np.clip(np.floor(xywh[:, i] + _PART), 0, side).astype(np.int64) for i, side in ((0, width), (1, height))
        )
        x1, y1 = (
            np.clip(np.ceil(xywh[:, i] + xywh[:, i + 2] - _PART), 0, side).astype(np.int64)
            for i, side in ((0, width), (1, height))
        )
        rles = []
        for left, top, right, bottom in zip(x0, y0, x1, y1, strict=True):
            starts = np.arange(left, right, dtype=np.int64) * height + top if bottom > top else np.zeros(0, np.int64)
            rles.append(from_runs(size, starts, starts + max(0, int(bottom - top))))
        return cls("detect", size, label_set, labels, scores, rles=tuple(rles), best_score=best_score, given_boxes=xywh)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        shown = ", ".join(self._lines()[:5]) + (", …" if len(self) > 5 else "")
        return (
            f"<Segments: {self.task}, {self.size[1]}×{self.size[0]}, {len(self)} found{': ' if shown else ''}{shown}>"
        )

    def __str__(self) -> str:
        return "\n".join([f"{self.task}, {self.size[1]}×{self.size[0]}, {len(self)} found", *self._lines(areas=True)])

    def _lines(self, *, areas: bool = False) -> list[str]:
        """A few words a segment."""
        scores = ["" if np.isnan(score) else f" {score:.2f}" for score in self.scores.tolist()]
        pixels = [f"  {area:,} px" for area in self.areas().tolist()] if areas else [""] * len(self)
        return [f"{name}{score}{area}" for name, score, area in zip(self.names(), scores, pixels, strict=True)]

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        from html import escape

        heads = ("id", "category_name", "score", "area", "x", "y", "width", "height")
        rows = ["".join(f"<td>{escape(str(row[head]))}</td>" for head in heads) for row in self.to_rows()]
        head = "".join(f"<th>{name}</th>" for name in heads)
        return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"

    def _repr_png_(self) -> bytes:
        """The id map in colours, for notebooks."""
        from segcli.codecs.png import encode_png

        turns = np.arange(len(self) + 1) * 0.618034 % 1  # golden steps around the wheel: neighbours differ
        wheel = 0.5 + 0.45 * np.cos(2 * np.pi * (turns[:, None] - np.array([0, 1, 2]) / 3))
        colours = (255 * wheel).astype(np.uint8)
        colours[0] = 255
        return encode_png(self.id_map(), lambda rows: colours[rows])

    # ------------------------------------------------------------------------------------------------- pixels

    def mask(self, index: int) -> np.ndarray:
        """The mask of one segment, bool [H, W]."""
        if self.rles is not None:
            return self.rles[index].decode()
        assert self.map is not None
        return self.map == index + 1

    def masks(self) -> Iterator[np.ndarray]:
        """Every mask in turn, bool [H, W]."""
        return (self.mask(index) for index in range(len(self)))

    def crop(self, index: int) -> tuple[int, int, np.ndarray]:
        """(x, y, bool [h, w]): one mask inside its own box, at a cost of the box, not of the image."""
        if self.rles is not None:
            return self.rles[index].decode_crop()
        assert self.map is not None
        x0, y0, x1, y1 = (int(v) for v in self.boxes()[index])
        return x0, y0, self.map[y0:y1, x0:x1] == index + 1

    def ids(self) -> np.ndarray:
        """[H, W] as `id_map`, of whatever type and kept for the next call: not to be changed."""
        return self.map if self.map is not None else self._painted

    def id_map(self) -> np.ndarray:
        """int32 [H, W], value i + 1 = segment i, 0 = nothing; where instances overlap the higher score wins."""
        return self.ids().astype(np.int32)

    @cached_property
    def _painted(self) -> np.ndarray:
        ids = np.zeros(self.size, dtype=np.int32)
        for index in np.argsort(self.scores, kind="stable"):
            x, y, mask = self.crop(index)
            ids[y : y + mask.shape[0], x : x + mask.shape[1]][mask] = index + 1
        return ids

    @cached_property
    def _row_runs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(id, y, x0, x1) of every horizontal run of the id map: one cheap pass that areas and boxes share."""
        assert self.map is not None
        height, width = self.size
        if not height or not width:
            none = np.zeros(0, dtype=np.int64)
            return none, none, none, none
        edge = np.empty((height, width), dtype=bool)
        edge[:, 0] = True
        np.not_equal(self.map[:, 1:], self.map[:, :-1], out=edge[:, 1:])
        starts = np.flatnonzero(edge)
        y, x0 = np.divmod(starts, width)
        lengths = np.diff(starts, append=height * width)
        return self.map[y, x0].astype(np.int64), y, x0, x0 + lengths

    def areas(self) -> np.ndarray:
        """int64 [N] pixels of each segment."""
        if self.rles is not None:
            return np.array([rle.area for rle in self.rles], dtype=np.int64)
        ids, _, x0, x1 = self._row_runs
        return np.bincount(ids, weights=x1 - x0, minlength=len(self) + 1)[1 : len(self) + 1].astype(np.int64)

    def boxes(self) -> np.ndarray:
        """int64 [N, 4] tight boxes x0, y0, x1, y1 in pixels, x1 and y1 exclusive; zeros for an empty mask."""
        if self.rles is not None:
            xywh = np.array([rle.bbox for rle in self.rles], dtype=np.int64).reshape(-1, 4)
            return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        return self._map_boxes

    @cached_property
    def _map_boxes(self) -> np.ndarray:
        ids, y, x0, x1 = self._row_runs
        boxes = np.zeros((len(self) + 1, 4), dtype=np.int64)
        order = np.argsort(ids, kind="stable")
        present, first = np.unique(ids[order], return_index=True)
        if len(present):
            boxes[present, 0] = np.minimum.reduceat(x0[order], first)
            boxes[present, 1] = np.minimum.reduceat(y[order], first)
            boxes[present, 2] = np.maximum.reduceat(x1[order], first)
            boxes[present, 3] = np.maximum.reduceat(y[order], first) + 1
        return boxes[1:]

    # ------------------------------------------------------------------------------------------------- labels

    def names(self) -> list[str]:
        """Class name of each segment."""
        return [self.label_set[int(label)].name for label in self.labels]

    def category_ids(self) -> list[int]:
        """The dataset's own category id of each segment."""
        return [self.label_set[int(label)].id for label in self.labels]

    def isthing(self) -> list[bool]:
        """Whether each segment's class is countable."""
        return [self.label_set[int(label)].isthing for label in self.labels]

    # ------------------------------------------------------------------------------------------------ changes

    def filter(self, keep: np.ndarray) -> Segments:
        """The segments where `keep` (bool [N]) is true, renumbered."""
        keep = np.asarray(keep, dtype=bool)
        rles, id_map = None, None
        if self.rles is not None:
            rles = tuple(rle for rle, kept in zip(self.rles, keep, strict=True) if kept)
        elif self.map is not None:
            numbers = np.zeros(len(self) + 1, dtype=self.map.dtype)
            numbers[1:][keep] = np.arange(1, int(keep.sum()) + 1)
            id_map = numbers[self.map]
        return Segments(
            self.task,
            self.size,
            self.label_set,
            self.labels[keep],
            self.scores[keep],
            id_map,
            rles,
            self.best_score,
            None if self.given_boxes is None else self.given_boxes[keep],
            None if self.soft is None else self.soft.filter(keep),
            None if self.queries is None else self.queries[keep],
        )

    def sampled(self, size: tuple[int, int]) -> Segments:
        """The segments on another grid of `size` = (h, w), whose pixels take what lies at their centres.

        A segment that no centre falls into becomes empty.
        """
        rows, columns = (
            ((np.arange(new) + 0.5) * old / new).astype(np.int64) for new, old in zip(size, self.size, strict=True)
        )
        rles, id_map = None, None
        if self.rles is not None:
            rles = tuple(_sampled_crop(rle.decode_crop(), rows, columns) for rle in self.rles)
        elif self.map is not None:
            id_map = self.map[np.ix_(rows, columns)]
        return Segments(self.task, size, self.label_set, self.labels, self.scores, id_map, rles, self.best_score)

    def covered(self) -> np.ndarray:
        """float [N] the share of each mask that better segments cover in the id map; 0 for an empty mask."""
        areas = self.areas()
        seen = np.bincount(self.ids().ravel(), minlength=len(self) + 1)[1:]
        return np.where(areas > 0, 1 - seen / np.maximum(areas, 1), 0.0)

    def as_seen(self) -> Segments:
        """Each instance's part of the id map, under the same number: no pixel belongs to two of them, and the mask of
        one that better ones cover is empty."""
        if self.rles is None:
            return self
        return replace(self, rles=tuple(encode_map(self.ids(), len(self))), given_boxes=None, soft=None)

    def without_covered(self, least: float) -> Segments:
        """The instances of whose masks better ones that stay left at least this share; best first."""
        if self.rles is None or least <= 0:
            return self
        taken, keep = np.zeros(self.size, dtype=bool), np.zeros(len(self), dtype=bool)
        for index in np.argsort(self.scores, kind="stable")[::-1]:
            x, y, mask = self.crop(index)
            there = taken[y : y + mask.shape[0], x : x + mask.shape[1]]
            keep[index] = (mask & ~there).sum() >= least * mask.sum()
            if keep[index]:
                there |= mask
        return self.filter(keep)

    def to_rles(self) -> tuple[RLE, ...]:
        """One RLE per segment, made from the id map where there is one."""
        if self.rles is not None:
            return self.rles
        assert self.map is not None
        return tuple(encode_map(self.map, len(self)))

    def to_rows(self) -> list[dict[str, Any]]:
        """A plain row a segment, as for `pandas.DataFrame`: id, category_id and category_name, score (None where there
        is none), area and box in pixels, whether the box touches the image's border, and the centroid; of things with
        a mask also the shape, as scikit-image's `regionprops` defines it.
        """
        from segcli.codecs.shape_measures import measure

        rows: list[dict[str, Any]] = []
        facts = zip(self.isthing(), self.scores.tolist(), self.areas().tolist(), strict=True)
        for index, (isthing, score, area) in enumerate(facts):
            x0, y0, x1, y1 = self.boxes()[index].tolist()
            label = self.label_set[int(self.labels[index])]
            row = {"id": index + 1, "category_id": label.id, "category_name": label.name}
            row |= {"score": None if np.isnan(score) else round(score, 6), "area": area}
            row |= {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}
            row["border"] = bool(area) and (min(x0, y0) == 0 or x1 == self.size[1] or y1 == self.size[0])
            if area:
                x, y, mask = self.crop(index)
                shape = measure(mask, x, y)
                row |= {"centroid_x": shape.centroid[0], "centroid_y": shape.centroid[1]}
                if isthing and self.task in ("instance", "panoptic"):
                    row |= {"perimeter": shape.perimeter, "eccentricity": shape.eccentricity}
                    row |= {"orientation_rad": shape.orientation, "solidity": shape.solidity}
            rows.append(row)
        return rows

    def to_supervision(self) -> Any:
        """The same as `supervision.Detections`, with names under data["class_name"]; needs the package supervision."""
        try:
            import supervision
        except ImportError as error:
            raise UsageError("to_supervision needs the package supervision: pip install supervision") from error
        masks = np.stack(list(self.masks())) if len(self) else np.zeros((0, *self.size), dtype=bool)
        return supervision.Detections(
            xyxy=self.boxes().astype(np.float32),
            mask=None if self.task == "detect" else masks,
            confidence=None if np.isnan(self.scores).all() and len(self) else self.scores.astype(np.float32),
            class_id=np.array(self.category_ids(), dtype=int),
            data={"class_name": np.array(self.names(), dtype=str)},
        )

    def to_coco(self, image_id: int | str) -> list[dict[str, Any]]:
        """COCO results: image_id, category_id (the dataset's own), segmentation (RLE), score.

        Detections have a "bbox" and no "segmentation". Masks have no "bbox" unless one was given: where pycocotools
        finds one it takes the box's area for the mask's, which moves objects between small, medium and large. Semantic
        segments have no score and carry none, as in COCO's stuff format.
        """
        results: list[dict[str, Any]] = []
        for category, score, rle in zip(self.category_ids(), self.scores, self.to_rles(), strict=True):
            result: dict[str, Any] = {"image_id": image_id, "category_id": category}
            if self.task != "detect":
                result["segmentation"] = rle.to_coco()
            if not np.isnan(score):
                result["score"] = float(score)
            if self.given_boxes is not None:
                result["bbox"] = self.given_boxes[len(results)].tolist()
            elif self.task == "detect":
                result["bbox"] = list(rle.bbox)
            results.append(result)
        return results


def _sampled_crop(crop: tuple[int, int, np.ndarray], rows: np.ndarray, columns: np.ndarray) -> RLE:
    """A mask (x, y, bool [h, w]) at some rows and columns of its frame, at a cost of the mask, not of the frame."""
    x, y, mask = crop
    top, bottom = np.searchsorted(rows, [y, y + mask.shape[0]])
    left, right = np.searchsorted(columns, [x, x + mask.shape[1]])
    inside = mask[np.ix_(rows[top:bottom] - y, columns[left:right] - x)]
    return encode(inside, (len(rows), len(columns)), (int(left), int(top)))
