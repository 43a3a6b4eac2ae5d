"""Results on disk: every kind read back, names that cannot collide, and no half-written file whatever happens."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segcli.codecs.panoptic_png import read_panoptic_png
from segcli.codecs.rle import RLE, encode
from segcli.errors import OutputError, UsageError
from segcli.files import writing as files_module
from segcli.files.writing import _HOST
from segcli.results.kinds import SAVE_KINDS
from segcli.results.plan import Photo, plan
from segcli.results.soft_edges import opacity
from segcli.results.writer import ResultsWriter, photo_targets
from segcli.segments import Segments
from segcli.types import Label, LabelSet, Task

LABELS = LabelSet((Label(7, "traffic light", True, (9, 8, 7)), Label(90, "sky", False), Label(300, "naïve/日本", True)))
SMALL_IDS = LabelSet((Label(0, "wall", False), Label(149, "flag", False)))
MAP = np.array([[0, 1, 1], [2, 1, 0]], dtype=np.uint16)
PHOTO = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
RUN = {"model": "some/model", "rule": {"score": 0.8, "mask_min": 0.5}}


def panoptic(ids: np.ndarray = MAP, labels: tuple[int, ...] = (0, 1)) -> Segments:
    scores = np.array([0.9, 0.75], np.float32)[: len(labels)]
    return Segments("panoptic", ids.shape, LABELS, np.array(labels, np.int64), scores, ids, best_score=0.9)


def instances() -> Segments:
    low = encode(np.array([[1, 1, 0], [0, 0, 0]], bool))
    high = encode(np.array([[0, 1, 1], [0, 0, 0]], bool))
    return Segments("instance", (2, 3), LABELS, np.array([2, 0]), np.array([0.9, 0.2], np.float32), rles=(high, low))


def semantic(names: LabelSet) -> Segments:
    return Segments("semantic", (2, 3), names, np.array([1, 0]), np.full(2, np.nan, np.float32), MAP)


def writer(out: Path, kinds: Any, photos: list[Photo], task: Task = "panoptic", **options: Any) -> ResultsWriter:
    return ResultsWriter(out, kinds, photos, task=task, labels=LABELS, run=RUN, draw=lambda image, _: image, **options)


def one(tmp_path: Path, kinds: Any, segments: Segments, name: str = "a.jpg", **options: Any) -> Path:
    """Write one photo's results; returns the output folder."""
    photos = plan([(tmp_path / name, None)])
    with writer(tmp_path / "out", kinds, photos, segments.task, **options) as results:
        results.write(photos[0], PHOTO, segments, timings={"model": 12.34})
    return tmp_path / "out"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# --------------------------------------------------------------------------------------------------------- kinds


def test_overlay_is_a_jpeg_of_what_is_drawn(tmp_path: Path) -> None:
    image = Image.open(one(tmp_path, ["overlay"], panoptic()) / "a.overlay.jpg")
    assert (image.format, image.size) == ("JPEG", (3, 2))


def test_panoptic_png_holds_segment_ids(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_panoptic_png(one(tmp_path, ["png"], panoptic()) / "a.png"), MAP)


def test_instance_png_is_16_bit_with_the_higher_score_on_top(tmp_path: Path) -> None:
    image = Image.open(one(tmp_path, ["png"], instances()) / "a.png")
    assert image.mode == "I;16"
    assert np.asarray(image).tolist() == [[2, 1, 1], [0, 0, 0]]


@pytest.mark.parametrize(("names", "mode", "none"), [(SMALL_IDS, "L", 255), (LABELS, "I;16", 65535)])
def test_semantic_png_holds_category_ids(tmp_path: Path, names: LabelSet, mode: str, none: int) -> None:
    photos = plan([(tmp_path / "a.jpg", None)])
    results = ResultsWriter(tmp_path, ["png"], photos, task="semantic", labels=names, run={})
    results.write(photos[0], None, semantic(names), timings={})
    image = Image.open(tmp_path / "a.png")
    assert image.mode == mode
    first, second = names[1].id, names[0].id
    assert np.asarray(image).tolist() == [[none, first, first], [second, first, none]]


