"""Whole files: nothing outside of the folder that was named, and nothing left of runs that died."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from segcli.errors import OutputError
from segcli.files.writing import _HOST, below, new_folder, remove_left_over, write_folder


@pytest.mark.parametrize("name", ["../a", "x/../../a", "/etc/a", "link/a", "..", "x/.."])
def test_what_would_lie_outside_is_refused(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "x").mkdir(parents=True)
    (out / "link").symlink_to(tmp_path)
    with pytest.raises(OutputError, match="lies outside of"):
        below(out, out / name)


def test_folders_without_end_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"2,0\d\d folders deep"):
        below(tmp_path, tmp_path / ("d/" * 2000) / "a")


@pytest.mark.parametrize("name", ["a", "x/a", "new/deep/a", "x/../a", "...", "..a"])
def test_what_lies_inside_is_let_through(name: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "out")
    (tmp_path / "out" / "x").mkdir(parents=True)
    assert below(tmp_path / "link", tmp_path / "link" / name) == tmp_path / "link" / name


def test_a_folder_has_plain_names(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no plain name"):
        write_folder(tmp_path / "a", [("../b", b"")])
    assert os.listdir(tmp_path) == []


def test_parts_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path: Path) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    gone, alive = int(dead.stdout), f".segcli-{_HOST}-{os.getpid()}-7.part"
    elsewhere = f".segcli-00000000-{gone}-0.part"  # of a process on another machine, which may well live
    for name in (f".segcli-{_HOST}-{gone}-0.part", alive, elsewhere, ".segcli-x-0.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    (tmp_path / f".segcli-{_HOST}-{gone}-1.part").touch()
    remove_left_over(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([alive, elsewhere, ".segcli-x-0.part"])


def test_an_older_folder_is_there_still_if_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    moved = os.replace

    def fail(source: Path, target: Path) -> None:
        if Path(target).name == "a" and not (Path(source) / "old").exists():
            raise OSError(28, "No space left on device")
        moved(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"), new_folder(tmp_path / "a"):
        pass
    assert os.listdir(tmp_path) == ["a"]
    assert os.listdir(tmp_path / "a") == ["old"]
