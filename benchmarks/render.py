"""Drawing, segcli beside supervision's annotators and detectron2-style drawing: 20 segments on a 12-megapixel photo.

    python benchmarks/render.py                              # time in turn in one process, memory in separate ones
    python benchmarks/render.py --photo photo.jpg --out DIR  # the pictures, too, side by side

All three draw tints, outlines, names and scores from masks that are there already: supervision and detectron2 from a
dense stack [N, H, W], segcli from an id map or from run lengths. supervision draws with OpenCV (MaskAnnotator,
PolygonAnnotator, LabelAnnotator); detectron2's Visualizer draws polygons and text with matplotlib, as `detectron2` does
here in the same steps, without detectron2.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from segcli.codecs.image import read_image, resize
from segcli.codecs.rle import encode
from segcli.render import overlay
from segcli.segments import Segments
from segcli.types import Label, LabelSet

SIZE = (3000, 4000)
COUNT = 20
NAMES = ("person", "car", "dog", "bottle", "chair", "sky")
LABELS = LabelSet(tuple(Label(i + 1, name, name != "sky") for i, name in enumerate(NAMES)))
WAYS = ("segcli, id map", "segcli, run lengths", "supervision", "detectron2's way")


def scene(photo: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """A photo [H, W, 3] and an id map [H, W] of segments with wobbly borders that cover about half of it."""
    rng = np.random.default_rng(0)
    height, width = SIZE
    image = resize(read_image(photo), SIZE) if photo else noise(rng, (12, 16, 3)).astype(np.uint8)
    y = np.arange(height, dtype=np.float32)[:, None] + noise(rng, (40, 50)) - 128
    x = np.arange(width, dtype=np.float32)[None] + noise(rng, (40, 50)) - 128
    nearest, ids = np.full(SIZE, np.inf, dtype=np.float32), np.zeros(SIZE, dtype=np.uint16)
    for number in range(COUNT):
        centre, radius = rng.random(2) * SIZE, rng.uniform(0.06, 0.2) * height
        away = np.hypot(y - centre[0], x - centre[1]) / np.float32(radius)
        closer = (away < 1) & (away < nearest)
        ids[closer], nearest[closer] = number + 1, away[closer]
    return image, ids


def noise(rng: np.random.Generator, grid: tuple[int, ...]) -> np.ndarray:
    """Smooth values 0..255 of the photo's size."""
    coarse = rng.uniform(0, 255, grid).astype(np.float32)
    return cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 255)


def runner(way: str, image: np.ndarray, ids: np.ndarray) -> Callable[[], np.ndarray]:
    """The drawing alone, its input made before."""
    classes = np.arange(COUNT) % len(NAMES)
    scores = np.linspace(0.99, 0.6, COUNT).astype(np.float32)
    if way == "segcli, id map":
        segments = Segments("panoptic", SIZE, LABELS, classes, scores, ids)
        return lambda: overlay(image, segments)
    if way == "segcli, run lengths":
        rles = tuple(encode(ids == number + 1) for number in range(COUNT))
        instances = Segments("instance", SIZE, LABELS, classes, scores, rles=rles)
        return lambda: overlay(image, instances)
    masks = ids[None] == np.arange(1, COUNT + 1)[:, None, None]
    texts = [f"{NAMES[c]} {score:.2f}" for c, score in zip(classes, scores, strict=True)]
    if way == "supervision":
        return lambda: supervision(image, masks, classes, texts)
    return lambda: detectron2(image, masks, classes, texts)


def supervision(image: np.ndarray, masks: np.ndarray, classes: np.ndarray, texts: list[str]) -> np.ndarray:
    import supervision as sv

    found = sv.Detections(xyxy=sv.mask_to_xyxy(masks), mask=masks, class_id=classes)
    scene = sv.MaskAnnotator(opacity=0.5).annotate(image.copy(), found)
    scene = sv.PolygonAnnotator(thickness=sv.calculate_optimal_line_thickness(SIZE[::-1])).annotate(scene, found)
    scale = sv.calculate_optimal_text_scale(SIZE[::-1])
    return sv.LabelAnnotator(text_scale=scale, text_thickness=4).annotate(scene, found, labels=texts)