def test_record(tmp_path: Path) -> None:
    record = read(one(tmp_path, ["json"], panoptic()) / "a.json")
    assert record == {
        "file_name": "a.jpg",
        **RUN,
        "task": "panoptic",
        "size": {"width": 3, "height": 2},
        "timings": {"model": 12.3},
        "best_score": 0.9,
        "classes": [
            {"id": 7, "name": "traffic light", "isthing": True, "color": [9, 8, 7]},
            *({"id": label.id, "name": label.name, "isthing": label.isthing} for label in LABELS.labels[1:]),
        ],
        "segments": [
            {
                "id": 1,
                "category_id": 7,
                "category_name": "traffic light",
                "score": 0.9,
                "area": 3,
                "bbox": [1, 0, 2, 2],
                "isthing": True,
                "color": [9, 8, 7],
            },
            {
                "id": 2,
                "category_id": 90,
                "category_name": "sky",
                "score": 0.75,
                "area": 1,
                "bbox": [0, 1, 1, 1],
                "isthing": False,
            },
        ],
    }


def test_instances_carry_their_masks_and_semantic_segments_no_score(tmp_path: Path) -> None:
    first, second = read(one(tmp_path, ["json"], instances()) / "a.json")["segments"]
    assert RLE.from_coco(first["segmentation"]).decode().tolist() == [[False, True, True], [False] * 3]
    assert (first["category_name"], second["score"]) == ("naïve/日本", 0.2)
    assert read(one(tmp_path, ["json"], semantic(LABELS), "b.jpg") / "b.json")["segments"][0]["score"] is None


def test_nothing_found_is_written_too(tmp_path: Path) -> None:
    out = one(tmp_path, SAVE_KINDS, panoptic(np.zeros((2, 3), np.uint16), ()))
    assert read(out / "a.json")["segments"] == read(out / "predictions.json") == []
    assert read(out / "panoptic.json")["annotations"][0]["segments_info"] == []
    assert (out / "a.masks").is_dir()
    assert not read_panoptic_png(out / "a.png").any()


def test_masks_and_cutouts(tmp_path: Path) -> None:
    out = one(tmp_path, ["masks", "cutout"], instances())
    assert tree(out) == [
        "a.cutouts/001-naïve-日本.png",
        "a.cutouts/002-traffic-light.png",
        "a.masks/001-naïve-日本.png",
        "a.masks/002-traffic-light.png",
    ]
    mask = Image.open(out / "a.masks/002-traffic-light.png")
    assert mask.mode == "1"
    assert np.asarray(mask).tolist() == [[True, True, False], [False] * 3]
    inside = np.zeros((40, 40), dtype=np.uint16)
    inside[10:30, 10:30] = 1
    photos = plan([(tmp_path / "b.jpg", None)])
    photo = np.full((40, 40, 3), 200, dtype=np.uint8)
    with writer(tmp_path / "soft", ["cutout", "rgba"], photos) as results:
        results.write(photos[0], photo, panoptic(inside, (0,)), timings={})
    for file, corner in (("b.cutouts/001-traffic-light.png", 8), ("b.rgba.png", 0)):
        cut = np.asarray(Image.open(tmp_path / "soft" / file))
        opacity = np.zeros((40, 40), dtype=int)
        opacity[corner : corner + len(cut), corner : corner + len(cut)] = cut[..., 3]
        assert (opacity[12:28, 12:28] == 255).all()
        assert not opacity[:8].any()
        edge = opacity[20, 7:14]
        assert (np.diff(edge) >= 0).all()
        assert ((edge > 0) & (edge < 255)).any()  # soft
        assert (cut[cut[..., 3] > 0][:, :3] == 200).all()
        assert not cut[cut[..., 3] == 0].any()  # beside the segment: nothing of the photo under it


