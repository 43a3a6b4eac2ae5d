"""Images and label maps find each other by what their names share, in whatever folders they lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segcli.data.checking.scan import scan
from segcli.data.dataset import open_split
from segcli.data.detect import detect
from segcli.errors import UsageError

PHOTO = np.full((12, 16, 3), 90, np.uint8)


def label_map(number: int) -> np.ndarray:
    """Classes 0, 1 and 2 in several pieces; 21 pixels of class 2, and `number` more."""
    label = np.zeros((12, 16), np.uint8)
    label[1:3, 1:3] = label[6:8, 1:3] = 1
    label[1:3, 8:13] = label[6:8, 8:13] = 2
    label[10, : number + 1] = 2
    return label


def save(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


@pytest.mark.parametrize(
    ("photo", "label", "splits"),
    [
        ("images/p{}.png", "masks/p{}_segmentation.png", {"all": 4}),
        ("images/p{}.jpg", "masks/p{}-mask.png", {"all": 4}),
        ("images/p{}.jpg", "masks/mask_p{}.png", {"all": 4}),
        ("images/p{}_image.png", "labels/p{}_label.png", {"all": 4}),
        ("images/p{}_img.png", "masks/p{}_anno.png", {"all": 4}),
        ("images/p{}.PNG", "masks/p{}.TIF", {"all": 4}),
        ("images/x/p{}.png", "masks/x/p{} mask.png", {"all": 4}),
        ("img_dir/train/p{}.png", "ann_dir/train/p{}.png", {"train": 4}),
        ("data/p{}.png", "labels/p{}.png", {"all": 4}),
        ("train_images/p{}.png", "train_masks/p{}.png", {"train": 4}),
        ("images_train/p{}.png", "masks_train/p{}.png", {"train": 4}),
        ("train/p{}.png", "trainannot/p{}.png", {"train": 4}),
        ("training/input/p{}.png", "training/target/p{}.png", {"train": 4}),
        ("train/p{}.jpg", "train/p{}_mask.png", {"train": 4}),
        ("train/p{}_sat.jpg", "train/p{}_mask.png", {"train": 4}),
        ("p{}.jpg", "p{}.png", {"all": 4}),
        ("valid/p{}_jpg.rf.0a1b.jpg", "valid/p{}_jpg.rf.0a1b_mask.png", {"val": 4}),
    ],
)
def test_every_image_has_its_own_label_map(tmp_path: Path, photo: str, label: str, splits: dict[str, int]) -> None:
    for number in range(4):
        save(tmp_path / photo.format(number), PHOTO)
        save(tmp_path / label.format(number), label_map(number))
    (tmp_path / photo).parent.joinpath(".DS_Store").write_bytes(b"x")
    (tmp_path / photo).parent.joinpath("._p0.png").write_bytes(b"x")
    info = detect(tmp_path, format="semantic-png", training=False)
    assert {name: len(records) for name, records in info.splits.items()} == splits
    assert info.labels.ids == [0, 1, 2]
    [split] = splits
    for record, sample in zip(info.splits[split], open_split(info, split), strict=True):
        number = int(next(sign for sign in record.image.name if sign.isdigit()))
        assert sample.rles[2].area == 21 + number


def test_roboflow_names_its_classes(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / f"train/p{number}.jpg", PHOTO)
        save(tmp_path / f"train/p{number}_mask.png", label_map(number))
    (tmp_path / "train/_classes.csv").write_text("Pixel Value, Class\n0, background\n1, box, unnamed\n2, disc\n")
    info = detect(tmp_path)
    assert info.labels.names == ["background", "box", "disc"]
    assert sum(split.images for split in scan(info).splits) == 4


def test_cellpose_names_mean_objects(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / f"{number:03}_img.png", PHOTO)
        save(tmp_path / f"{number:03}_masks.png", label_map(number))
    info = detect(tmp_path, training=False)
    assert (info.format, len(info.splits["all"])) == ("instance-png", 4)


def test_a_folder_of_photos_is_no_dataset(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / f"p{number}.png", PHOTO)
        save(tmp_path / f"p{number}.jpg", PHOTO) if number == 0 else None
    with pytest.raises(UsageError, match="no dataset recognised"):
        detect(tmp_path)


def disc(number: int, scale: int) -> np.ndarray:
    y, x = np.mgrid[: 48 * scale, : 64 * scale] / scale
    return np.asarray(np.where((x - 30 - number) ** 2 + (y - 24) ** 2 < 15**2, 255, 0), np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_black_and_white_masks_with_smoothed_edges(tmp_path: Path, suffix: str) -> None:
    """Refused with the remedy; which then gives two classes and the object's own pixels."""
    for number in range(4):
        save(tmp_path / f"images/p{number}.png", np.zeros((48, 64, 3), np.uint8))
        smooth = np.asarray(Image.fromarray(disc(number, 2)).resize((64, 48), Image.Resampling.BICUBIC))
        save(tmp_path / f"masks/p{number}{suffix}", smooth)
    for format in (None, "semantic-png", "instance-png"):
        wanted = r"smoothed edges: \d\d\.\d% of the pixels are 0, 255" if suffix == ".png" else "a label map in JPEG"
        if (format, suffix) != ("instance-png", ".png"):
            with pytest.raises(UsageError, match=f"{wanted}.*--binary.*binary = true"):
                detect(tmp_path, format=format, task=None if format else "semantic")
    by_option = detect(tmp_path, training=False, binary=True)
    (tmp_path / "dataset.toml").write_text("binary = true\n")
    info = detect(tmp_path, training=False)
    assert by_option.labels == info.labels
    assert (info.format, info.labels.names) == ("semantic-png", ["background", "object"])
    for number, sample in enumerate(open_split(info, "all")):
        assert abs(sample.rles[1].area - np.count_nonzero(disc(number, 1))) <= 12


def test_many_classes_are_no_smoothed_edges(tmp_path: Path) -> None:
    """Rare classes with pixels of their own, away from the frequent ones."""
    for number in range(4):
        label = np.zeros((60, 60), np.uint8)
        label[30:] = 200
        for value in range(12):
            label[5 : 5 + 4, 4 * value : 4 * value + 3] = 10 + value
        save(tmp_path / f"images/p{number}.png", np.zeros((60, 60, 3), np.uint8))
        save(tmp_path / f"labels/p{number}.png", label)
    assert len(detect(tmp_path, format="semantic-png").labels) == 14