def detectron2(image: np.ndarray, masks: np.ndarray, classes: np.ndarray, texts: list[str]) -> np.ndarray:
    """A figure of the photo's size; each mask's contours as polygons, filled and edged; its name at its median."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Polygon

    figure = Figure(frameon=False, dpi=100)
    figure.set_size_inches((SIZE[1] + 0.01) / 100, (SIZE[0] + 0.01) / 100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.imshow(image, extent=(0, SIZE[1], SIZE[0], 0), interpolation="nearest")
    size = np.sqrt(SIZE[0] * SIZE[1]) // 90
    for mask, label, text in zip(masks, classes, texts, strict=True):
        colour = colormaps["tab10"](label)
        contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        for contour in contours:
            if len(contour) > 2:
                edge = (*colour[:3], 1)
                axes.add_patch(
                    Polygon(contour[:, 0] + 0.5, facecolor=(*colour[:3], 0.5), edgecolor=edge, linewidth=size / 5)
                )
        y, x = (float(np.median(places)) for places in mask.nonzero())
        box = {"facecolor": "black", "alpha": 0.8, "pad": 0.7, "edgecolor": "none"}
        axes.text(x, y, text, size=size, color=colour, bbox=box, ha="center", va="top", family="sans-serif")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def once(run: Callable[[], np.ndarray]) -> float:
    """Processor seconds, of all threads: what else the machine does counts less than in wall time."""
    start = time.process_time()
    run()
    return time.process_time() - start


def memory(run: Callable[[], np.ndarray]) -> float:
    """MiB of resident memory at the peak of a call above what is held before it, the answer included."""
    import psutil

    gc.collect()
    process, done = psutil.Process(), threading.Event()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    run()
    done.set()
    watcher.join()
    return (peak - before) / 2**20


def warm(way: str) -> None:
    """Import what a way draws with, and let it load its fonts, on a photo that does not count."""
    global SIZE, COUNT
    size, count = SIZE, COUNT
    SIZE, COUNT = (300, 400), 2
    runner(way, np.zeros((*SIZE, 3), dtype=np.uint8), np.tile(np.array([1, 2], dtype=np.uint16), (300, 200)))()
    SIZE, COUNT = size, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, help="a photo to draw on; a colourful blur if not given")
    parser.add_argument("--out", type=Path, help="a folder for the pictures")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", choices=WAYS, help=argparse.SUPPRESS)  # one measurement, in a process of its own
    options = parser.parse_args()
    cv2.setNumThreads(options.threads)
    image, ids = scene(options.photo)
    if options.memory:
        warm(options.memory)
        print(memory(runner(options.memory, image, ids)))
        return
    runs = {}
    for way in WAYS:
        warm(way)
        runs[way] = runner(way, image, ids)
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(options.runs):
        for way, run in runs.items():
            times[way].append(once(run))
    print(
        f"{COUNT} segments, {SIZE[1]}×{SIZE[0]} photo, {options.threads} thread(s), median of {options.runs}, in turn"
    )
    best = statistics.median(times[WAYS[0]])
    for way in WAYS:
        command = [sys.executable, __file__, "--memory", way, "--threads", str(options.threads)]
        mib = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        seconds = statistics.median(times[way])
        print(f"{way:22}{seconds:7.2f} s of processor time{seconds / best:7.1f}×{mib:8.0f} MiB")
    if options.out:
        from PIL import Image

        options.out.mkdir(parents=True, exist_ok=True)
        for way, run in runs.items():
            Image.fromarray(run()).save(options.out / f"{''.join(c for c in way if c.isalnum())}.jpg", quality=90)


if __name__ == "__main__":
    main()
