"""Packs: the same whether a file is parsed at once or walked through, and none of it in memory where it is walked."""

from __future__ import annotations

import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from segcli.data.coco import packs
from segcli.data.coco.packs import Pack, keys_in, pack, read_piece
from segcli.data.coco.rows import instance_piece
from segcli.errors import UsageError
from segcli.files import json_stream

IMAGES = [{"id": n, "file_name": f"{n}.jpg", "height": 4, "width": 6} for n in range(5)]
ROWS = [
    {"id": n, "image_id": n * n % 4, "category_id": 1, "segmentation": [[0, 0, n, 0, n, 3]], "area": 1.5 * n}
    for n in range(1, 40)
]
CATEGORIES = [{"id": 1, "name": "größe"}]


@pytest.fixture(params=["whole", "walked"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEGCLI_CACHE", str(tmp_path / "cache"))
    if request.param == "walked":
        monkeypatch.setattr(json_stream, "_WHOLE", 0)
        monkeypatch.setattr(packs, "_IN_MEMORY", 1)


def packed(tmp_path: Path, **tables: Any) -> Pack:
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(tables, ensure_ascii=False), encoding="utf-8")
    return pack(file, "test", instance_piece)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("order", [("images", "annotations"), ("annotations", "images")])
def test_rows_in_any_order_come_to_their_images(tmp_path: Path, order: tuple[str, str]) -> None:
    rows = [*ROWS, dict(ROWS[3])]
    random.Random(0).shuffle(rows)
    tables: dict[str, Any] = {"images": IMAGES, "annotations": rows}
    found = packed(tmp_path, categories=CATEGORIES, **{key: tables[key] for key in order})
    assert [(image.image_id, image.has_annotations) for image in found.images] == [
        (str(n), n in (0, 1)) for n in range(5)
    ]
    for image in found.images:
        size, annotations = read_piece(found.data, *image.place)
        assert size == (4, 6)
        assert [a["id"] for a in annotations] == [r["id"] for r in rows if str(r["image_id"]) == image.image_id]
        assert all(a["segmentation"] == [[0, 0, a["id"], 0, a["id"], 3]] for a in annotations)
    assert found.categories == CATEGORIES
    assert (found.used, found.unmasked, found.repeated) == ({1}, {}, [4])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({"images": IMAGES, "annotations": ROWS}, '"categories" is missing or empty'),
        ({"categories": CATEGORIES, "annotations": ROWS}, '"images" is missing or empty'),
        (
            {"images": [7], "categories": CATEGORIES, "annotations": ROWS},
            "no row of its images or categories can be read",
        ),
        ({"images": [*IMAGES, {"id": 0, "file_name": "b"}], "categories": CATEGORIES}, "two images share an id (0)"),
    ],
)
def test_what_is_not_coco_is_refused(tmp_path: Path, tables: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        packed(tmp_path, **tables)
    assert says in str(caught.value)
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.usefixtures("way")
def test_numbers_may_be_written_as_text(tmp_path: Path) -> None:
    def in_words(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{k: str(v) if k in ("id", "image_id", "category_id") else v for k, v in row.items()} for row in rows]

    plain = packed(tmp_path, images=IMAGES, annotations=ROWS, categories=CATEGORIES)
    content = plain.data.read_bytes()
    text = packed(tmp_path, images=in_words(IMAGES), annotations=in_words(ROWS), categories=in_words(CATEGORIES))
    assert (text.categories, text.used, text.data.read_bytes()) == (CATEGORIES, {1}, content)


@pytest.mark.usefixtures("way")
def test_broken_json_says_its_line(tmp_path: Path) -> None:
    file = tmp_path / "cut.json"
    file.write_text('{"images": [],\n"annotations": [{"id": 1}, ')
    with pytest.raises(UsageError, match=r"line 2, column \d+.*cut short"):
        pack(file, "test", instance_piece)


def test_memory_does_not_grow_with_what_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGCLI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(json_stream, "_WHOLE", 0)
    monkeypatch.setattr(packs, "_IN_MEMORY", 1)
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in range(500)]
    mask = {"size": [1, 10_000], "counts": [1] * 10_000}
    rows = [ROWS[0] | {"id": n, "image_id": n % 500, "segmentation": mask} for n in range(200)]
    file = tmp_path / "instances.json"
    file.write_text(json.dumps({"images": images, "annotations": rows, "categories": CATEGORIES}))
    size = file.stat().st_size
    del rows
    tracemalloc.start()
    try:
        pack(file, "test", instance_piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 6e6
    assert peak < size


def test_a_key_is_found_where_two_readings_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "some.json"
    file.write_text('{"images": 1, "segments_info": 2}')
    for chunk in range(1, 30):
        monkeypatch.setattr(packs, "_CHUNK", chunk)
        assert keys_in(file, ("images", "segments_info", "segments")) == {"images", "segments_info"}