def test_an_edge_lies_where_the_logits_end_not_where_pixels_do() -> None:
    """A border across pixels at 14.3: opacity falls there, whatever the slope of the logits."""
    x = np.arange(30) + 0.0
    for slope in (0.2, 5.0):
        logits = np.tile(slope * (14.3 - x), (30, 1)).astype(np.float32)
        edge = opacity((logits > 0).astype(np.uint8), logits)[15]
        np.testing.assert_allclose(edge[12:18], np.clip(0.5 + (14.3 - x[12:18]) / 2, 0, 1), atol=1e-3)


def test_csv(tmp_path: Path) -> None:
    names = ['a, "b".jpg', "c.jpg", "empty.jpg"]
    photos = plan([(tmp_path / name, None) for name in names])
    kinds = ["csv"]
    with writer(tmp_path, kinds, photos[:1], "instance") as results:
        results.write(photos[0], None, instances(), timings={})
    with writer(tmp_path, kinds, photos, "instance", skip_existing=True) as results:
        assert [results.is_complete(photo) for photo in photos] == [True, False, False]
        results.write(photos[1], None, instances().filter(np.array([True, False])), timings={})
        results.write(photos[2], None, instances().filter(np.zeros(2, dtype=bool)), timings={})
    with writer(tmp_path, kinds, photos, "instance", skip_existing=True) as results:
        assert all(results.is_complete(photo) for photo in photos)
    with open(tmp_path / "counts.csv", encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["image", "traffic light", "naïve/日本", "total", "mean_area"],
            [names[0], "1", "1", "2", "1.5"],
            ["c.jpg", "0", "1", "1", "2.0"],
            ["empty.jpg", "0", "0", "0", ""],
        ]
    with open(tmp_path / "segments.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["id"], row["category_name"], row["score"], row["area"]) for row in rows] == [
        (names[0], "1", "naïve/日本", "0.9", "2"),
        (names[0], "2", "traffic light", "0.2", "1"),  # the other pixel is the better one's
        ("c.jpg", "1", "naïve/日本", "0.9", "2"),
    ]
    box = [rows[0][key] for key in ("x", "y", "width", "height", "centroid_x", "centroid_y")]
    assert box == ["1", "0", "2", "1", "1.5", "0.0"]
    assert (rows[0]["eccentricity"], rows[0]["solidity"]) == ("1.0", "1.0")


def test_coco_gets_the_unthresholded_results(tmp_path: Path) -> None:
    photos = plan([(tmp_path / "000000000139.jpg", None), (tmp_path / "000000000285.jpg", None)])
    with writer(tmp_path / "out", ["coco"], photos, "instance") as results:
        for photo in photos:
            shown = instances().filter(np.array([True, False]))
            results.write(photo, None, shown, unthresholded=instances(), timings={})
    found = read(tmp_path / "out/predictions.json")
    assert [(r["image_id"], r["category_id"], round(r["score"], 3)) for r in found] == [
        (139, 300, 0.9),
        (139, 7, 0.2),
        (285, 300, 0.9),
        (285, 7, 0.2),
    ]
    assert tree(tmp_path / "out") == ["predictions.json"]


def test_coco_panoptic(tmp_path: Path) -> None:
    out = one(tmp_path, ["coco-panoptic"], panoptic())
    assert tree(out) == ["panoptic.json", "panoptic/a.png"]
    found = read(out / "panoptic.json")
    assert found["images"] == [{"id": "a.jpg", "file_name": "a.jpg", "height": 2, "width": 3}]
    assert found["categories"][0]["color"] == [9, 8, 7]
    annotation = found["annotations"][0]
    assert (annotation["image_id"], annotation["file_name"]) == ("a.jpg", "a.png")
    assert annotation["segments_info"][1] == {
        "id": 2,
        "category_id": 90,
        "area": 1,
        "bbox": [0, 1, 1, 1],
        "score": 0.75,
        "isthing": False,
        "iscrowd": 0,
    }
    np.testing.assert_array_equal(read_panoptic_png(out / "panoptic/a.png"), MAP)
    with pytest.raises(UsageError, match="needs --task panoptic"):
        writer(out, ["coco-panoptic"], [], "instance")


