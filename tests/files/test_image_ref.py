"""A picture is the same wherever its bytes lie."""

from __future__ import annotations

import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segcli.codecs.image import read_image
from segcli.errors import InputError
from segcli.files.image_ref import FileRef, ImageRef, MemberRef, ZipRef


@pytest.fixture
def refs(tmp_path: Path) -> list[ImageRef]:
    """One picture as a file, in a tar and in a zip."""
    photo = tmp_path / "a.png"
    Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3)).save(photo)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(photo, "in/a.png")
    with tarfile.open(tmp_path / "a.tar") as tar:
        member = tar.getmember("in/a.png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(photo, "in/a.png")
    return [
        FileRef(str(photo)),
        MemberRef(str(tmp_path / "a.tar"), "in/a.png", member.offset_data, member.size),
        ZipRef(str(tmp_path / "a.zip"), "in/a.png"),
    ]


def test_every_place_gives_the_same_picture(refs: list[ImageRef]) -> None:
    """Also after a journey to another process; each knows its name, and only a file of its own has a path."""
    for ref in refs:
        moved = pickle.loads(pickle.dumps(ref))
        assert moved == ref
        assert hash(moved) == hash(ref)
        assert read_image(moved).tolist() == np.arange(60).reshape(4, 5, 3).tolist()
        assert ref.name == "a.png"
        assert ref.file.is_file()
    assert [ref.path is not None for ref in refs] == [True, False, False]
    assert str(refs[1]).endswith("a.tar/in/a.png")


def test_what_is_gone_is_named(refs: list[ImageRef]) -> None:
    """A file that is missing or cut short, and an archive without the member."""
    refs[0].file.unlink()
    refs[1].file.write_bytes(refs[1].file.read_bytes()[:600])
    for ref in (refs[0], refs[1], ZipRef(str(refs[2].file), "in/b.png")):
        with pytest.raises(InputError, match=r"[ab]\.png: "):
            ref.read()
