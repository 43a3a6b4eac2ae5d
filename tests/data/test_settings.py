"""dataset.toml: what it may hold, and what is said of what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from segcli.data.settings import Settings, read_settings
from segcli.errors import UsageError
from segcli.types import Label


def _read(root: Path, text: str) -> Settings:
    (root / "dataset.toml").write_text(text, encoding="utf-8")
    return read_settings(root)


def test_names_alone_are_numbered_and_one_value_may_stand_for_a_list(tmp_path: Path) -> None:
    settings = _read(tmp_path, 'ignore = 3\nclasses = ["sky", "cat"]')
    assert settings.classes == (Label(0, "sky", False), Label(1, "cat", False))
    assert (settings.ignore, settings.declared_kinds) == ((3,), frozenset())


def test_a_class_with_everything(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    settings = _read(
        tmp_path,
        "[[classes]]\nid = 7\nname = 'road'\nthing = false\ncolor = [128, 64, 128]\n[val]\nimages = 'photos'",
    )
    assert settings.classes == (Label(7, "road", False, (128, 64, 128)),)
    assert settings.declared_kinds == {"road"}
    assert settings.places["val"].images == tmp_path / "photos"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ignore = true", "ignore = true; expected a list, each a whole number"),
        ("things = 'car'", "things = 'car'; expected a list, each text in quotes"),
        ("things = ['a']\nstuff = ['a']", "things and stuff both name a; a class can be one of them"),
        ("classes = [1]", "classes = [1]; expected a list, each a table with id, name, thing, color"),
        ("classes = [{id = 1}]", "[classes] entry 1 name is missing; expected text in quotes"),
        (
            "classes = [{id = 1, name = 'a', thng = true}]",
            "[classes] entry 1 has no key 'thng'; it has id, name, thing, color",
        ),
        (
            "classes = ['a', {id = 1, name = 'b', color = [1, 2, 300]}]",
            "[classes] entry 2 color = [1, 2, 300]; expected a list of 3, each a whole number from 0 to 255",
        ),
        (
            "classes = [{id = 1, name = 'a'}, {id = 1, name = 'b'}]",
            "classes: 2 have the id 1; every class needs its own",
        ),
        ("task = 'boxes'", "task = 'boxes'; expected one of panoptic, instance, semantic, detect"),
        ("[train]\nimages = 'nowhere'", "[train] images = 'nowhere': no such file or folder"),
        ("[train]\nimage = 'a'", "[train] has no key 'image'; it has images, labels, annotations"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        _read(tmp_path, text)
    assert str(caught.value) == f"{tmp_path / 'dataset.toml'}: {message}"
