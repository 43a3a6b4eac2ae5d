"""Label maps keep their numbers, however they are stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segcli.codecs.label_png import read_label_map
from segcli.errors import InputError

VALUES = np.arange(12).reshape(3, 4)


def stored(tmp_path: Path, image: Image.Image, name: str = "a.png") -> np.ndarray:
    image.save(tmp_path / name)
    return read_label_map(tmp_path / name)


def test_numbers_come_back_from_every_storage(tmp_path: Path) -> None:
    grey = Image.fromarray(VALUES.astype(np.uint8))
    palette = grey.copy()
    palette.putpalette([(255 - 7 * i) % 256 for i in range(768)])
    assert palette.mode == "P"
    deep = Image.fromarray((VALUES * 5000).astype(np.uint16))
    three = Image.merge("RGB", [grey] * 3)
    four = Image.merge("RGBA", [grey, grey, grey, Image.new("L", (4, 3), 77)])
    real = Image.fromarray(VALUES.astype(np.float32))
    np.testing.assert_array_equal(stored(tmp_path, real, "b.tif"), VALUES)
    for image, factor in ((grey, 1), (palette, 1), (deep, 5000), (three, 1), (four, 1)):
        found = stored(tmp_path, image)
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, VALUES * factor)
    np.testing.assert_array_equal(stored(tmp_path, grey.convert("LA")), VALUES)
    np.testing.assert_array_equal(stored(tmp_path, Image.fromarray(VALUES % 2 == 1)), VALUES % 2)
    np.testing.assert_array_equal(stored(tmp_path, Image.fromarray((VALUES * 100_000).astype(np.int32)), "a.tif"), VALUES * 100_000)  # fmt: skip  # noqa: E501


def test_colours_stay_colours(tmp_path: Path) -> None:
    picture = np.stack([VALUES, VALUES * 2, VALUES * 3], axis=-1).astype(np.uint8)
    np.testing.assert_array_equal(stored(tmp_path, Image.fromarray(picture)), picture)


def test_grey_may_be_a_colour_where_colours_are_declared(tmp_path: Path) -> None:
    grey = Image.fromarray(VALUES.astype(np.uint8))
    palette = grey.copy()
    palette.putpalette([255 - i % 256 for i in range(768)])
    deep = Image.fromarray(VALUES.astype(np.uint16))
    forms = {"three": Image.merge("RGB", [grey] * 3), "one": grey, "palette": palette, "deep": deep}
    dimensions = {"none": [2, 2, 2, 2], "stored": [3, 2, 2, 2], "grey": [3, 3, 2, 2]}
    for name, image in forms.items():
        image.save(tmp_path / f"{name}.png")
    for colours, expected in dimensions.items():
        found = [read_label_map(tmp_path / f"{name}.png", colours=colours) for name in forms]  # type: ignore[arg-type]
        assert [label_map.ndim for label_map in found] == expected
    np.testing.assert_array_equal(read_label_map(tmp_path / "one.png", colours="grey")[..., 2], VALUES)


def test_what_cannot_hold_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.jpg: a label map in JPEG"):
        stored(tmp_path, Image.fromarray(VALUES.astype(np.uint8)), "a.jpg")
    for value, shown in ((0.5, "0.5"), (float("nan"), "nan"), (1e9, r"1e\+09")):
        with pytest.raises(InputError, match=f"fractions or numbers above 16777216, such as {shown}; export"):
            stored(tmp_path, Image.fromarray(np.full((3, 4), value, dtype=np.float32)), "a.tif")
    with pytest.raises(InputError, match="no such file"):
        read_label_map(tmp_path / "none.png")
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(InputError, match="empty"):
        read_label_map(tmp_path / "b.png")
