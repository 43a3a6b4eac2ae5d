"""Post-processing, segcli beside transformers: 20 of 100 queries kept, 800×1088 network input, 3000×4000 photo.

    python benchmarks/postprocess.py          # three tasks: time in turn in one process, memory in separate ones
    python benchmarks/postprocess.py --huge   # segcli alone: an 8000×6000 photo, 100 queries kept, 150 classes

The predictions are synthetic: regions with wobbly borders, logits that rise with the distance from them, and queries
that find nothing, as a trained model's are. transformers is given the multiplied masks, as its model returns them;
segcli is given the two factors, so its time includes the product. The answers are not the same: transformers works at
384×384 and enlarges that, segcli as the original implementation does, at the photo's size.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from segcli import postprocess
from segcli.layers.masks import ProductMasks
from segcli.types import Frame, Label, LabelSet, MergeRule, QueryPredictions

PHOTO, HUGE = (3000, 4000), (6000, 8000)
RESIZED, PADDED = (800, 1067), (800, 1088)
TASKS = {"panoptic": 133, "instance": 133, "semantic": 150, "semantic, at the photo's size": 150}


def scene(classes: int, kept: int, queries: int = 100, channels: int = 256) -> dict[str, Tensor]:
    """Class logits [1, Q, K + 1] with `kept` clear objects, mask logits [1, Q, h, w] at stride 4, and their factors."""
    generator = torch.Generator().manual_seed(0)
    h, w = PADDED[0] // 4, PADDED[1] // 4

    def random(*size: int) -> Tensor:
        return torch.rand(*size, generator=generator)

    def wobble(cell: int) -> Tensor:
        coarse = torch.randn(1, 1, h // cell, w // cell, generator=generator)
        return F.interpolate(coarse, size=(h, w), mode="bicubic")[0, 0]

    y = torch.arange(h).view(-1, 1) + 6 * wobble(20) + 2 * wobble(6)
    x = torch.arange(w).view(1, -1) + 6 * wobble(20) + 2 * wobble(6)
    away = torch.hypot(y - random(kept, 1, 1) * h, x - random(kept, 1, 1) * w) - random(kept, 1, 1) ** 2 * h / 4
    nearest = away.topk(2, dim=0, largest=False).values
    lead = torch.where(away == nearest[0], nearest[1], nearest[0]) - away  # to the nearest other region
    objects = (0.6 * lead).clamp(-12, 9) + torch.stack([0.3 * wobble(4) for _ in range(kept)])
    copies = torch.randint(kept, (queries - kept,), generator=generator)
    ghosts = 0.8 * F.avg_pool2d(objects, 9, 1, 4)[copies] - 4 * random(queries - kept, 1, 1)
    masks = torch.cat([objects, ghosts])

    label = torch.randint(classes, (queries,), generator=generator)
    label[kept:] = label[copies]
    logits = 1.5 * torch.randn(queries, classes + 1, generator=generator)
    logits[torch.arange(kept), label[:kept]] += 12
    logits[torch.arange(kept, queries), label[kept:]] += 6
    logits[kept:, classes] += 11

    basis = torch.linalg.qr(torch.randn(channels, channels, generator=generator)).Q[:, :queries]  # orthonormal columns
    features = (basis @ masks.flatten(1)).view(1, channels, h, w)
    return {"classes": logits[None], "masks": masks[None], "embeddings": basis.t()[None], "features": features}


def labels(count: int) -> LabelSet:
    return LabelSet(tuple(Label(i, str(i), i < count * 2 // 3) for i in range(count)))


def ours(task: str, data: dict[str, Tensor], size: tuple[int, int], score: float) -> Callable[[], Any]:
    pred = QueryPredictions(data["classes"], ProductMasks(data["embeddings"], data["features"]))
    table, frame, rule = labels(TASKS[task]), Frame(size, RESIZED, PADDED), MergeRule(score=score)
    if task == "panoptic":
        return lambda: postprocess.panoptic(pred, 0, frame, table, rule)
    if task == "instance":
        return lambda: postprocess.instance(pred, 0, frame, table, rule, min_score=0.5 if score else 0.0)
    return lambda: postprocess.semantic(pred, 0, frame, table, rule, combine_padded=task == "semantic")


def theirs(task: str, data: dict[str, Tensor]) -> Callable[[], Any]:
    import transformers

    transformers.logging.set_verbosity_error()
    processor = transformers.Mask2FormerImageProcessor()
    outputs = SimpleNamespace(class_queries_logits=data["classes"], masks_queries_logits=data["masks"])
    if task == "panoptic":
        stuff = {i for i, label in enumerate(labels(TASKS[task])) if not label.isthing}
        return lambda: processor.post_process_panoptic_segmentation(
            outputs, threshold=0.8, target_sizes=[PHOTO], label_ids_to_fuse=stuff
        )
    if task == "instance":
        return lambda: processor.post_process_instance_segmentation(outputs, threshold=0.5, target_sizes=[PHOTO])
    return lambda: processor.post_process_semantic_segmentation(outputs, target_sizes=[PHOTO])


def once(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def high_water() -> int:
    """The most memory this process ever held, in bytes; 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory(run: Callable[[], Any]) -> float:
    """MiB of resident memory at the peak of a call above what is held before it."""
    import psutil

    gc.collect()
    process, peak, done = psutil.Process(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, process.memory_info().rss)

    before, before_high = process.memory_info().rss, high_water()
    watcher = threading.Thread(target=watch)
    watcher.start()
    run()
    done.set()
    watcher.join()
    if high_water() > before_high:
        peak = max(peak, high_water())
    return (peak - before) / 2**20


