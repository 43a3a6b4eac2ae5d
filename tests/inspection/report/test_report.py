"""The page of `segcli viz report`, used as a person does in a real browser."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from segcli.codecs.rle import encode
from segcli.errors import InputError, OutputError
from segcli.inspection.gallery import Gallery, GalleryItem, Shown
from segcli.inspection.report_page import MOST_IN_A_FILE, Report, ReportTable, folder_of, write_report
from segcli.render import paint_map
from segcli.render.colours import segment_colours
from segcli.render.error_map import INVENTED, MISSED, RIGHT, VOID, WRONG_CLASS, WRONG_OBJECT, compare
from segcli.segments import Segments
from segcli.types import Label, LabelSet, Task
from tests.inspection.report.browser import Page, browser, chromium

EVIL = "<img src=x onerror=document.title='hacked'>"
LABELS = LabelSet((Label(3, "cat", True), Label(7, EVIL, True), Label(9, "sky", False), Label(11, "road", False)))
SIZE = (24, 32)
EVERY: dict[Task, set[int]] = {
    "panoptic": {RIGHT, WRONG_CLASS, WRONG_OBJECT, MISSED, INVENTED, VOID},
    "instance": {RIGHT, WRONG_CLASS, WRONG_OBJECT, MISSED, INVENTED},
    "semantic": {RIGHT, WRONG_CLASS, MISSED, VOID},
}


def segments(seed: int, task: Task = "panoptic", size: tuple[int, int] = SIZE) -> Segments:
    """Rectangles over each other, some of them hidden; scores 0.95, 0.85, …"""
    draw = np.random.default_rng(seed)
    count = 6
    labels = np.arange(count) % 4 if task != "instance" else np.arange(count) % 2
    masks = []
    for _ in range(count):
        y, x = draw.integers(0, size[0] - 4), draw.integers(0, size[1] - 4)
        mask = np.zeros(size, dtype=bool)
        mask[y : y + draw.integers(3, 16), x : x + draw.integers(3, 24)] = True
        masks.append(mask)
    scores = np.linspace(0.95, 0.45, count).astype(np.float32)
    if task == "instance":
        return Segments(task, size, LABELS, labels, scores, rles=tuple(encode(mask) for mask in masks))
    ids = np.zeros(size, dtype=np.uint16)
    for number, mask in enumerate(masks, start=1):
        ids[mask] = number
    if task == "semantic":
        labels, scores = np.arange(4), np.full(4, np.nan, dtype=np.float32)
        ids = np.where(ids > 4, 0, ids).astype(np.uint16)
    return Segments(task, size, LABELS, labels, scores, ids)


def truth_of(found: Segments, seed: int) -> Segments:
    """Something like it: moved by a pixel or two, one object less, one of another class."""
    draw = np.random.default_rng(seed)
    shift = tuple(draw.integers(-2, 3, 2).tolist())
    labels = found.labels.copy()
    labels[1] = (labels[1] + 1) % (2 if found.task == "instance" else 4)
    scores = np.full(len(found), np.nan, dtype=np.float32)
    rles = found.rles and tuple(encode(np.roll(rle.decode(), shift, (0, 1))) for rle in found.rles)
    ids = None if found.map is None else np.roll(found.map, shift, (0, 1))
    keep = np.arange(len(found)) != 3
    return Segments(found.task, found.size, LABELS, labels, scores, ids, rles).filter(keep)


def report(count: int, task: Task = "panoptic", *, truth: bool = False) -> Report:
    """Images 0, 1, …; the second is gone, and from the 20th on they are alike."""
    plain = segments(20, task)

    def read(number: int) -> Shown:
        if number == 1:
            raise InputError(f"{name(1)}: its photo is gone")
        found = segments(number, task) if number < 20 else plain
        photo = np.full((*SIZE, 3), 40 + number % 200, dtype=np.uint8)
        return Shown(photo, found, truth_of(found, number) if truth else None)

    def name(number: int) -> str:
        return f"</script><b>{number:04d}.jpg"

    items = [GalleryItem(name(n), Path(str(n)), lambda n=n: read(n)) for n in range(count)]  # type: ignore[misc]
    gallery = Gallery("compare" if truth else "overlay", items, LABELS, task != "semantic")
    values = {name(n): n / count for n in range(count)} if truth else {}
    table = ReportTable("Figures", ("class", "PQ", "matched"), [[EVIL, 0.25, 3], ["cat", 0.75, 1]], frozenset({"PQ"}))
    return Report(EVIL, "model", gallery, "PQ" if truth else None, values, [table], facts=[("model", EVIL)])


def write(made: Report, page: Path) -> list[str]:
    problems: list[str] = []
    write_report(made, page, problem=problems.append, advance=lambda images: None)
    return problems


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if chromium() is None:
        pytest.skip("needs Chromium (apt-get install chromium)")
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def opened(tab: Page, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Writes a report, opens it, and sees afterwards that nothing was complained of and nothing left the disk."""
    tab.requests.clear()
    tab.complaints.clear()
    tab.size(1000, 800)

    def open_(made: Report, place: str = "") -> Page:
        write(made, tmp_path / "report.html")
        tab.open(tmp_path / "report.html", place)
        return tab

    yield open_
    tab.run("0")  # what is on its way has arrived
    # Reading canvases back is what only a test does.
    assert [text for text in tab.complaints if "getImageData" not in text] == []
    assert [url for url in tab.requests if not url.startswith(("file:", "data:", "about:"))] == []