# --------------------------------------------------------------------------------------------------------- names


def stems(names: list[str], folder: str | None = None) -> list[str]:
    root = Path(folder) if folder else None
    return [photo.stem.as_posix() for photo in plan([((root or Path()) / name, root) for name in names])]


def test_the_source_tree_is_kept() -> None:
    assert stems(["a.jpg", "x/b.tar.png", "x/y/c"], "photos") == ["a", "x/b.tar", "x/y/c"]
    assert stems(["photos/a.jpg", "-b 日本.jpg"]) == ["a", "-b 日本"]


def test_names_that_would_collide_keep_their_extension() -> None:
    assert stems(["a.jpg", "a.png", "b.jpg"], "d") == ["a.jpg", "a.png", "b"]
    assert stems(["A.jpg", "a.png"], "d") == ["A.jpg", "a.png"]
    assert stems(["a.jpg", "a.png", "a.jpg.tif"], "d") == ["a.jpg", "a.png", "a.jpg.tif"]
    assert stems(["predictions.jpg", "x/predictions.jpg"], "d") == ["predictions.jpg", "x/predictions"]


def test_one_name_from_two_places_keeps_what_tells_them_apart() -> None:
    assert stems(["p/x/a.jpg", "q/x/a.jpg", "q/b.jpg"]) == ["p/x/a", "q/x/a", "b"]
    both = plan([(Path("p/x/a.jpg"), Path("p/x")), (Path("q/x/a.png"), Path("q/x"))])
    assert [photo.stem.as_posix() for photo in both] == ["a.jpg", "a.png"]


def test_image_ids_are_numbers_only_if_all_are() -> None:
    def ids(*names: str) -> list[int | str]:
        return [photo.image_id for photo in plan([(Path("d", name), Path("d")) for name in names])]

    assert ids("000000000139.jpg", "x/7.png") == [139, 7]
    assert ids("7.jpg", "x/a.png") == ["7.jpg", "x/a.png"]
    assert ids("7.jpg", "07.jpg") == ["7.jpg", "07.jpg"]
    assert ids("²3.jpg") == ["²3.jpg"]


def test_a_result_never_replaces_an_input(tmp_path: Path) -> None:
    photos = plan([(tmp_path / "a.png", None)])
    with pytest.raises(UsageError, match=r"a\.png: a result would replace this input"):
        writer(tmp_path, ["png"], photos, overwrite=True)


