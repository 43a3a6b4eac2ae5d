"""Overlays: what they touch, what stays as it was, where labels go, and colours that can be relied on."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from segcli.codecs.rle import encode
from segcli.errors import UsageError
from segcli.render import Style, draw, overlay
from segcli.render import labels as label_module
from segcli.render.chips import writable
from segcli.render.colours import PALETTE, class_colours, segment_colours, text_colour
from segcli.render.labels import draw_labels
from segcli.segments import Segments
from segcli.types import Label, LabelSet

RED = (220, 20, 60)
PLAIN = Style(labels=False)
LABELS = LabelSet((Label(1, "person", True, RED), Label(2, "sky", False), Label(3, "日本語", True)))


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def segments_of(ids: np.ndarray, labels: list[int], names: LabelSet = LABELS) -> Segments:
    scores = np.linspace(0.99, 0.5, len(labels)).astype(np.float32)
    return Segments("panoptic", ids.shape, names, np.array(labels, dtype=np.int64), scores, ids)


def grid(height: int, width: int, rows: int, columns: int) -> np.ndarray:
    """Numbered cells with gaps between them."""
    y, x = np.ogrid[:height, :width]
    cell = 1 + (y * rows // height) * columns + x * columns // width
    gap = (y * rows % height < height // 10) | (x * columns % width < width // 10)
    return np.where(gap, 0, cell).astype(np.uint16)


def test_only_segments_are_touched_and_the_photo_is_left_alone() -> None:
    image = photo(90, 120)
    before = image.copy()
    ids = grid(90, 120, 2, 2)
    drawn = overlay(image, segments_of(ids, [0, 0, 1, 0]), PLAIN)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(drawn[ids == 0], image[ids == 0])
    assert (drawn[ids > 0] != image[ids > 0]).any(axis=1).mean() > 0.95
    np.testing.assert_array_equal(overlay(image, segments_of(np.zeros_like(ids), [])), image)


def test_the_tint_is_a_blend_and_the_outline_is_not() -> None:
    image = np.full((40, 40, 3), 100, np.uint8)
    ids = np.zeros((40, 40), np.uint16)
    ids[10:30, 10:30] = 1
    drawn = overlay(image, segments_of(ids, [0]), PLAIN)
    assert drawn[20, 20].tolist() == [160, 60, 80]
    assert drawn[10, 15].tolist() == pytest.approx([0.7 * c + 0.3 * 255 for c in RED], abs=1)
    assert drawn[9, 15].tolist() == [100, 100, 100]


def test_strips_leave_no_seam() -> None:
    """The same columns at any height: a tall picture is drawn in several strips."""
    ids = np.zeros((700, 60), np.uint16)
    ids[:, 20:40] = 1
    drawn = overlay(np.full((700, 60, 3), 90, np.uint8), segments_of(ids, [0]), PLAIN)
    np.testing.assert_array_equal(drawn, np.broadcast_to(drawn[:1], drawn.shape))


def test_smaller_instances_lie_on_larger_ones() -> None:
    masks = np.zeros((2, 30, 30), bool)
    masks[0, 5:25, 5:25] = True
    masks[1, 12:18, 12:18] = True
    for order in ([0, 1], [1, 0]):
        rles = tuple(encode(masks[i]) for i in order)
        both = Segments("instance", (30, 30), LABELS, np.array([0, 2]), np.array([0.9, 0.8], np.float32), rles=rles)
        drawn = overlay(np.zeros((30, 30, 3), np.uint8), both, PLAIN)
        inner = segment_colours(both)[order.index(1)]
        assert np.abs(drawn[15, 15].astype(int) - inner // 2).max() <= 1


def test_a_class_has_one_colour_in_every_picture() -> None:
    ids = grid(40, 60, 2, 3)
    segments = segments_of(ids, [0, 0, 0, 1, 1, 2])
    colours = segment_colours(segments)
    assert colours[:3].tolist() == [list(RED)] * 3
    np.testing.assert_array_equal(colours[3], colours[4])
    np.testing.assert_array_equal(segment_colours(segments.filter(np.arange(6) > 2)), colours[3:])
    fewer = LabelSet(LABELS.labels[1:])  # as where a folder of results tells only of the classes that were found
    np.testing.assert_array_equal(class_colours(fewer), class_colours(LABELS)[1:])


def test_neighbours_of_one_class_differ_and_others_keep_its_colour() -> None:
    y, x = np.mgrid[:60, :90]
    ids = (1 + y // 30 * 3 + x // 30).astype(np.uint16)
    image = np.zeros((60, 90, 3), np.uint8)
    drawn = overlay(image, segments_of(ids, [0] * 6), Style(alpha=1.0, labels=False, outlines=False))
    cells = [[drawn[row, column].tolist() for column in (15, 45, 75)] for row in (15, 45)]
    assert cells[0][0] == list(RED)
    assert all(row[i] != row[i + 1] for row in cells for i in (0, 1))
    assert all(above != below for above, below in zip(*cells, strict=True))
    alone = np.where((ids == 1) | (ids == 6), ids, 0)
    drawn = overlay(image, segments_of(alone, [0] * 6), Style(alpha=1.0, labels=False, outlines=False))
    assert drawn[15, 15].tolist() == drawn[45, 75].tolist() == list(RED)


@pytest.mark.parametrize(("sky", "tree"), [(0, 5), (5, 0), (3, 11)])
def test_sky_and_tree_are_not_two_blues(sky: int, tree: int) -> None:
    other = Label(2, "road", False)
    colours = class_colours(LabelSet((Label(sky, "sky", False), Label(tree, "tree", False), other))).astype(int)
    assert colours[0, 2] > colours[0, :2].max()  # blue
    assert colours[1, 1] > colours[1, [0, 2]].max()  # green
    assert len(np.unique(colours, axis=0)) == 3


def test_colours_of_instances_and_scores() -> None:
    ids = grid(40, 60, 2, 3)
    segments = segments_of(ids, [0, 0, 0, 1, 1, 2])
    assert len({tuple(c) for c in segment_colours(segments, "instance")[[0, 1, 2, 5]].tolist()}) == 4
    scores = segment_colours(segments, "score")
    assert (np.diff(scores.astype(int).sum(1)) < 0).all()  # darker with less
    cells = LabelSet((Label(1, "cell", True),))
    assert len({tuple(c) for c in segment_colours(segments_of(ids, [0] * 6, cells)).tolist()}) == 6


def test_classes_without_a_colour_keep_off_those_of_the_others() -> None:
    mixed = LabelSet((Label(1, "a", True), Label(9, "b", True, tuple(PALETTE[1].tolist()))))
    assert len(np.unique(class_colours(mixed), axis=0)) == 2


def test_classes_of_one_dataset_share_no_colour() -> None:
    for ids in (range(40), range(5, 45), range(0, 4000, 100)):
        many = LabelSet(tuple(Label(i, str(i), True) for i in ids))
        assert len({tuple(c) for c in class_colours(many).tolist()}) == 40
        turned = LabelSet(many.labels[::-1])  # as another reader may list them
        np.testing.assert_array_equal(class_colours(turned)[::-1], class_colours(many))


@pytest.mark.parametrize("lacking", ["nothing", "red", "green", "blue"])
def test_the_first_twelve_colours_are_told_apart_by_any_eye(lacking: str) -> None:
    """Distances in OKLab, where 0.02 is just noticeable, after Machado et al.'s simulation of dichromacy."""
    seen = oklab(LINEAR_VIEWS[lacking] @ linear(PALETTE[:12]).T)
    distances = np.linalg.norm(seen[:, None] - seen[None], axis=2)[np.triu_indices(12, 1)]
    assert distances.min() > 0.07