def measured(who: str, task: str, folder: Path, options: argparse.Namespace) -> float:
    """`memory` in a process of its own that has loaded its inputs and nothing else."""
    command = [sys.executable, __file__, "--memory", f"{who}:{task}:{folder}", "--threads", str(options.threads)]
    if options.huge:
        command.append("--huge")
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def runner(who: str, task: str, data: dict[str, Tensor], huge: bool) -> Callable[[], Any]:
    if who == "transformers":
        return theirs(task, data)
    return ours(task, data, HUGE if huge else PHOTO, score=0.0 if huge else 0.8)


def compare(folder: Path, options: argparse.Namespace) -> None:
    print(f"{PHOTO[0]}×{PHOTO[1]} photo, {options.threads} threads, median of {options.runs}, interleaved")
    print(f"{'':42}{'transformers':>21}{'segcli':>22}{'faster':>9}{'memory':>8}")
    for task in TASKS:
        data = torch.load(folder / f"{task}.pt")
        runs = {who: runner(who, task, data, huge=False) for who in ("transformers", "segcli")}
        runs["segcli"]()
        times: dict[str, list[float]] = {who: [] for who in runs}
        for _ in range(options.runs):
            for who, run in runs.items():
                times[who].append(once(run))
        (a, a_mib), (b, b_mib) = ((statistics.median(times[who]), measured(who, task, folder, options)) for who in runs)
        print(
            f"{f'{task}, {TASKS[task]} classes':42}{a:7.2f} s {a_mib:7.0f} MiB{b:8.2f} s {b_mib:7.0f} MiB"
            f"{a / b:8.1f}×{b_mib / a_mib:8.3f}"
        )


def huge(folder: Path, options: argparse.Namespace) -> None:
    print(f"{HUGE[1]}×{HUGE[0]} photo, 100 queries kept, {options.threads} threads, median of {options.runs}")
    for task in TASKS:
        run = runner("segcli", task, torch.load(folder / f"{task}.pt"), huge=True)
        seconds = statistics.median(once(run) for _ in range(options.runs))
        needed = measured("segcli", task, folder, options)
        print(f"{f'{task}, {TASKS[task]} classes':42}{seconds:7.2f} s {needed:7.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--huge", action="store_true", help="segcli alone on a photo of 48 megapixels")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", help=argparse.SUPPRESS)  # one measurement, in a process of its own
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with torch.inference_mode(), tempfile.TemporaryDirectory() as temporary:
        if options.huge:
            TASKS.update(dict.fromkeys(TASKS, 150))
        if options.memory:
            who, task, folder = options.memory.split(":", 2)
            print(json.dumps(memory(runner(who, task, torch.load(Path(folder, f"{task}.pt")), options.huge))))
            return
        for task, classes in TASKS.items():
            torch.save(scene(classes, kept=100 if options.huge else 20), Path(temporary, f"{task}.pt"))
        (huge if options.huge else compare)(Path(temporary), options)


if __name__ == "__main__":
    main()
