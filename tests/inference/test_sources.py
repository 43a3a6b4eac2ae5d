from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segcli.codecs.jpeg import encode_jpeg
from segcli.codecs.png import encode_png
from segcli.errors import InputError, UsageError
from segcli.inference.failures import FailureList
from segcli.inference.pages import pages_of
from segcli.inference.sources import find_sources


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """photos/{b.jpg, a.PNG, notes.txt, ._b.jpg, -dash.jpg, sub/c.jpg, .hidden/d.jpg, segcli-out/b.png}"""
    for name in (
        "b.jpg",
        "a.PNG",
        "notes.txt",
        "._b.jpg",
        "-dash.jpg",
        "sub/c.jpg",
        ".hidden/d.jpg",
        "segcli-out/b.png",
    ):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(arguments: list[str], **options: object) -> list[str]:
    return [source.path.as_posix() for source in find_sources(arguments, **options)]  # type: ignore[arg-type]


def test_folder_is_sorted_and_shallow(tree: Path) -> None:
    assert names(["photos"]) == ["photos/-dash.jpg", "photos/a.PNG", "photos/b.jpg"]
    assert {source.folder for source in find_sources(["photos"])} == {Path("photos")}


def test_recursive_leaves_out_the_results_and_the_hidden(tree: Path) -> None:
    found = names(["photos"], recursive=True, skip=Path("photos/segcli-out"))
    assert found == ["photos/-dash.jpg", "photos/a.PNG", "photos/b.jpg", "photos/sub/c.jpg"]


def test_what_segcli_wrote_is_passed_over_and_counted(tree: Path) -> None:
    """Pictures by their signature wherever they lie, folders of runs by what they hold; not if they are named."""
    grey = np.zeros((4, 4), np.uint8)
    (tree / "photos/sub/c.png").write_bytes(encode_png(grey))
    (tree / "photos/sub/c.jpeg").write_bytes(encode_jpeg(np.zeros((4, 4, 3), np.uint8)))
    Image.fromarray(grey).save(tree / "photos/sub/mine.png")
    for file in ("run/config.toml", "run/metrics.jsonl", "run/pictures/a.png", "sub/c.masks/001-cat.png"):
        (tree / "photos" / file).parent.mkdir(parents=True, exist_ok=True)
        (tree / "photos" / file).touch()
    passed: list[Path] = []
    found = names(["photos"], recursive=True, skip=Path("photos/segcli-out"), passed=passed.append)
    assert found == [
        "photos/-dash.jpg", "photos/a.PNG", "photos/b.jpg", "photos/sub/c.jpg", "photos/sub/mine.png",
    ]  # fmt: skip
    assert sorted(path.relative_to("photos").as_posix() for path in passed) == [
        "run/pictures/a.png", "segcli-out/b.png", "sub/c.jpeg", "sub/c.masks/001-cat.png", "sub/c.png",
    ]  # fmt: skip
    assert names(["photos/sub/c.png"]) == ["photos/sub/c.png"]
    (tree / "photos/sub/c.jpg").unlink()
    (tree / "photos/sub/mine.png").unlink()
    with pytest.raises(UsageError, match="the 2 in it are results of segcli"):
        find_sources(["photos/sub"])


def test_order_of_the_arguments_and_every_image_once(tree: Path) -> None:
    assert names(["photos/b.jpg", "photos", str(tree / "photos" / "b.jpg")]) == [
        "photos/b.jpg",
        "photos/-dash.jpg",
        "photos/a.PNG",
    ]


def test_globs(tree: Path) -> None:
    assert names(["photos/*.jpg"]) == ["photos/-dash.jpg", "photos/b.jpg"]
    assert names(["photos/**/c.*"]) == ["photos/sub/c.jpg"]
    (tree / "a[1].jpg").write_bytes(b"")
    assert names(["a[1].jpg"]) == ["a[1].jpg"]  # a name first, a pattern only if there is no such file


@pytest.mark.parametrize(("name", "reason"), [("nowhere.jpg", "no such file"), ("photos/*.gif", "no file matches")])
def test_missing_is_told_later_so_that_the_others_go_on(tree: Path, name: str, reason: str) -> None:
    missing, found = find_sources([name, "photos/b.jpg"])
    assert found.missing is None
    with pytest.raises(InputError, match=reason):
        missing.open()


def test_folder_without_images(tree: Path) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty: no images in this folder; looked for .*jpg"):
        find_sources(["empty"])
    (tree / "empty" / "deep").mkdir()
    (tree / "empty" / "deep" / "a.jpg").write_bytes(b"")
    with pytest.raises(UsageError, match="--recursive"):
        find_sources(["empty"])


def test_folder_that_cannot_be_listed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: str | Path) -> object:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    *found, refused = find_sources(["photos"], recursive=True)
    assert refused.missing is not None
    assert "sub: cannot list this folder: Permission denied" in refused.missing
    assert len(found) == 4


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_only_regular_files_of_a_folder_are_images(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    (tmp_path / "c.jpg").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.jpg")
    names = ["a.jpg", "b.jpg"]  # the same bytes under two names, as stores that keep equal files once hold them
    assert [source.path.name for source in find_sources([str(tmp_path)])] == names
    assert [source.path.name for source in find_sources([str(tmp_path / "*.jpg")])] == names
    [device] = find_sources(["/dev/zero"])
    with pytest.raises(InputError, match="/dev/zero: a device, not a file"):
        device.open()
    [named] = find_sources([str(tmp_path / "pipe.jpg")])  # may be meant: somebody writes a picture into it
    assert named.missing is None


def test_folders_that_are_links(tree: Path) -> None:
    """They are looked into, once, and not for ever."""
    (tree / "elsewhere" / "deep").mkdir(parents=True)
    (tree / "elsewhere" / "deep" / "e.jpg").touch()
    (tree / "photos" / "more").symlink_to(tree / "elsewhere")
    (tree / "photos" / "again").symlink_to(tree / "elsewhere")
    (tree / "elsewhere" / "round").symlink_to(tree / "photos")
    found = names(["photos"], recursive=True, skip=Path("photos/segcli-out"))
    assert found == ["photos/-dash.jpg", "photos/a.PNG", "photos/b.jpg", "photos/again/deep/e.jpg", "photos/sub/c.jpg"]


def test_a_glob_that_only_folders_match(tree: Path) -> None:
    assert names(["photos/s[tu]b"]) == ["photos/sub/c.jpg"]
    assert names(["photos/[as]*"]) == ["photos/a.PNG"]


def test_a_page_that_failed_is_named_by_its_file(tmp_path: Path) -> None:
    """So that the list of failures is a source again."""
    pages = [Image.fromarray(np.full((8, 8, 3), shade, np.uint8)) for shade in (0, 90)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    failures = FailureList(tmp_path / "out")
    for source in pages_of(find_sources([str(tmp_path / "stack.tif")])):
        failures.add(source, "damaged")
    failures.succeeded = True
    failures.close()
    rows = [json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()]
    assert [(Path(row["image"]).name, row["page"]) for row in rows] == [("stack.tif", 1), ("stack.tif", 2)]
    assert [source.path for source in find_sources([str(failures.path)])] == [tmp_path / "stack.tif"]