LINEAR_VIEWS = {
    "nothing": np.eye(3),
    "red": np.array([[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]]),
    "green": np.array([[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]]),
    "blue": np.array([[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]]),
}


def linear(rgb: np.ndarray) -> np.ndarray:
    share = rgb / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Linear RGB [3, N] -> [N, 3]."""
    to_cones = [[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]]
    to_lab = [[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]]
    return (np.array(to_lab) @ np.cbrt(np.array(to_cones) @ rgb.clip(0, 1))).T


def test_text_contrasts() -> None:
    for colour, expected in (((255, 255, 0), 0), ((0, 0, 128), 255), ((255, 255, 255), 0), ((0, 0, 0), 255)):
        assert text_colour(np.array(colour)) == (expected,) * 3


@pytest.mark.parametrize("size", [(150, 200), (480, 640), (60, 3000), (900, 80), (1500, 2000)])
@pytest.mark.parametrize("cells", [(1, 1), (3, 4), (12, 16)])
def test_labels_stay_inside_apart_and_few(
    size: tuple[int, int], cells: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes: list[tuple[int, int, int, int]] = []
    draw = label_module.draw_chip

    def record(image, chip, place, colour) -> None:
        boxes.append((*place, place[0] + chip.width, place[1] + chip.height))
        draw(image, chip, place, colour)

    monkeypatch.setattr(label_module, "draw_chip", record)
    ids = grid(*size, *cells)
    n = cells[0] * cells[1]
    overlay(photo(*size), segments_of(ids, [i % 3 for i in range(n)]))
    for x0, y0, x1, y1 in boxes:
        assert 0 <= x0 < x1 <= size[1]
        assert 0 <= y0 < y1 <= size[0]
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3]
    assert sum((b[2] - b[0]) * (b[3] - b[1]) for b in boxes) <= 0.15 * size[0] * size[1] + 1
    if n == 1 and min(size) >= 150:
        assert boxes


def test_text_grows_with_the_picture() -> None:
    heights = []
    for scale in (1, 4):
        ids = np.ones((480 * scale, 640 * scale), np.uint16)
        image = np.zeros((*ids.shape, 3), np.uint8)
        draw_labels(image, ids, segments_of(ids, [0]), np.array([RED], np.uint8))
        heights.append(int(image.any(axis=(1, 2)).sum()))
    assert heights[1] == pytest.approx(4 * heights[0], rel=0.2)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (8, 8)])
def test_pictures_too_small_for_text_are_drawn_without(size: tuple[int, int]) -> None:
    ids = np.ones(size, np.uint16)
    assert overlay(photo(*size), segments_of(ids, [0])).shape == (*size, 3)


def test_names_in_any_script_are_written() -> None:
    ids = np.ones((200, 300), np.uint16)
    for name in ("日本語", "café", "собака", "x" * 400, "", "a\nb"):
        names = LabelSet((Label(12, name, True),))
        assert overlay(photo(200, 300), segments_of(ids, [0], names)).shape == (200, 300, 3)


def test_letters_beyond_ascii_do_not_depend_on_the_machine() -> None:
    assert writable("собака", "class 1")[1] == "собака"
    assert writable("café", "class 1")[1] == "café"


def test_many_ids_and_wide_maps() -> None:
    ids = np.arange(300 * 300, dtype=np.int32).reshape(300, 300)
    assert overlay(photo(300, 300), segments_of(ids, [0] * 89_999)).shape == (300, 300, 3)


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="photo is"):
        overlay(photo(5, 5), segments_of(np.ones((5, 6), np.uint16), [0]))


def test_a_missing_libgl_is_answered_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UsageError, match="opencv-python-headless"):
        overlay(photo(5, 5), segments_of(np.ones((5, 5), np.uint16), [0]))


def test_twelve_megapixels_are_quick() -> None:
    ids = grid(3000, 4000, 4, 5)
    image, segments = photo(3000, 4000), segments_of(ids, [i % 3 for i in range(20)])
    overlay(image[:100, :100], segments_of(ids[:100, :100], [0]))
    start = time.process_time()
    overlay(image, segments)
    assert time.process_time() - start < 2  # 0.2 s on an idle machine; the bound leaves room for a busy one


def test_ids_are_written_on_every_segment_also_of_cells() -> None:
    """By the numbers given, where the id map shows the segment; 88 is wider than 1."""
    cell = LabelSet((Label(1, "nucleus", True),))
    image, ids = np.full((120, 160, 3), 90, np.uint8), grid(120, 160, 3, 4)
    found = segments_of(ids, [0] * 12, cell)
    bare = overlay(image, found)
    drawn = overlay(image, found, Style(ids=True))
    written = [(drawn != bare).any(axis=2)[ids == number].sum() for number in range(1, 13)]
    assert min(written) > 10
    wide, _ = draw(image.copy(), found, Style(ids=True), ids=[88] * 12)
    assert (wide != drawn).any()
    np.testing.assert_array_equal(drawn[ids == 0], image[ids == 0])
