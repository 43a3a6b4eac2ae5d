"""`--save coco` and `coco-panoptic` of a clip: the formats that evaluators of YouTube-VIS and VIPSeg read."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from typing import Any

from segcli.files.image_places import COCO_NAME
from segcli.files.writing import write_file
from segcli.inference.video.kinds import ClipRun, FrameAnswer, LineKind, read_lines, replace_folder, to_line


def _video_id(run: ClipRun) -> int | str:
    """As of photos: the number that the clip is named by, else its name."""
    match = COCO_NAME.fullmatch(run.stem)
    return int(match[1]) if match else run.stem


class YouTubeVis(LineKind):
    """clip.youtube-vis.json: {video_id, category_id, score, segmentations: one RLE or null a frame} for each track.

    A track's score is the mean over its frames, its class what most of them say. Detections have "bboxes" instead.
    """

    name = "coco"
    suffixes = (".youtube-vis.json",)
    spool = ".youtube-vis.jsonl"
    tasks = ("panoptic", "instance", "detect")

    def write(self, answer: FrameAnswer) -> None:
        detections = self.run.task == "detect"
        masks = [None] * len(answer.rows) if detections else answer.segments.to_rles()
        tracks = [
            (row["id"], row["category_id"], row["score"], row["bbox"] if mask is None else mask.to_coco())
            for row, mask in zip(answer.rows, masks, strict=True)
        ]
        self.add(to_line(tracks))

    def skip(self) -> None:
        self.add("[]\n")

    def render(self) -> None:
        key = "bboxes" if self.run.task == "detect" else "segmentations"
        with contextlib.closing(sqlite3.connect("")) as base:  # on the disk: it sorts what may not fit into memory
            base.execute("CREATE TABLE found (track, frame, category, score, place)")
            frames = 0
            for frame, tracks in enumerate(read_lines(self.spooled)):
                frames = frame + 1
                rows = ((id_, frame, category, score, json.dumps(place)) for id_, category, score, place in tracks)
                base.executemany("INSERT INTO found VALUES (?, ?, ?, ?, ?)", rows)
            base.execute("CREATE INDEX of_track ON found (track, frame)")
            write_file(self.run.path(self.suffixes[0]), self._text(base, frames, key))

    def _text(self, base: sqlite3.Connection, frames: int, key: str) -> Iterator[bytes]:
        yield b"[\n"
        tracks = base.execute("SELECT track, avg(score) FROM found GROUP BY track ORDER BY track").fetchall()
        for number, (track, score) in enumerate(tracks):
            places = base.execute("SELECT category, frame, place FROM found WHERE track = ? ORDER BY frame", (track,))
            pieces, last, category = [], -1, None
            for category, frame, place in places:  # noqa: B007 (the last vote counts all frames)
                pieces += ["null"] * (frame - last - 1) + [place]
                last = frame
            pieces += ["null"] * (frames - last - 1)
            head = {"video_id": _video_id(self.run), "category_id": category, "score": round(score, 6)}
            text = json.dumps(head, ensure_ascii=False)[:-1] + f', "{key}": [{", ".join(pieces)}]}}'
            yield (",\n" if number else "").encode() + text.encode()
        yield b"\n]\n"


class VipSeg(LineKind):
    """clip.vipseg.json: {categories, videos, annotations}; clip.panoptic/000123.png: ids in RGB as COCO's."""

    name = "coco-panoptic"
    suffixes = (".vipseg.json", ".panoptic")
    spool = ".vipseg.jsonl"
    tasks = ("panoptic",)

    def __init__(self, run: ClipRun, state: Any = None) -> None:
        super().__init__(run, state)
        self._folder = run.path(self.suffixes[1], partial=True)
        if state is None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def write(self, answer: FrameAnswer) -> None:
        import numpy as np

        from segcli.codecs.panoptic_png import encode_panoptic_png

        name = f"{answer.frame.number:06d}"
        numbers = np.concatenate([[0], answer.ids]).astype(np.int32)
        write_file(self._folder / f"{name}.png", encode_panoptic_png(numbers[answer.segments.ids()]))
        keys = ("id", "category_id", "area", "bbox", "score", "isthing")
        infos = [{key: row[key] for key in keys} | {"iscrowd": 0} for row in answer.rows]
        height, width = answer.segments.size
        image = {"id": name, "file_name": f"{name}.png", "height": height, "width": width}
        self.add(to_line([image, {"image_id": name, "file_name": f"{name}.png", "segments_info": infos}]))

    def render(self) -> None:
        write_file(self.run.path(self.suffixes[0]), self._text())
        replace_folder(self._folder, self.run.path(self.suffixes[1]))

    def _text(self) -> Iterator[bytes]:
        video = json.dumps(_video_id(self.run), ensure_ascii=False)
        categories = [{"id": label.id, "name": label.name, "isthing": int(label.isthing)} for label in self.run.labels]
        yield f'{{"categories": {json.dumps(categories, ensure_ascii=False)},\n'.encode()
        for place, (key, inner) in enumerate((("videos", "images"), ("annotations", "annotations"))):
            yield f'"{key}": [{{"video_id": {video}, "{inner}": [\n'.encode()
            for number, entries in enumerate(read_lines(self.spooled)):
                text = json.dumps(entries[place], ensure_ascii=False)
                yield (",\n" if number else "").encode() + text.encode()
            yield b"\n]}]" + (b"}\n" if place else b",\n")