@pytest.mark.skipif(os.name == "nt", reason="Windows names are Unicode")
def test_names_that_are_not_unicode(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe.jpg")
    out = one(tmp_path, ["json", "coco-panoptic"], panoptic(), name)
    assert read(out / f"{name[:-4]}.json")["file_name"] == name
    assert read(out / "panoptic.json")["images"][0]["file_name"] == name


# ------------------------------------------------------------------------------------------ existing and failing


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
    out = one(tmp_path, SAVE_KINDS, panoptic())
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for kinds in (["json"], ["masks"], ["coco"], ["coco-panoptic"]):
        with pytest.raises(OutputError, match=r"exists; replace it with --overwrite or .* --skip-existing"):
            one(tmp_path, kinds, panoptic(MAP[:, ::-1].copy()))
    one(tmp_path, SAVE_KINDS, panoptic(MAP[:, ::-1].copy()), skip_existing=True)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    one(tmp_path, SAVE_KINDS, panoptic(MAP[:, ::-1].copy()), overwrite=True)
    assert sorted(before) == sorted(path for path in out.rglob("*") if path.is_file())
    np.testing.assert_array_equal(read_panoptic_png(out / "a.png"), MAP[:, ::-1])
    assert len(read(out / "panoptic.json")["images"]) == 1


def test_skip_existing_knows_what_is_complete_and_writes_the_rest(tmp_path: Path) -> None:
    photos = plan([(tmp_path / f"{name}.jpg", None) for name in "abc"])
    kinds = ["png", "json", "coco", "coco-panoptic"]
    with writer(tmp_path, kinds, photos[:1]) as results:
        results.write(photos[0], None, panoptic(), timings={})
    (tmp_path / "a.png").rename(tmp_path / "kept.png")
    for expected in ([False, False, False], [True, True, False]):
        with writer(tmp_path, kinds, photos, skip_existing=True) as results:
            assert [results.is_complete(photo) for photo in photos] == expected
            if not expected[0]:
                assert results.write(photos[0], None, panoptic(), timings={}) == [tmp_path / "a.png"]
                results.write(photos[1], None, panoptic(), timings={})
    assert [image["id"] for image in read(tmp_path / "panoptic.json")["images"]] == ["a.jpg", "b.jpg"]
    assert len(read(tmp_path / "predictions.json")) == 4


def test_ctrl_c_leaves_valid_json(tmp_path: Path) -> None:
    photos = plan([(tmp_path / f"{name}.jpg", None) for name in "ab"])

    def interrupted() -> None:
        with writer(tmp_path, ["coco", "coco-panoptic"], photos) as results:
            results.write(photos[0], None, panoptic(), timings={})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(read(tmp_path / "predictions.json")) == 2
    assert len(read(tmp_path / "panoptic.json")["annotations"]) == 1


def test_what_a_killed_run_left_goes_wherever_results_go(tmp_path: Path) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    photos = plan([(Path("/photos/deep/a.jpg"), Path("/photos"))])
    for folder in (tmp_path, tmp_path / "deep"):
        folder.mkdir(exist_ok=True)
        (folder / f".segcli-{_HOST}-{int(dead.stdout)}-0.part").touch()
    with writer(tmp_path, ["json"], photos) as results:
        results.write(photos[0], None, panoptic(), timings={})
    assert tree(tmp_path) == ["deep/a.json"]


def test_a_killed_run_is_taken_up_where_its_last_whole_line_ends(tmp_path: Path) -> None:
    photos = plan([(tmp_path / f"{name}.jpg", None) for name in "abc"])
    with writer(tmp_path, ["coco"], photos) as results:
        results.write(photos[0], None, panoptic(), timings={})
    killed = writer(tmp_path, ["coco"], photos, skip_existing=True)
    killed.write(photos[1], None, panoptic(), timings={})
    with open(tmp_path / ".predictions.jsonl", "ab") as lines:
        lines.write(b'"c.jpg"\t{"image_id": "c.j')
    with writer(tmp_path, ["coco"], photos, skip_existing=True) as results:
        assert [results.is_complete(photo) for photo in photos] == [True, True, False]
        results.write(photos[2], None, panoptic(), timings={})
    assert [r["image_id"] for r in read(tmp_path / "predictions.json")] == ["a.jpg"] * 2 + ["b.jpg"] * 2 + ["c.jpg"] * 2
    assert tree(tmp_path) == ["predictions.json"]


def test_files_that_cannot_be_continued_are_named(tmp_path: Path) -> None:
    photos = plan([(tmp_path / "a.jpg", None)])
    for foreign in ('[{"image_id": 1}]', "[\n", "", '[\n{"id": 1}\n]\n'):
        (tmp_path / "predictions.json").write_text(foreign)
        with pytest.raises(OutputError, match="segcli did not write it"):
            writer(tmp_path, ["coco"], photos, skip_existing=True)
    (tmp_path / "predictions.json").write_text('[\n{"image_id": 1, "score": 1}\n]\n')
    with pytest.raises(OutputError, match="image ids of another kind"):
        writer(tmp_path, ["coco"], photos, skip_existing=True)


@pytest.mark.parametrize("kind", SAVE_KINDS)
def test_a_full_disk_leaves_no_half_file(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            super().write(bytes(data)[:5])
            raise OSError(errno.ENOSPC, "No space left on device")

        def writelines(self, lines: Any) -> None:
            for line in lines:
                self.write(line)

    def open_full(path: Any, mode: str = "r", *_: Any, **__: Any) -> Any:
        return Full(path, mode) if "w" in mode or "a" in mode else open(path, mode, encoding="utf-8")

    with monkeypatch.context() as patch:
        patch.setattr(files_module, "open", open_full, raising=False)
        patch.setattr("segcli.results.ledger.open", open_full, raising=False)
        patch.setattr(Path, "write_bytes", lambda path, data: open_full(path, "wb").write(data))
        with pytest.raises(OutputError, match=r"No space left.*--skip-existing") as caught:
            one(tmp_path, [kind], panoptic())
    assert caught.value.__cause__.errno == errno.ENOSPC
    written = [name for name in tree(tmp_path) if not name.endswith(".jsonl")]
    assert written == []
    out = one(tmp_path, [kind], panoptic())
    assert tree(out)


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where a folder should be")
    for kind in SAVE_KINDS:
        with pytest.raises(OutputError, match=r"out.*choose another --out"):
            one(tmp_path, [kind], panoptic())
    (tmp_path / "out").unlink()
    with pytest.raises(OutputError, match="shorten the photo's name"):
        one(tmp_path, ["json"], panoptic(), "n" * 252 + ".jpg")


def test_a_photo_too_long_for_jpeg_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="JPEG holds at most 65,500"):
        one(tmp_path, ["overlay"], panoptic(np.zeros((1, 70_000), np.uint16), ()))


# ------------------------------------------------------------------------------------------- names from anywhere

PARTS = st.sampled_from(["..", ".", "a", "b.jpg", "photo.png", "x" * 200, "é", "\udce9", "a\nb", "CON", "~", "-o", " "])
NAMES = st.lists(PARTS, min_size=1, max_size=5).map("/".join)


@given(st.lists(st.tuples(NAMES, st.sampled_from([None, ".", "a", "..", "a/..", "/"])), min_size=1, max_size=4))
def test_no_name_leads_out_of_the_folder(named: list[tuple[str, str | None]]) -> None:
    """Of any photos, below any folder: what is written for them lies below the output folder, whichever kind it is."""
    out = Path("/nowhere/out")
    for photo in plan([(Path(name), root and Path(root)) for name, root in named if Path(name).name not in ("", "..")]):
        assert ".." not in Path(photo.file_name).parts
        for target in photo_targets(out, SAVE_KINDS, photo).values():
            assert Path(os.path.normpath(target)).is_relative_to(out)
            assert target.name not in ("", "..")


# ------------------------------------------------------------------------------------------------------ processes


@pytest.mark.parametrize("kinds", [[kind] for kind, made in SAVE_KINDS.items() if made.files] + [list(SAVE_KINDS)])
def test_files_for_all_photos_are_the_same_through_another_process(kinds: list[str], tmp_path: Path) -> None:
    """As with --workers: one writer hands its entries on, photo by photo, and the first one's process keeps them."""
    segments = panoptic()
    kinds = [kind for kind in kinds if segments.task in SAVE_KINDS[kind].tasks]
    photos = plan([(tmp_path / f"{name}.jpg", None) for name in "abc"])
    with writer(tmp_path / "alone", kinds, photos) as alone:
        for photo in photos:
            alone.write(photo, PHOTO, segments, timings={})
    with writer(tmp_path / "together", kinds, photos) as first:
        second = writer(tmp_path / "together", kinds, photos, relays=True)
        for photo in photos:
            second.write(photo, PHOTO, segments, timings={})
            first.keep(second.take_entries())
    whole, joined = ({p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()}
                     for f in (tmp_path / "alone", tmp_path / "together"))  # fmt: skip
    assert whole.keys() == joined.keys()
    assert [name for name in whole if whole[name] != joined[name]] == []