def opacity_of(tab: Page, canvas: str) -> np.ndarray:
    """uint8 [H, W] of a canvas."""
    pixels = f"byId('{canvas}').getContext('2d').getImageData(0, 0, {SIZE[1]}, {SIZE[0]}).data"
    return np.reshape(tab.run(f"[...{pixels}].filter((_, at) => at % 4 === 3)"), SIZE)


# ---------------------------------------------------------------------------------------------------------- the file


def test_only_the_pages_own_scripts_may_run(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert write(report(3), page) == ["</script><b>0001.jpg: its photo is gone"]
    text = page.read_text(encoding="utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy[1].split("; "))
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts]
    assert rules["script-src"].split() == hashes
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "unsafe" not in policy[1]
    assert "<img src=x" not in text
    assert "http:" not in re.sub(r"http://www\.w3\.org/2000/svg|http-equiv", "", text)
    assert "https:" not in text


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    write(report(3), tmp_path / "a.html")
    write(report(3), tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_two_hundred_large_photos_stay_below_forty_megabytes(tmp_path: Path) -> None:
    """Noise is the worst a JPEG can be given: two photos stand for their share of two hundred."""
    photo = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), dtype=np.uint8)
    found = segments(0, size=photo.shape[:2])
    few = [GalleryItem(f"{n}.jpg", Path(str(n)), lambda: Shown(photo, found)) for n in range(2)]
    broken = [
        GalleryItem(f"{n}.jpg", Path(str(n)), lambda: Shown(photo[:1, :1], found.sampled((1, 1)))) for n in range(198)
    ]
    write(Report("", "", Gallery("overlay", few + broken, LABELS, True)), tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 40_000_000 * 2 / 200 + 600_000


def test_a_small_page_takes_a_large_ones_place_and_its_folder_goes(tmp_path: Path) -> None:
    page, folder = tmp_path / "report.html", tmp_path / "report_files"
    write(report(201), page)
    assert folder.is_dir()
    write(report(2), page)
    assert not folder.exists()
    folder.mkdir()
    (folder / "diary.txt").write_text("mine")
    write(report(2), page)
    assert (folder / "diary.txt").read_text() == "mine"


def test_a_folder_of_others_is_not_replaced(tmp_path: Path) -> None:
    mine = folder_of(tmp_path / "report.html") / "diary.txt"
    mine.parent.mkdir()
    mine.write_text("dear diary")
    with pytest.raises(OutputError, match=r"diary\.txt"):
        write(report(MOST_IN_A_FILE + 1), tmp_path / "report.html")
    assert mine.read_text() == "dear diary"


# ------------------------------------------------------------------------------------------------------- its pixels


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_masks_and_errors_are_those_of_python(task: Task, opened: Callable[..., Page]) -> None:
    tab = opened(report(12, task, truth=True))
    script = """(async (number) => {
        const image = await imageAt(number), {prediction, truth, size} = image;
        const all = (side) => side.labels.map(() => true), few = prediction.labels.map((_, index) => index !== 2);
        const things = head.classes.map((label) => label.thing);
        const {kinds} = compare(head.task, things, truth, prediction, size, few);
        return [[...paint(prediction, size, all(prediction))], [...kinds]];
    })"""
    seen: set[tuple[int, bool]] = set()
    for number in (0, *range(2, 12)):
        found = segments(number, task)
        painted, kinds = tab.run(f"{script}({number})")
        np.testing.assert_array_equal(np.reshape(painted, SIZE), paint_map(found))
        some = found.filter(np.arange(len(found)) != 2)
        expected = compare(truth_of(found, number), some)
        np.testing.assert_array_equal(np.reshape(kinds, SIZE), expected)
        things = np.append(False, some.isthing())[paint_map(some)]
        seen |= set(zip(expected.ravel().tolist(), things.ravel().tolist(), strict=True))
    assert (RIGHT, True) in seen  # each way to be right or wrong is among them
    assert {kind for kind, _ in seen} >= EVERY[task]


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic", "detect"])
def test_every_segment_is_filled_in_its_colour(task: Task, opened: Callable[..., Page]) -> None:
    """300 squares side by side, read back from the canvases of both sides: the first, the 257th and all others."""
    count, columns = 300, 20
    many = LabelSet(tuple(Label(n, f"class {n}", task != "semantic") for n in range(count)))
    ids = np.kron(np.arange(1, count + 1).reshape(-1, columns), np.ones((4, 4))).astype(np.uint16)
    labels, scores = np.arange(count), np.linspace(1, 0.5, count).astype(np.float32)
    masks = tuple(encode(ids == n) for n in range(1, count + 1)) if task in ("instance", "detect") else None
    found = Segments(task, ids.shape, many, labels, scores, None if masks else ids, masks)
    true = Segments(task, ids.shape, many, labels[::-1].copy(), np.full(count, np.nan), found.map, masks)
    item = GalleryItem("a.jpg", Path("a"), lambda: Shown(np.zeros((*ids.shape, 3), np.uint8), found, true))
    tab = opened(Report("", "", Gallery("compare", [item], many, True)), "#1")
    tab.until("shown.layer")
    for view, side in (("prediction", found), ("truth", true)):
        tab.run(f"setView('{view}')")
        expected = np.insert(segment_colours(side), 3, 255, axis=1)
        for canvas, height in (("byId('fill')", 60), ("cards.get(0).querySelector('canvas')", 60)):
            if "cards" in canvas:
                tab.run("leave()")
                tab.until(f"near.size && {canvas}.width")
            script = f"[...{canvas}.getContext('2d').getImageData(0, 0, {ids.shape[1]}, {height}).data]"
            pixels = np.reshape(tab.run(script), (*ids.shape, 4))
            np.testing.assert_array_equal(pixels[1::4, 1::4].reshape(-1, 4), expected)
        tab.run("show(0)")
        tab.until("shown.layer && state.open === 0")


# --------------------------------------------------------------------------------------------------------- its use


def test_hovering_lights_a_segment_up(opened: Callable[..., Page]) -> None:
    tab = opened(report(3), "#1")
    tab.until("shown.layer")
    found = segments(0)
    ids = paint_map(found)
    y, x = np.argwhere(ids == 5)[len(np.argwhere(ids == 5)) // 2]
    left, top, width = tab.run("(b => [b.x, b.y, b.width])(byId('frame').getBoundingClientRect())")
    tab.point(left + (x + 0.5) * width / SIZE[1], top + (y + 0.5) * width / SIZE[1])
    tab.until("!byId('tip').hidden")
    area = int(found.areas()[4])
    share = f"{area / ids.size:.0%}".replace("%", " %")
    assert tab.run("byId('tip').innerText").split("\n") == ["cat", f"score 0.55 · {area} px · {share}"]
    assert tab.run("byId('list').querySelector('.lit').innerText.split('\\n')[0]") == "cat"
    np.testing.assert_array_equal(opacity_of(tab, "lit") == 0, ids == 5)
    tab.point(left + width / 2, 5)
    tab.until("byId('tip').hidden")


def test_filters(opened: Callable[..., Page]) -> None:
    tab = opened(report(12, truth=True))
    shown = "state.shown.join(' ')"
    assert tab.run(shown) == "0 1 2 3 4 5 6 7 8 9 10 11"
    tab.run("byId('search').focus()")
    for letter in "0007":
        tab.key(letter)
    tab.until(f"{shown} === '7'")
    assert tab.run("byId('count').innerText") == "1 of 12 images"
    tab.click("#reset")
    tab.run("refilter({search: 'onerror'})")  # by the name of a class
    assert tab.run(shown) == "0 2 3 4 5 6 7 8 9 10 11"
    tab.run("refilter({search: '', label: 3})")
    assert tab.run("head.classes[3].name") == "road"
    assert tab.run(shown) == "0 2 3 4 5 6 7 8 9 10 11"
    tab.run("setThreshold(0.7)")  # the only road has 0.65
    tab.until(f"{shown} === ''")
    tab.run("setThreshold(0); refilter({label: -1, measure: 'metric', low: 50, high: 80})")
    assert tab.run(shown) == "6 7 8 9"
    tab.run("refilter({low: null, high: null, reversed: true})")
    assert tab.run(shown) == "11 10 9 8 7 6 5 4 3 2 0 1"  # the one without a value is last


def test_what_is_shown_can_be_taken_away_as_a_table(opened: Callable[..., Page]) -> None:
    tab = opened(report(3, truth=True))
    rows = list(csv.reader(io.StringIO(tab.run("setThreshold(0.8); csvText()"))))
    found = segments(0)
    assert rows[0] == ["image", "id", "class", "score", "area"]
    first = [row for row in rows if "0000" in row[0]]
    assert first == [
        [f"</script><b>{0:04d}.jpg", str(n + 1), found.names()[n], f"{found.scores[n]:.2f}", str(found.areas()[n])]
        for n in range(2)
    ]
    tab.click("#csv")


def test_background_is_not_painted(opened: Callable[..., Page]) -> None:
    labels = LabelSet((Label(0, "background", False), Label(1, "cat", True)))
    ids = np.repeat([[1, 1, 2, 2]], 4, axis=0).astype(np.uint16)
    found = Segments("panoptic", (4, 4), labels, np.array([0, 1]), np.array([0.9, 0.8], np.float32), ids)
    item = GalleryItem("a.jpg", Path("a"), lambda: Shown(np.zeros((4, 4, 3), np.uint8), found))
    tab = opened(Report("", "", Gallery("overlay", [item], labels, True)), "#1")
    tab.until("shown.layer")
    for canvas in ("fill", "line"):
        pixels = tab.run(f"[...byId('{canvas}').getContext('2d').getImageData(0, 0, 4, 4).data]")
        opacity = np.reshape(pixels, (4, 4, 4))[..., 3]
        assert not opacity[:, :2].any()
        assert opacity[:, 2].all()


def test_threshold_and_opacity_are_computed_in_the_page(opened: Callable[..., Page]) -> None:
    tab = opened(report(3, truth=True), "#1")
    tab.until("shown.layer")
    found = segments(0)
    assert tab.run("byId('list').children.length") == len(found)
    tab.run("byId('threshold').value = 0.8; byId('threshold').dispatchEvent(new Event('input'))")
    tab.until("byId('list').children.length === 2")
    np.testing.assert_array_equal(opacity_of(tab, "fill") > 0, np.isin(found.map, (1, 2)))
    tab.run("byId('opacity').value = 0.2; byId('opacity').dispatchEvent(new Event('input'))")
    assert tab.run("getComputedStyle(byId('fill')).opacity") == "0.2"
    tables = tab.run(
        "[...document.querySelectorAll('table')].map(table => [table.caption.innerText, table.rows.length])"
    )
    assert tables == [["Figures", 3], ["What is shown, at this score threshold", 3]]  # a head, cat and the evil one


def test_keys(opened: Callable[..., Page]) -> None:
    tab = opened(report(5, truth=True))
    tab.click("[data-image='0']")
    tab.until("shown.layer")
    assert tab.run("document.activeElement.id") == "name"
    tab.key("ArrowDown")
    tab.key("ArrowDown")
    assert tab.run("shown.lit") == 1
    assert tab.run("byId('said').innerText").startswith(EVIL)
    tab.key("e")
    assert tab.run("state.view + byId('list').firstChild.innerText.split('\\n')[0]") == "errorright"
    tab.key("t")
    tab.key("ArrowRight")
    tab.key("ArrowRight")
    tab.until("state.open === 2 && byId('name').innerText.includes('0002')")
    assert tab.run("location.hash") == "#3"
    tab.key("Escape")
    assert tab.run("state.open") == -1
    assert tab.run("document.activeElement.dataset.image") == "2"
    tab.key("/")
    assert tab.run("document.activeElement.id") == "search"


def test_names_stay_text_and_what_is_gone_is_listed(opened: Callable[..., Page]) -> None:
    tab = opened(report(3, truth=True))
    tab.until("near.size === 3")
    assert tab.run("document.title") == EVIL
    assert tab.run("byId('title').innerText") == EVIL
    assert tab.run("document.querySelectorAll('img[src=x], b').length") == 0
    gone = tab.run("document.querySelector('[data-image=\"1\"] .problem').innerText")
    assert gone == "</script><b>0001.jpg: its photo is gone"
    assert EVIL in tab.run("byId('tables').innerText")
    tab.run("show(1)")
    tab.until("!byId('problem').hidden")
    tab.run("document.body.insertAdjacentHTML('beforeend', '<i onclick=\"document.title=1\" id=injected>')")
    tab.run("byId('injected').click()")
    assert tab.run("document.title") == EVIL
    assert any("Content Security Policy" in text or "inline event" in text for text in tab.complaints)
    tab.complaints.clear()


@pytest.mark.parametrize("dark", [False, True])
def test_a_narrow_screen_needs_no_sideways_scrolling(dark: bool, opened: Callable[..., Page]) -> None:
    tab = opened(report(3, truth=True))
    tab.size(360, 740, dark=dark, touch=True)
    assert tab.run("document.documentElement.scrollWidth") == 360
    tab.click("#more")
    tab.run("refilter({measure: 'metric'})")
    assert tab.run("document.documentElement.scrollWidth") == 360
    tab.run("show(2)")
    tab.until("shown.layer")
    assert tab.run("document.documentElement.scrollWidth") == 360


def test_two_thousand_images_load_as_they_are_seen(opened: Callable[..., Page], tmp_path: Path) -> None:
    tab = opened(report(2000))
    tab.until("near.size && cards.get(0).querySelector('canvas').width")
    assert tab.run("byId('count').innerText") == "2,000 images"
    folder = (tmp_path / "report_files").resolve().as_uri()
    loaded = [url for url in tab.requests if url.startswith(folder)]
    assert 0 < len(loaded) < 200
    tab.run("cards.get(1999).scrollIntoView({behavior: 'instant'})")
    tab.until("cards.get(1999).querySelector('canvas').width && cards.get(1999).querySelector('img').naturalWidth")
    assert tab.run("near.size") < 100
    assert not tab.run("cards.get(0).querySelector('canvas').width")
    assert len(tab.requests) < 600
    tab.run("show(1999)")
    tab.until("shown.layer && byId('photo').naturalWidth")
    assert json.loads(tab.run("JSON.stringify(shown.items.map(item => item.id))")) == [1, 2, 3, 4, 5, 6]
